"""Nothing is resumed with other settings, by two writers, or over files of others."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facefind import FaceDetector
from facefind.detector import DetectionResult
from facefind.errors import DataError
from facefind.faces import Faces
from facefind.pipeline import (
    CropFolder,
    DrawingFolder,
    JsonLines,
    KeptDetections,
    detector_settings,
    image_folders,
    write_results,
)
from facefind.runtimes import Candidates, Card

POINTS = np.array([[[30, 30], [50, 30], [40, 42], [32, 52], [48, 52]]], np.float32)
FACES = Faces([[20, 15, 60, 65]], [0.75], POINTS, image_size=(80, 100))
IMAGE = np.zeros((80, 100, 3), np.uint8)
SETTINGS = {"weights_sha256": "12", "min_score": 0.5}


class Nothing:
    """A runtime without a file that finds no face."""

    name, precision, threads, provider = "nothing", "fp32", 1, "cpu"
    card = Card(name="nothing", system="test", protocol="full")

    def __call__(self, batch: np.ndarray) -> Candidates:
        return Candidates(np.zeros((len(batch), 1, 4), np.float32), np.zeros((len(batch), 1)))


def write(path: Path, *names: str, **options: Any) -> None:
    with JsonLines(path, **options) as lines:
        for name in names:
            lines.write({"image": name})


def test_what_is_there_is_resumed_or_replaced_or_kept(tmp_path: Path) -> None:
    path = tmp_path / "faces.jsonl"
    write(path, "a", settings=SETTINGS)
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"resume it \(--resume\), replace it \(--overwrite\)"):
        JsonLines(path, settings=SETTINGS)
    for key, value in (("weights_sha256", "13"), ("min_score", 0.02)):
        with pytest.raises(DataError, match=f"was made with {key} .*give another file, or replace"):
            JsonLines(path, resume=True, settings={**SETTINGS, key: value})
    with pytest.raises(DataError, match="choose one"):
        JsonLines(path, resume=True, overwrite=True)
    assert path.read_bytes() == before
    write(path, "b", settings={**SETTINGS, "model": "of another name"}, resume=True)
    assert path.read_bytes() == before + b'{"image": "b"}\n'
    write(path, "c", settings={"weights_sha256": "13"}, overwrite=True)
    assert path.read_text() == '{"image": "c"}\n'
    write(path, settings={"weights_sha256": "13"}, resume=True)
    path.with_name("faces.jsonl.source.json").unlink()
    with pytest.raises(DataError, match=r"no faces\.jsonl\.source\.json beside it"):
        JsonLines(path, resume=True, settings=SETTINGS)
    assert path.read_text() == '{"image": "c"}\n'


def test_nothing_is_changed_before_the_first_byte(tmp_path: Path) -> None:
    path = tmp_path / "faces.jsonl"
    path.write_text('{"image": "a"}\n{"ima')
    for options in ({"resume": True}, {"overwrite": True}):
        JsonLines(path, **options).close()
        assert path.read_text() == '{"image": "a"}\n{"ima'
    write(path, resume=True)
    assert path.read_text() == '{"image": "a"}\n'


def test_one_writer_at_a_time_who_is_named(tmp_path: Path) -> None:
    path = tmp_path / "faces.jsonl"
    code = (
        "import sys; from facefind.pipeline import JsonLines\nJsonLines(sys.argv[1], resume=True)"
    )
    with JsonLines(path) as lines:
        lines.write({"image": "a"})
        other = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
        )
        assert "is being written by process" in other.stderr
        lines.write({"image": "b"})
    assert sorted(tmp_path.iterdir()) == [path]
    write(path, "c", resume=True)
    assert len(path.read_text().splitlines()) == 3


def test_a_file_without_names_of_images_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    for text in ('{"a": 1}\n', '{"a": 1}', "\0\n", "{"):
        path.write_text(text)
        for options in ({"resume": True}, {"overwrite": True}, {}):
            if text == "{" and options:  # may be the torn first line of ours
                continue
            with pytest.raises(DataError, match=r"settings\.json"):
                JsonLines(path, **options)
        assert path.read_text() == text


def test_settings_say_all_that_faces_depend_on() -> None:
    settings = detector_settings(FaceDetector(Nothing()))
    assert settings["weights_sha256"] is None
    named = detector_settings(FaceDetector("scrfd-500m-kps", protocol="160", min_score=0.1))
    assert len(named["weights_sha256"]) == 64
    assert named["min_score"] == 0.1
    assert json.loads(json.dumps(named)) == named
    for options in ({"protocol": "vga"}, {"min_score": 0.2}, {"max_faces": 3}):
        detector = FaceDetector(
            "scrfd-500m-kps", **({"protocol": "160", "min_score": 0.1} | options)
        )
        assert detector_settings(detector) != named


def test_folders_of_images_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").touch()
    monkeypatch.chdir(tmp_path)
    one = image_folders(["1"])
    assert one == image_folders([tmp_path / "1"]) == image_folders(["1/*.jpg"])
    assert one != image_folders(["2"])
    assert image_folders([tmp_path / "1" / "a.jpg"]) == {"image_folders": []}
    assert image_folders(["1/a.jpg"]) == {"image_folders": [str(tmp_path)]}
    write(Path("faces.jsonl"), "a.jpg", settings=one)
    with pytest.raises(DataError, match="was made with image_folders"):
        JsonLines("faces.jsonl", settings=image_folders(["2"]), resume=True)


def test_kept_detections_are_of_the_same_folder(tmp_path: Path) -> None:
    paths = {"e/a.jpg": tmp_path / "1" / "e" / "a.png", "b": tmp_path / "1" / "b.jpg"}
    with KeptDetections(tmp_path / "kept.jsonl", SETTINGS, paths) as kept:
        kept.write({"image": "b"})
    KeptDetections(tmp_path / "kept.jsonl", SETTINGS, {"b": paths["b"]}).close()
    with pytest.raises(DataError, match="image_folders"):
        KeptDetections(tmp_path / "kept.jsonl", SETTINGS, {"b": tmp_path / "2" / "b.jpg"})


@pytest.mark.parametrize("kind", [DrawingFolder, CropFolder])
def test_a_folder_with_files_of_others_is_never_written_into(kind: Any, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"a photograph")
    more = {} if kind is CropFolder else {"overwrite": True}
    for options in ({}, {"resume": True}, more):
        with pytest.raises(DataError, match="holds files that are no"):
            kind(folder, **options)
    assert [path.read_bytes() for path in folder.iterdir()] == [b"a photograph"]


def test_drawn_copies_are_added_to_or_replaced_only_when_asked(tmp_path: Path) -> None:
    with DrawingFolder(tmp_path / "new", settings=SETTINGS) as folder:
        folder.write("a.jpg", IMAGE, FACES)
    with pytest.raises(DataError, match=r"has drawn copies already: .*--overwrite"):
        DrawingFolder(tmp_path / "new", settings=SETTINGS)
    with pytest.raises(DataError, match="min_score"):
        DrawingFolder(tmp_path / "new", settings={"min_score": 1}, resume=True)
    DrawingFolder(tmp_path / "new", settings=SETTINGS, resume=True)
    DrawingFolder(tmp_path / "new", settings={"min_score": 1}, overwrite=True)
    with pytest.raises(DataError, match="no crops of facefind"):
        CropFolder(tmp_path / "new", settings=SETTINGS, resume=True)


def test_a_link_in_an_output_folder_is_replaced_and_what_it_leads_to_is_not(
    tmp_path: Path,
) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"a photograph")
    with DrawingFolder(tmp_path / "new") as folder:
        (tmp_path / "new" / "a.jpg").symlink_to(photo)
        folder.write("a.jpg", IMAGE, FACES)
    assert photo.read_bytes() == b"a photograph"
    assert not (tmp_path / "new" / "a.jpg").is_symlink()


def results(*errors: Exception | None) -> list[DetectionResult]:
    return [DetectionResult(n, n, IMAGE, e, None if e else FACES) for n, e in enumerate(errors)]


def test_an_error_of_writing_belongs_to_its_image(tmp_path: Path) -> None:
    def save(result: DetectionResult) -> None:
        if result.index in (1, 2):
            raise [OSError(errno.ENAMETOOLONG, "too long"), ValueError("no such format")][
                result.index - 1
            ]

    given = results(None, None, None, RuntimeError("no\nmemory"), None)
    with JsonLines(tmp_path / "failures.jsonl") as failures:
        done = list(write_results(iter(given), save, failures))
    assert [result.error is None for result in done] == [True, False, False, False, True]
    lines = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    assert [(line["image"], line["kind"]) for line in lines] == [
        ("1", "OSError"),
        ("2", "ValueError"),
        ("3", "RuntimeError"),
    ]
    assert lines[2]["error"] == "no memory"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), ZeroDivisionError()])
def test_a_full_disk_and_a_bug_are_no_error_of_an_image(error: Exception) -> None:
    def save(result: DetectionResult) -> None:
        raise error

    with pytest.raises(type(error)):
        list(write_results(iter(results(None)), save))


def test_a_pipe_that_nobody_reads_is_an_error(tmp_path: Path) -> None:
    code = """
import os, sys
from facefind.errors import DataError
from facefind.pipeline import JsonLines
reader, writer = os.pipe()
os.close(reader)
lines = JsonLines(f"/dev/fd/{writer}")
try:
    lines.write({"image": "a"})
except DataError as error:
    print(error)
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "nobody reads it any more" in done.stdout, done.stderr
