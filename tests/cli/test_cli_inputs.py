"""Commands say what is wrong with pictures and labels, and have the options that they speak of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facefind.cli import main


@pytest.fixture
def cut(tmp_path: Path, portrait: np.ndarray) -> Path:
    """A JPEG of a face that lacks its last bytes."""
    Image.fromarray(portrait).save(tmp_path / "whole.jpg", quality=90)
    path = tmp_path / "cut.jpg"
    path.write_bytes((tmp_path / "whole.jpg").read_bytes()[:-2])
    return path


@pytest.mark.parametrize("command", ["detect", "align"])
def test_truncated_pictures_are_refused_or_filled(
    cut: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out")] if command == "align" else []
    args = [command, str(cut), "--json", "--test-protocol", "320"]
    assert main([*args, *out]) == 1
    assert "truncated='fill'" in capsys.readouterr().err
    out = ["--out", str(tmp_path / "filled")] if command == "align" else []
    assert main([*args, *out, "--truncated", "fill"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["crops" if command == "align" else "boxes"]) == 1


def test_the_pixels_of_a_picture_are_an_option(
    cut: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = str(cut.with_name("whole.jpg"))
    args = ["detect", whole, "--json", "--test-protocol", "320"]
    assert main([*args, "--max-pixels", "1000"]) == 1
    assert "more than max_pixels=1000" in capsys.readouterr().err
    assert main([*args, "--max-pixels", str(512 * 512)]) == 0
    assert main([*args, "--max-pixels", "0"]) == 2
    assert "--max-pixels 0: expected at least 1" in capsys.readouterr().err


def labeled(root: Path, picture: Path) -> Path:
    (root / "images").mkdir(parents=True)
    (root / "images" / "a.jpg").write_bytes(picture.read_bytes())
    (root / "own_bbx_gt.txt").write_text("a.jpg\n1\n177 60 95 130 0 0 0 0 0 0\n")
    return root


def test_evaluating_fills_and_limits_pictures_too(
    cut: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = labeled(tmp_path / "set", cut)
    args = ["evaluate", "wider", "--data", str(root), "--model", "default"]
    args += ["--test-protocol", "320", "--json"]
    assert main([*args, "--truncated", "fill"]) == 0
    assert main(args) != 0
    assert main([*args, "--truncated", "fill", "--max-pixels", "1000"]) != 0
    assert "max_pixels" in capsys.readouterr().err


def test_checks_find_damaged_and_large_pictures(
    cut: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = labeled(tmp_path / "damaged", cut)
    assert main(["data", "check", str(damaged), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["counts"] == {"file": 1}
    sound = labeled(tmp_path / "sound", cut.with_name("whole.jpg"))
    assert main(["data", "check", str(sound)]) == 0
    assert main(["data", "check", str(sound), "--max-pixels", "1000"]) == 1
    assert "more than max_pixels=1000" in capsys.readouterr().out


def test_checks_name_every_wrong_label_and_go_on_to_the_pictures(
    cut: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = labeled(tmp_path / "set", cut)
    rows = "".join(f"{number} 60 95\n" for number in range(12))
    (root / "own_bbx_gt.txt").write_text(f"a.jpg\n13\n{rows}177 60 95 130 0 0 0 0 0 0\n")
    assert main(["data", "check", str(root)]) == 2
    said = capsys.readouterr().out
    assert all(f"own_bbx_gt.txt, line {line}: expected" in said for line in range(3, 15))
    assert "1 images (0 without faces), 1 faces" in said
    assert "image missing, unreadable or damaged: 1" in said
    assert main(["data", "stats", str(root)]) == 2
    assert "line 3: expected" in capsys.readouterr().err


def test_an_empty_picture_does_not_end_the_check_of_a_yolo_set(
    cut: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("images", "labels"):
        (tmp_path / "y" / kind).mkdir(parents=True)
    (tmp_path / "y" / "images" / "a.jpg").touch()
    (tmp_path / "y" / "labels" / "a.txt").write_text("0 .5 .5 .2 .2\n")
    assert main(["data", "check", str(tmp_path / "y"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["counts"] == {"file": 1}


def test_converting_names_what_is_not_kept(
    cut: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = labeled(tmp_path / "set", cut)
    (root / "own_bbx_gt.txt").write_text(
        "a.jpg\n3\n177 60 95 130 2 0 0 0 0 0\n10 10 0 5 0 0 0 0 0 0\n9 9 30 30 0 0 0 1 0 0\n"
    )
    assert main(["data", "convert", str(root), str(tmp_path / "yolo"), "--to", "yolo"]) == 0
    said = capsys.readouterr().out
    for part in ("1 boxes without area", "1 ignored boxes", "attributes blur"):
        assert f"not kept by yolo: {part}" in said
