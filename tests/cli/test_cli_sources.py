"""Commands take pictures from wherever they lie: tar files, lists, stdin, buckets."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from facefind.cli import main

FAST = ("--test-protocol", "320", "--threads", "1")


@pytest.fixture
def shard(album: Path, tmp_path: Path) -> Path:
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        for name in ("a.jpg", "blank.gif", "deep/b.png"):
            archive.add(album / name, name)
    return tmp_path / "shard.tar"


def test_all_commands_take_tar_files(shard: Path, model: str, tmp_path: Path) -> None:
    out, crops, hidden = (tmp_path / name for name in ("f.jsonl", "crops", "hidden"))
    again = ["--model", model, "--resume", *FAST]
    for _ in range(2):
        assert main(["detect", str(shard), "--out", str(out), *again]) == 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [one["image"] for one in records] == [
        f"{shard}/{name}" for name in ("a.jpg", "blank.gif", "deep/b.png")
    ]
    pattern = str(tmp_path / "*.tar")
    for _ in range(2):
        assert main(["align", pattern, "--out", str(crops), *again]) == 0
        assert main(["redact", pattern, "--out", str(hidden), *again]) == 0
    assert sorted(path.name for path in (crops / "shard.tar").rglob("*.png")) == [
        "a_0.png",
        "b_0.png",
    ]
    assert sorted(path.name for path in (hidden / "shard.tar").rglob("*.*")) == [
        "a.jpg",
        "b.png",
        "blank.gif",
    ]


def test_two_pictures_of_a_tar_file_are_never_made_into_one(
    album: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        for name in ("x.gif", "x.png"):
            archive.add(album / "blank.gif", name)
    args = [
        "align",
        str(tmp_path / "*.tar"),
        "--model",
        model,
        "--out",
        str(tmp_path / "crops"),
        *FAST,
    ]
    assert main(args) == 2
    assert "would both be shard.tar/x" in capsys.readouterr().err


def test_lists_and_single_pictures_come_on_stdin(
    album: Path,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stdin(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))

    stdin((album / "a.jpg").read_bytes())
    assert main(["detect", "-", "--model", model, "--json", *FAST]) == 0
    (face,) = capsys.readouterr().out.splitlines()
    assert json.loads(face)["image"] == "-"
    assert len(json.loads(face)["scores"]) == 1
    monkeypatch.chdir(album)
    stdin(b"a.jpg\nnone.jpg\nblank.gif\n")
    assert main(["detect", "--files-from", "-", "--model", model, "--json", *FAST]) == 1
    printed = capsys.readouterr()
    assert [json.loads(line)["image"] for line in printed.out.splitlines()] == [
        "a.jpg",
        "blank.gif",
    ]
    assert "none.jpg: 'none.jpg' does not exist" in printed.err
    assert main(["detect", "-", "--files-from", "-"]) == 2
    assert "not both" in capsys.readouterr().err


def test_pictures_come_from_buckets(
    album: Path, model: str, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import fsspec

    fsspec.core.url_to_fs(bucket)[0].put(str(album), f"{bucket}/album", recursive=True)
    assert main(["detect", f"{bucket}/album", "--model", model, "--json", *FAST]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["image"], len(one["scores"])) for one in records] == [
        ("a.jpg", 1),
        ("blank.gif", 0),
        ("deep/b.png", 1),
    ]


def test_pictures_go_to_buckets(
    album: Path, model: str, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import fsspec

    system, root = fsspec.core.url_to_fs(bucket)
    system.put(str(album), f"{bucket}/album", recursive=True)
    photos, crops = f"{bucket}/album", f"{bucket}/album/crops"  # they are not searched themselves
    assert main(["align", photos, "--out", crops, "--model", model, *FAST]) == 0
    assert "3 images, 2 crops in" in capsys.readouterr().err
    draw = ["detect", str(album), "--draw", f"{bucket}/drawn", "--overwrite"]
    assert main([*draw, "--model", model, *FAST]) == 0
    below = {"album/crops/a_0.png", "album/crops/deep/b_0.png", "drawn/blank.gif.png"}
    found = {path[len(root) :].lstrip("/") for path in system.find(root)}
    assert below <= found
    assert main(["redact", photos, "--out", photos, *FAST]) == 2
    assert "is or holds" in capsys.readouterr().err
    for out in (f"{bucket}/album/deep", "https://host/x"):
        assert main(["redact", str(album), "--out", out, "--model", model, *FAST]) == 2
        said = capsys.readouterr().err
        assert "holds files that are no" in said or "s3://" in said
        assert said.count("\n") == 1


def test_redacted_pictures_go_into_tar_files(album: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "hidden"
    args = ["redact", str(album), "--model", model, "--out", str(out), "--per-tar", "2", *FAST]
    for more in ([], ["--resume"]):
        assert main([*args, *more]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "00000.tar",
        "00001.tar",
        "report.jsonl",
        "settings.json",
    ]
    with tarfile.open(out / "00001.tar") as one, tarfile.open(out / "00000.tar") as other:
        assert sorted(one.getnames() + other.getnames()) == ["a.jpg", "blank.gif", "deep/b.png"]
        hidden = Image.open(other.extractfile("a.jpg"))  # type: ignore[arg-type]
        assert hidden.tobytes() != Image.open(album / "a.jpg").tobytes()
    lines = [json.loads(line) for line in (out / "report.jsonl").read_text().splitlines()]
    assert {line["image"]: line["tar"] for line in lines} == {
        "a.jpg": "00000.tar",
        "blank.gif": "00000.tar",
        "deep/b.png": "00001.tar",
    }
