"""What a layout cannot hold is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from facefind.datasets import Sample
from facefind.datasets.conversion import contents, losses

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
