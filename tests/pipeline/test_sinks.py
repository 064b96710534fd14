"""Results on disk: lines that a kill cannot tear, crops and copies where they belong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facefind import files
from facefind.cropping import CropOptions
from facefind.errors import DataError
from facefind.faces import Faces
from facefind.pipeline import (
    CropFolder,
    DrawingFolder,
    ExactFaces,
    JsonLines,
    KeptDetections,
    to_record,
)
from facefind.pipeline.kept import read_kept

POINTS = np.array([[[30, 30], [50, 30], [40, 42], [32, 52], [48, 52]]], np.float32)
FACES = Faces([[20, 15, 60, 65]], [0.75], POINTS, image_size=(80, 100))
SMALL = CropOptions(size=64)
IMAGE = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)


def test_lines_are_there_as_soon_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "faces.jsonl"
    with JsonLines(path) as lines:
        assert lines.names == set()
        lines.write(to_record("a.jpg", FACES))
        record = json.loads(path.read_text())
    assert record["image"] == "a.jpg"
    assert Faces.from_dict(record) == FACES
    assert set(record) == {"image", "width", "height", "boxes", "scores", "landmarks"}


@given(cut=st.integers(0, 200))
def test_wherever_a_kill_tears_the_file_nothing_whole_is_lost(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "torn.jsonl"
    whole = [json.dumps({"image": f"{number}.jpg", "boxes": []}) + "\n" for number in range(5)]
    text = "".join(whole)[:cut]
    path.write_text(text)
    kept = text.count("\n")
    with JsonLines(path, resume=True) as lines:
        assert lines.names == {f"{number}.jpg" for number in range(kept)}
        for number in range(kept, 5):
            lines.write({"image": f"{number}.jpg", "boxes": []})
    assert path.read_text() == "".join(whole)


def test_a_torn_line_longer_than_a_block_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_BLOCK", 7)
    path = tmp_path / "faces.jsonl"
    path.write_text('{"image": "a"}\n{"image": "b", "boxes": [[1, 2, 3')
    with JsonLines(path, resume=True) as lines:
        assert lines.names == {"a"}
    assert path.read_text() == '{"image": "a"}\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("shopping list\nmilk", "line 1"),
        ('{"notes": "a"}\n{"boxes": []}\n{"ima', "line 1: names no image"),
        ("[1]\n", "line 1: names no image"),
        ("notes on one line", "a line of something else"),
        ("\xff\xfe", "a line of something else"),
    ],
)
def test_what_is_no_list_of_results_is_refused_and_left_as_it_is(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"notes\.txt.*{said}.*cannot be resumed"):
        JsonLines(path, resume=True)
    for more in ({}, {"overwrite": True}):
        with pytest.raises(DataError, match=r"notes\.txt"):
            JsonLines(path, **more)
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


def test_kept_detections_are_never_mixed(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    source = {"model": "a.onnx", "weights_sha256": "12", "test_protocol": {"sizes": [640]}}
    exact = ExactFaces.from_faces(FACES)
    with KeptDetections(path, source) as kept:
        kept.add("a", exact, cost={"ms": 1})
    moved = source | {"model": "elsewhere/a.onnx"}
    with KeptDetections(path, moved) as kept:
        assert kept.names == {"a"}
    with pytest.raises(DataError, match='was made with weights_sha256 "12", not "13"'):
        KeptDetections(path, source | {"weights_sha256": "13"})
    found, made_by = read_kept(path)
    assert made_by == source
    assert np.array_equal(found["a"].boxes, exact.boxes)
    assert found["a"].landmarks is not None
    assert np.array_equal(found["a"].landmarks, exact.landmarks)
    path.with_name("kept.jsonl.source.json").unlink()
    with pytest.raises(DataError, match=r"no kept\.jsonl\.source\.json beside it"):
        KeptDetections(path, source)


@given(st.lists(st.floats(0, 1, width=32), max_size=5))
def test_exact_numbers_are_the_same_through_a_file(scores: list[float]) -> None:
    boxes = np.float32([[s * 97.3, s, 1e3 + s, 2e3 + s / 3] for s in scores]).reshape(-1, 4)
    exact = ExactFaces.from_faces(Faces(boxes, scores, image_size=(3000, 2000)))
    again = ExactFaces.from_record(json.loads(json.dumps(exact.to_record("a"))))
    assert np.array_equal(again.boxes, exact.boxes)
    assert np.array_equal(again.scores, exact.scores)
    assert np.array_equal(exact.scores.astype(np.float32), np.sort(np.float32(scores))[::-1])


def test_a_kept_file_names_its_faults(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    good = '{"image": "a", "boxes": [], "scores": []}\n'
    for text, said in (
        (good + good, "line 2.*each image once"),
        (good + '{"image": "b"}\n', "line 2.*boxes"),
        (good + "{no\n" + good, "line 2.*JSON"),
        ('{"image": "b", "boxes": [[1, 2, 3, NaN]], "scores": [1]}\n', "line 1.*N x 4"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=said):
            read_kept(path)


def test_crops_say_how_they_were_made(tmp_path: Path) -> None:
    with CropFolder(tmp_path / "crops", SMALL, settings={"model": "m"}) as folder:
        record = folder.write("deep/a.jpg", IMAGE, FACES)
        assert folder.write("b.jpg", IMAGE, FACES[:0])["crops"] == []
    (crop,) = record["crops"]
    with Image.open(tmp_path / "crops" / crop["file"]) as picture:
        assert np.array_equal(np.asarray(picture), FACES.align(IMAGE, 64)[0])
    with CropFolder(tmp_path / "crops", SMALL, settings={"model": "m"}, resume=True) as folder:
        assert folder.names == {"deep/a.jpg", "b.jpg"}
    with pytest.raises(DataError, match="made with size 64, not 112"):
        CropFolder(tmp_path / "crops", settings={"model": "m"}, resume=True)
    with pytest.raises(DataError, match="has crops already"):
        CropFolder(tmp_path / "crops", SMALL, settings={"model": "m"})
    with (
        CropFolder(tmp_path / "other") as folder,
        pytest.raises(DataError, match=r"faces of a\.jpg have no landmarks"),
    ):
        folder.write("a.jpg", IMAGE, Faces([[0, 0, 9, 9]], [1], image_size=(80, 100)))


def test_drawn_copies_have_a_format_that_can_be_written(tmp_path: Path) -> None:
    folder = DrawingFolder(tmp_path / "drawn")
    assert folder.write("deep/a.gif", IMAGE, FACES) == Path("deep/a.gif.png")
    with Image.open(tmp_path / "drawn" / "deep" / "a.gif.png") as picture:
        assert not np.array_equal(np.asarray(picture), IMAGE)
    assert DrawingFolder.target("/abs/b.JPG") == Path("b.JPG")
