"""What commands write never harms what they read, and what failed is written down once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facefind.cli import main
from facefind.files import Lock

FAST = ["--model", "scrfd-500m-kps", "--protocol", "160", "--threads", "1"]


def picture(path: Path, shade: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((80, 96, 3), shade, np.uint8)).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `p` in the working folder, with two pictures and one that is none."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a.jpg", "deep/b.jpg")):
        picture(tmp_path / "p" / name, 50 * number)
    (tmp_path / "p" / "torn.jpg").write_bytes(b"no picture")
    return tmp_path / "p"


def state(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(path: str) -> list[str]:
    return [json.loads(line)["image"] for line in Path(path).read_text().splitlines()]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["detect", "p", "--draw", "p"], "--draw p is or holds p, which is read"),
        (["detect", "p/a.jpg", "--draw", "p", "--overwrite"], "--draw p is or holds p/a.jpg"),
        (["detect", "p", "--draw", "p/deep", "--overwrite"], "no drawn copies of facefind"),
        (["detect", "p/a.jpg", "--out", "p/a.jpg"], "--out p/a.jpg is read as p/a.jpg"),
        (["detect", "p", "--out", "p/a.jpg", "--resume"], "lies in p"),
        (["detect", "p", "--failures", "p/new.png"], "--failures p/new.png lies in p"),
        (["detect", "p", "--out", "x", "--draw", "x"], "are both x"),
        (["align", "p", "--out", "."], "--out . is or holds p"),
        (["align", "p", "--out", "p/deep", "--resume"], "no crops of facefind"),
        (["detect", "p", "--overwrite", "--resume", "--out", "x"], "choose one"),
        (["detect", "p", "--retry-failed"], "name --failures too"),
    ],
)
def test_outputs_where_inputs_are_read_are_refused_before_the_first_byte(
    args: list[str], said: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = state(photos.parent)
    assert main([*args, *FAST]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.splitlines()[-1].startswith(f"facefind {args[0]}: ")
    assert state(photos.parent) == before


@pytest.mark.parametrize(
    "args",
    [
        ["data", "check", "set", "--out", "set/labels.json"],
        ["data", "stats", "set", "--plot", "set/images/a.jpg"],
        ["data", "convert", "set", "new", "--to", "coco", "--out", "set/labels.json"],
        ["data", "convert", "set", "set/new", "--to", "yolo"],
        ["evaluate", "wider", "--data", "set", "--model", "default", "--out", "set/labels.json"],
        ["evaluate", "compare", "r.json", "s.json", "--out", "r.json"],
        ["samples", "scrfd-2.5g", "--data", "set", "--out", "set/labels.json"],
        ["mesh", "template", "t.obj", "--decoder", "t.obj"],
        ["convert", "published.pth", "--out", "published.pth"],
        ["models", "--out", "photo.png"],
    ],
)
def test_other_commands_write_over_nothing_that_is_read(
    args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "set" / "images" / "a.jpg")
    picture(tmp_path / "photo.png")
    labels = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}
    (tmp_path / "set" / "labels.json").write_text(json.dumps(labels))
    for name in ("r.json", "s.json", "t.obj", "published.pth"):
        (tmp_path / name).write_text("{}")
    before = state(tmp_path)
    assert main(args) == 2
    assert state(tmp_path) == before


def test_pictures_that_would_share_a_file_are_refused_by_name(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = photos / "a.jpg", picture(photos.parent / "q" / "a.jpg")
    args = ["detect", str(one), str(other), "--model", "retinaface-mobile", "--mesh"]
    for option in ("--draw", "--mesh-out"):
        assert main([*args, option, "new"]) == 2
        said = capsys.readouterr().err
        assert str(one) in said
        assert str(other) in said
        assert "would both be a.jpg" in said


def test_lines_of_other_settings_or_images_are_neither_mixed_nor_lost(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "torn.jpg").unlink()
    assert main(["detect", "p", "--out", "o.jsonl", *FAST]) == 0
    before = Path("o.jsonl").read_bytes()
    picture(photos.parent / "q" / "a.jpg")
    for args, said in (
        (["detect", "p"], "is there already"),
        (["detect", "p", "--resume", "--min-score", "0.02"], "made with min_score"),
        (["detect", "p", "--resume", "--protocol", "96"], "made with test_protocol"),
        (["detect", "p", "--resume", "--model", "retinaface-mobile"], "made with weights_sha256"),
        (["detect", "q", "--resume"], "made with image_folders"),
    ):
        assert main([args[0], *FAST, *args[1:], "--out", "o.jsonl"]) == 2
        assert said in capsys.readouterr().err
        assert Path("o.jsonl").read_bytes() == before
    lock = Lock("o.jsonl.lock")
    assert lock.acquire()
    assert main(["detect", "p", "--out", "o.jsonl", "--resume", *FAST]) == 2
    assert f"is being written by process {os.getpid()}" in capsys.readouterr().err
    lock.release()
    assert main(["detect", "p", "--out", "o.jsonl", "--resume", *FAST]) == 0
    assert Path("o.jsonl").read_bytes() == before
    assert main(["detect", "q", "--out", "o.jsonl", "--overwrite", *FAST]) == 0
    assert names("o.jsonl") == ["a.jpg"]


@pytest.mark.parametrize("command", ["detect", "align"])
def test_what_failed_is_written_down_once_and_tried_again_when_asked(
    command: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = {"detect": "o.jsonl", "align": "o"}[command]
    done = {"detect": "o.jsonl", "align": "o/manifest.jsonl"}[command]
    args = [command, "p", "--out", out, "--failures", "f.jsonl", *FAST]
    assert main(args) == 1
    assert names("f.jsonl") == ["torn.jpg"]
    failure = json.loads(Path("f.jsonl").read_text())
    assert "no picture" in failure["error"]
    assert names(done) == ["a.jpg", "deep/b.jpg"]
    capsys.readouterr()
    assert main([*args, "--resume"]) == 1
    said = capsys.readouterr().err
    assert "torn.jpg: " not in said
    assert "2 done before, 1 failed before" in said
    picture(photos / "torn.jpg")
    assert main([*args, "--resume"]) == 1
    assert main([*args, "--resume", "--retry-failed"]) == 0
    assert names("f.jsonl") == []
    assert names(done) == ["a.jpg", "deep/b.jpg", "torn.jpg"]


def test_an_image_that_cannot_be_saved_costs_only_itself(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "x" * 250
    picture(photos / f"{long}.gif")  # drawn as .gif.png, for which there is no room
    args = ["detect", "p", "--out", "o.jsonl", "--draw", "d", "--failures", "f.jsonl", *FAST]
    assert main(args) == 1
    said = capsys.readouterr().err
    assert f"facefind detect: {long}.gif: " in said
    assert "Traceback" not in said
    assert sorted(names("o.jsonl")) == ["a.jpg", "deep/b.jpg"]
    assert sorted(names("f.jsonl")) == ["torn.jpg", f"{long}.gif"]
    assert {path.name for path in Path("d").rglob("*.jpg")} == {"a.jpg", "b.jpg"}


@pytest.mark.parametrize(
    "args",
    [
        ["detect", "p", "--draw", "d"],
        ["align", "p", "--out", "d"],
        ["data", "convert", "set", "d", "--to", "yolo", "--pictures", "copy"],
    ],
)
def test_names_that_differ_in_case_are_refused_where_the_disk_takes_them_for_one(
    args: list[str],
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    picture(photos / "A.jpg")
    Path("set").mkdir()
    Path("set/images").symlink_to("../p")
    Path("set/x_bbx_gt.txt").write_text("a.jpg\n0\nA.jpg\n0\n")
    monkeypatch.setattr("facefind.outputs.folds_case", lambda folder: True)
    assert main([*args, *(FAST if args[0] != "data" else [])]) == 2
    said = capsys.readouterr().err
    assert "A.jpg" in said
    assert "takes upper for lower case" in said
    assert not Path("d").exists()


@pytest.mark.parametrize("link", ["../p/deep", "deep", "nowhere/at/all"])
def test_links_in_an_output_folder_lead_to_no_image(
    link: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One to the originals, one round and round, one to nothing."""
    before = (photos / "deep" / "b.jpg").read_bytes()
    assert main(["detect", "p", "--draw", "d", *FAST]) == 1
    for path in sorted(Path("d/deep").iterdir()):
        path.unlink()
    Path("d/deep").rmdir()
    Path("d/deep").symlink_to(link)
    capsys.readouterr()
    assert main(["detect", "p", "--draw", "d", "--overwrite", *FAST]) == 1
    said = capsys.readouterr().err
    assert "facefind detect: deep/b.jpg: " in said
    assert "Traceback" not in said
    assert "1 image, " in said
    assert (photos / "deep" / "b.jpg").read_bytes() == before
    assert not Path("nowhere").exists()


def test_a_folder_that_cannot_be_listed_is_named_and_the_others_searched(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scandir = os.scandir

    def refusing(path: Any = ".") -> Any:
        if os.fspath(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    (photos / "torn.jpg").unlink()
    monkeypatch.setattr(os, "scandir", refusing)
    args = ["detect", "p", "--out", "o.jsonl", "--failures", "f.jsonl", *FAST]
    for more in ([], ["--resume"]):
        assert main([*args, *more]) == 1
        said = capsys.readouterr().err
        assert "facefind detect: the folder 'p/deep' cannot be listed: " in said
        assert "1 failed" in said
        assert names("o.jsonl") == ["a.jpg"]
        assert names("f.jsonl") == ["p/deep/"]


def test_an_output_folder_inside_is_said_to_be_left_out(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "torn.jpg").unlink()
    for more in ([], ["--overwrite"]):
        args = ["detect", "p", "--draw", "p/drawn", "--out", "p/o.jsonl", *FAST, *more]
        assert main(args) == 0
        assert "p/drawn is written to: it is not searched" in capsys.readouterr().err
        assert names("p/o.jsonl") == ["a.jpg", "deep/b.jpg"]
