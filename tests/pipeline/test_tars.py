"""Crops and copies in tar files: whole before they are recorded, made again after a kill."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facefind.cropping import CropOptions
from facefind.errors import DataError
from facefind.faces import Faces
from facefind.files import read_json_lines
from facefind.pipeline import CropFolder, JsonLines
from facefind.pipeline.stores import Folder
from facefind.pipeline.tars import TarFiles

POINTS = np.array([[[30, 30], [50, 30], [40, 42], [32, 52], [48, 52]]], np.float32)
FACES = Faces([[20, 15, 60, 65]], [0.75], POINTS, image_size=(80, 100))
IMAGE = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)


def members(folder: Path) -> dict[str, list[str]]:
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            found[path.name] = tar.getnames()
    return found


def crops(folder: Path, **options: bool) -> CropFolder:
    return CropFolder(folder, CropOptions(size=64), per_tar=2, **options)  # type: ignore[arg-type]


def test_crops_lie_in_tar_files_with_what_is_known_of_each(tmp_path: Path) -> None:
    with crops(tmp_path) as folder:
        for name in ("a.jpg", "deep/b.jpg", "c.jpg"):
            folder.write(name, IMAGE, FACES)
        assert folder.write("none.jpg", IMAGE, FACES[:0])["tar"] == "00001.tar"
    assert members(tmp_path) == {
        "00000.tar": ["a_0.png", "a_0.json", "deep/b_0.png", "deep/b_0.json"],
        "00001.tar": ["c_0.png", "c_0.json"],
    }
    with tarfile.open(tmp_path / "00000.tar") as tar:
        pixels = np.asarray(Image.open(io.BytesIO(tar.extractfile("deep/b_0.png").read())))  # type: ignore[union-attr]
        about = json.load(tar.extractfile("deep/b_0.json"))  # type: ignore[arg-type]
    assert np.array_equal(pixels, FACES.align(IMAGE, 64)[0])
    assert (about["image"], about["face"], about["score"]) == ("deep/b.jpg", 0, 0.75)
    lines = [record for _, record in read_json_lines(tmp_path / "manifest.jsonl")]
    assert [one["tar"] for one in lines] == ["00000.tar", "00000.tar", "00001.tar", "00001.tar"]
    with crops(tmp_path, resume=True) as folder:
        assert folder.names == {"a.jpg", "deep/b.jpg", "c.jpg", "none.jpg"}
        folder.write("d.jpg", IMAGE, FACES)
    assert members(tmp_path)["00002.tar"] == ["d_0.png", "d_0.json"]
    with pytest.raises(DataError, match="made with size 64, not 112"):
        CropFolder(tmp_path, resume=True)


def test_what_a_kill_interrupts_is_made_again_under_the_same_number(tmp_path: Path) -> None:
    folder = crops(tmp_path)
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        folder.write(name, IMAGE, FACES)
    assert folder._tars is not None
    assert folder._tars._tar is not None
    folder._tars._tar.close()
    folder._manifest.close()  # as a kill leaves it: the draft of the second tar file is lost
    (tmp_path / "00001.tar").write_bytes(b"there, but not recorded")
    with crops(tmp_path, resume=True) as again:
        assert again.names == {"a.jpg", "b.jpg"}
        again.write("c.jpg", IMAGE, FACES)
    assert members(tmp_path) == {
        "00000.tar": ["a_0.png", "a_0.json", "b_0.png", "b_0.json"],
        "00001.tar": ["c_0.png", "c_0.json"],
    }


def test_nothing_is_recorded_before_its_tar_file_is_there(tmp_path: Path) -> None:
    with JsonLines(tmp_path / "r.jsonl", resume=True) as records:
        tars = TarFiles(Folder(tmp_path), 2, records)
        tars.add({"a": b"1"}, {"image": "a"})
        assert list(tmp_path.glob("*.tar")) == []
        assert records.path.read_text() == ""
        tars.add({}, {"image": "b"})
        assert members(tmp_path) == {"00000.tar": ["a"]}
        assert records.path.read_text().count("\n") == 2
    with pytest.raises(DataError, match="at least one image"):
        TarFiles(Folder(tmp_path), 0, records)
