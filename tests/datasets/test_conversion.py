"""What a layout cannot hold is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facefind import datasets
from facefind.datasets import Sample
from facefind.datasets.conversion import contents, losses, read_written
from facefind.datasets.files import key
from facefind.outputs import output_path

POINTS = np.array([[1, 1], [9, 1], [5, 5], [2, 8], [8, 8]], np.float32)
LABELED = Sample(
    "e/a.jpg",
    Path("a.jpg"),
    np.array([[0, 0, 10.25, 10], [5, 5, 9, 9], [0, 0, 3, 3]], np.float32),
    np.stack([POINTS, np.where(POINTS > 8, np.nan, POINTS), np.full((5, 2), np.nan)]),
    ignore=np.array([False, False, True]),
    attributes={"mask": np.array([1, 0, 0])},
)


def test_what_is_counted():
    assert contents([LABELED]) == {
        "images": 1,
        "faces": 2,
        "ignored boxes": 1,
        "faces with landmarks": 1,
        "landmarks": 9,
    }


def test_nothing_is_lost_of_the_same_labels():
    assert losses([LABELED], [replace(LABELED, name="e/a.png")]) == {}


def test_each_loss_is_named():
    bare = replace(LABELED, landmarks=None, attributes={})
    rounded = replace(bare, boxes=np.round(bare.boxes))
    assert losses([LABELED], [rounded[~rounded.ignore]]) == {
        "ignored boxes": 1,
        "faces with landmarks": 1,
        "landmarks": 9,
        "attributes": ["mask"],
        "pixels": 0.25,
    }
    assert losses([LABELED], [])["images"] == 1


@pytest.mark.parametrize("layout", ["wider", "coco", "retinaface", "scrfd", "yolo", "voc"])
def test_a_name_that_leads_elsewhere_is_no_loss(layout, tmp_path):
    """It is written under a name of its own, and found there again."""
    Image.new("RGB", (80, 60)).save(tmp_path / "a.png")
    box = np.array([[1, 2, 30, 40]], np.float32)
    samples = [Sample(str(tmp_path / "a.png"), tmp_path / "a.png", box, image_size=(60, 80))]
    again = read_written(samples, datasets.write(samples, tmp_path / "new", layout), layout)
    assert losses(samples, again) == {}


NAMES = {
    "a.jpg": "a.png",
    "deep/img_591": "deep/img_591.jpg",
    "img.592": "img.592.jpg",
    "../up.jpg": "up.jpg",
    "two words.JPG": "two words.JPG",
    "v1.5/b.jpg": "v1.5/b.jpg",
    "c.jpg.png": "c.jpg.png",
}


@pytest.mark.parametrize("layout", ["wider", "coco", "retinaface", "scrfd", "yolo", "voc"])
def test_pictures_are_found_by_their_names_after_several_conversions(layout, tmp_path):
    """Names in labels have another suffix than the file, none, or dots in their midst."""
    samples = []
    for width, (name, file) in enumerate(NAMES.items(), 50):
        path = tmp_path / "x" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (width, 40)).save(path)
        samples.append(Sample(name, path, np.array([[1, 2, 30, 30]], np.float32)))
    wanted = {key(output_path(name).as_posix()): w for w, name in enumerate(NAMES, 50)}
    for number, chosen in enumerate((layout, "yolo", layout)):
        place = datasets.write(samples, tmp_path / f"{number}", chosen, images="copy")
        noted = read_written(samples, place, chosen)
        assert {key(one.name) for one in noted} == wanted.keys()
        samples = datasets.read(place if place.is_file() else place.parent, layout=chosen)
        found = {key(one.name): datasets.read_size(one.path)[1] for one in samples}
        assert found == wanted
