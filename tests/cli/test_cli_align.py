"""`facefind align`: crops on the template, a manifest that says how, and no work done twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facefind import FaceDetector, landmarks, weights
from facefind.cli import main


@pytest.fixture(scope="session")
def pointed() -> str:
    """A model that finds points; detectors of it are fast to open."""
    return next(card.name for card in weights.available() if card.landmarks)


@pytest.fixture
def pair(tmp_path: Path, portrait: np.ndarray) -> Path:
    """A folder with one picture of two faces, the right one larger, and one without any."""
    folder = tmp_path / "pair"
    (folder / "deep").mkdir(parents=True)
    small = np.asarray(Image.fromarray(portrait).resize((256, 256)))
    both = np.full((512, 768, 3), 128, np.uint8)
    both[:256, :256] = small
    both[:, 256:] = portrait
    Image.fromarray(both).save(folder / "deep" / "two.png")
    Image.fromarray(np.full((120, 90, 3), 90, np.uint8)).save(folder / "blank.png")
    return folder


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def manifest(folder: Path) -> dict[str, list[dict[str, Any]]]:
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert len({record["image"] for record in records}) == len(records)
    return {record["image"]: record["crops"] for record in records}


def test_crops_are_those_of_the_library(pair: Path, pointed: str, tmp_path: Path) -> None:
    out = tmp_path / "crops"
    assert main(["align", str(pair), "--out", str(out), "--model", pointed]) == 0
    printed = manifest(out)
    assert list(printed) == ["blank.png", "deep/two.png"]
    assert printed["blank.png"] == []
    picture = pixels(pair / "deep" / "two.png")
    faces = FaceDetector(pointed).detect(picture)
    expected = faces.align(picture)
    crops = printed["deep/two.png"]
    assert [crop["file"] for crop in crops] == ["deep/two_0.png", "deep/two_1.png"]
    for crop, face, image in zip(crops, faces, expected, strict=True):
        # A runtime may choose other kernels after other sizes: coordinates then differ by 1e-5.
        off = pixels(out / crop["file"]).astype(int) - image
        assert np.abs(off).max() <= 1
        assert crop["score"] == pytest.approx(face.score, abs=1e-6)
        np.testing.assert_allclose(crop["box"], face.box, atol=1e-3)


def test_the_transform_takes_the_points_near_the_template(
    pair: Path, pointed: str, tmp_path: Path
) -> None:
    out = tmp_path / "crops"
    args = ["align", str(pair), "--out", str(out), "--model", pointed, "--size", "224"]
    assert main([*args, "--format", "jpg"]) == 0
    crops = manifest(out)["deep/two.png"]
    assert crops
    for crop in crops:
        assert crop["file"].endswith(".jpg")
        assert pixels(out / crop["file"]).shape == (224, 224, 3)
        matrix = np.array(crop["transform"])
        points = np.array(crop["landmarks"]) @ matrix[:, :2].T + matrix[:, 2]
        assert np.abs(points - landmarks.template(224)).max() < 20  # a face's own shape
        corner = np.linalg.det(matrix[:, :2])
        assert corner > 0  # never mirrored


def test_largest_and_min_size_choose_by_the_box(pair: Path, pointed: str, tmp_path: Path) -> None:
    largest, big = tmp_path / "largest", tmp_path / "big"
    args = ["align", str(pair), "--model", pointed]
    assert main([*args, "--out", str(largest), "--faces", "largest"]) == 0
    (crop,) = manifest(largest)["deep/two.png"]
    assert crop["file"] == "deep/two.png"
    assert crop["box"][0] > 256  # the right half
    side = min(crop["box"][2] - crop["box"][0], crop["box"][3] - crop["box"][1])
    assert main([*args, "--out", str(big), "--min-size", f"{0.9 * side}"]) == 0
    (kept,) = manifest(big)["deep/two.png"]
    assert kept["box"] == crop["box"]
    assert kept["file"] == f"deep/two_{kept['face']}.png"


def test_a_picture_that_fails_costs_only_itself(
    broken: Path, pointed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "crops"
    args = ["--model", pointed, "--failures", str(tmp_path / "failures.jsonl")]
    assert main(["align", str(broken), "--out", str(out), "--json", *args]) == 1
    printed = capsys.readouterr()
    assert "facefind align: broken.jpg: " in printed.err
    assert "4 images, 3 crops, 1 failed in " in printed.err
    assert printed.out == (out / "manifest.jsonl").read_text(encoding="utf-8")
    assert main(["align", str(broken), "--out", str(tmp_path / "others"), *args]) == 2
    assert "resume it (--resume), or give another" in capsys.readouterr().err


def test_resume_makes_what_is_missing_and_nothing_else(
    pair: Path, pointed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = pair / "crops"  # inside: crops must not be searched for faces themselves
    args = ["align", str(pair), "--out", str(out), "--model", pointed]
    assert main(args) == 0
    lines = (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (out / "manifest.jsonl").write_text(lines[0] + lines[1][:30], encoding="utf-8")
    (out / "deep" / "two_1.png").write_bytes(b"torn")
    capsys.readouterr()
    assert main(args) == 2
    assert "resume them (--resume)" in capsys.readouterr().err
    assert main([*args, "--resume", "--size", "128"]) == 2
    assert "size 112, not 128" in capsys.readouterr().err
    assert main([*args, "--resume"]) == 0
    assert "1 images, 2 crops, 1 done before in " in capsys.readouterr().err
    again = (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    assert again[0] == lines[0]
    assert len(again) == 2
    for one, before in zip(*(json.loads(line[1])["crops"] for line in (again, lines)), strict=True):
        assert (one["file"], one["face"]) == (before["file"], before["face"])
        np.testing.assert_allclose(one["box"], before["box"], atol=1e-3)
        np.testing.assert_allclose(one["transform"], before["transform"], atol=1e-3)
    assert pixels(out / "deep" / "two_1.png").shape == (112, 112, 3)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "no images given"),
        (["{folder}", "--size", "0"], "size 0: expected 1 to 4096"),
        (["{folder}", "--min-score", "2"], "--min-score 2.0: expected 0 to 1"),
        (["{folder}", "--min-size", "-1"], "min_size -1.0: expected at least 0"),
        (["{folder}", "--batch-size", "0"], "--batch-size 0: expected at least 1"),
        (["{folder}", "--model", "nonesuch"], "there is no model 'nonesuch'"),
        (["{folder}", "{twin}"], "would both be twin"),
    ],
)
def test_mistakes_are_one_line_and_make_no_folder(
    args: list[str],
    message: str,
    pair: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for suffix in ("png", "bmp"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / f"twin.{suffix}")
    (pair / "twin.bmp").write_bytes((tmp_path / "twin.bmp").read_bytes())
    given = [arg.format(folder=pair, twin=tmp_path / "twin.png") for arg in args]
    assert main(["align", *given, "--out", str(tmp_path / "crops")]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "crops").exists()


def test_a_model_without_points_is_refused(
    pair: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(shared / "weights" / "scrfd_500m.onnx")
    assert main(["align", str(pair), "--out", str(tmp_path / "crops"), "--model", model]) == 2
    assert "finds no landmarks to align faces by" in capsys.readouterr().err
