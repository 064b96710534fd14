"""`facefind data`: sets converted, checked and counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facefind.cli import main


@pytest.fixture
def labeled(tmp_path: Path, portrait: np.ndarray) -> Path:
    """WIDER FACE's layout: a good face with points, a flat box and one outside."""
    folder = tmp_path / "set"
    event = folder / "images" / "0--Parade"
    event.mkdir(parents=True)
    Image.fromarray(portrait).save(event / "a.png", compress_level=1)
    (folder / "own_bbx_gt.txt").write_text(
        "0--Parade/a.png\n3\n177 60 95 130 0 0 0 0 0 0\n"
        "10 10 0 5 0 0 0 0 0 0\n480 480 99 99 0 0 0 1 0 0\n"
    )
    (folder / "five_points.txt").write_text(
        "# 0--Parade/a.png\n177 60 95 130 245 100 200 100 222 125 205 150 240 150 1 0\n"
    )
    return folder


def test_convert_there_and_back(
    labeled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "coco"
    out = tmp_path / "told.json"
    args = ["data", "convert", str(labeled), str(target), "--to", "coco", "--pictures", "copy"]
    assert main([*args, "--out", str(out)]) == 0
    told = json.loads(out.read_text())
    assert told["faces"] == 2
    assert told["digest_written"] == told["digest"]
    assert (target / "images" / "0--Parade" / "a.png").is_file()
    capsys.readouterr()
    assert main(["data", "convert", str(target), str(tmp_path / "yolo"), "--to", "yolo",
                 "--pictures", "link"]) == 0  # fmt: skip
    assert "not kept by yolo: 1 ignored boxes" in capsys.readouterr().out


def test_convert_refuses_its_own_folder_and_absent_pictures(
    labeled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "convert", str(labeled), str(labeled), "--to", "coco"]) == 2
    assert "which is read: give a folder for results alone" in capsys.readouterr().err
    (labeled / "images" / "0--Parade" / "a.png").unlink()
    assert main(["data", "convert", str(labeled), str(tmp_path / "x"), "--to", "yolo"]) == 2
    assert "1 of 1 images are not there" in capsys.readouterr().err
    assert main(["data", "convert", str(labeled), str(tmp_path / "x"), "--to", "wider"]) == 0


def test_a_data_yaml_is_converted_and_its_splits_checked_against_each_other(
    tmp_path: Path, portrait: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        Image.fromarray(portrait).save(tmp_path / "images" / split / "a.png", compress_level=1)
        (tmp_path / "labels" / split / "a.txt").write_text("0 0.44 0.24 0.19 0.25\n")
    file = tmp_path / "data.yaml"
    file.write_text("train: images/train\nval: images/val\nnames: [face]\n")
    target = tmp_path / "coco"
    args = ["data", "convert", str(file), str(target), "--to", "coco", "--pictures", "copy"]
    assert main([*args, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["images"], told["digest_written"] == told["digest"]) == (2, True)
    assert (target / "images" / "val" / "a.png").is_file()
    assert main(["data", "check", f"{file},split=train", f"{file},split=val"]) == 1
    assert "same picture twice: 1" in capsys.readouterr().out
    assert main(["data", "check", f"{file},split=val"]) == 0


def test_check_finds_what_is_wrong(
    labeled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "set.svg"
    assert main(["data", "check", str(labeled), "--json", "--plot", str(plot)]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["counts"] == {"area": 1, "outside": 1, "order": 1}
    assert "<svg" in plot.read_text()
    assert main(["data", "check", str(labeled), str(labeled)]) == 1
    text = capsys.readouterr().out
    assert "same picture twice: 1" in text
    assert "0--Parade/a.png, face 1: box has no area: 10 10 10 15" in text


def test_a_sound_set_has_exit_code_0(labeled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (labeled / "five_points.txt").unlink()
    (labeled / "own_bbx_gt.txt").write_text("0--Parade/a.png\n1\n177 60 95 130 0 0 0 0 0 0\n")
    assert main(["data", "check", str(labeled)]) == 0
    assert "nothing is wrong" in capsys.readouterr().out


def test_wrong_lines_are_named(labeled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (labeled / "own_bbx_gt.txt").write_text("0--Parade/a.png\n1\n177 60 x 130 0 0 0 0 0 0\n")
    for action in ("check", "stats"):  # a finding of the one, what ends the other
        assert main(["data", action, str(labeled)]) == 2
        told = "".join(capsys.readouterr())
        assert "own_bbx_gt.txt, line 3: expected 10 whole numbers" in told
        assert "got '177 60 x 130 0 0 0 0 0 0'" in told


def test_statistics(labeled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "stats", str(labeled), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["images"], told["faces"], told["ignored"], told["with_landmarks"]) == (1, 1, 1, 1)
    assert told["side"][3] == pytest.approx(np.sqrt(95 * 130), abs=1e-3)
    assert told["image_width"] == [512] * 7
    assert main(["data", "stats", str(labeled)]) == 0
    assert "1 images (0 without faces)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["twist"], "no action 'twist'"),
        (["check", "gone"], "gone: no such file"),
        (["stats", "{set},layout=odd"], "got 'odd'"),
        (
            ["check", "{set}", "{set},image=x"],
            "have no option 'image', but layout, category, sides",
        ),
    ],
)
def test_mistakes(
    args: list[str], message: str, labeled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", *(arg.format(set=labeled) for arg in args)]) == 2
    assert message in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data"]) == 0
    assert "convert" in capsys.readouterr().out
