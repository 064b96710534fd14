from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facefind import datasets
from facefind.datasets import Sample
from facefind.errors import DataError


def sample(name="a.jpg", boxes=((1, 2, 11, 22),), **more):
    return Sample(name, Path(name), np.array(boxes, np.float32).reshape(-1, 4), **more)


def test_left_out_labels_are_filled():
    one = sample()
    assert one.landmarks.shape == (1, 5, 2)
    assert np.isnan(one.landmarks).all()
    assert one.ignore.tolist() == [False]
    none = sample(boxes=())
    assert none.boxes.shape == (0, 4)
    assert none.landmarks.shape == (0, 5, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"landmarks": np.zeros((2, 5, 2))},
        {"ignore": np.zeros(2, bool)},
        {"attributes": {"mask": np.zeros(3)}},
    ],
)
def test_wrong_shapes_are_refused(wrong):
    with pytest.raises(DataError, match=r"a\.jpg"):
        sample(**wrong)


def test_faces_are_picked_with_all_their_labels():
    whole = sample(
        boxes=[(0, 0, 1, 1), (0, 0, 2, 2), (0, 0, 3, 3)],
        ignore=np.array([0, 1, 0], bool),
        attributes={"n": np.arange(3)},
    )
    part = whole[~whole.ignore]
    assert part.boxes[:, 2].tolist() == [1, 3]
    assert part.attributes["n"].tolist() == [0, 2]


def test_partial_ignores_the_whole_image():
    given_one = sample(
        image_size=(30, 40),
        attributes={"text": np.array(["x"]), "real": np.ones(1), "whole": np.ones(1, int)},
    )
    one = datasets.partial(given_one)
    assert one.boxes.tolist() == [[1, 2, 11, 22], [0, 0, 40, 30]]
    assert one.ignore.tolist() == [False, True]
    assert one.attributes["text"].tolist() == ["x", ""]
    assert np.isnan(one.attributes["real"][1])
    assert one.attributes["whole"][1] == -1
    assert len(given_one) == 1


def test_size_is_that_of_the_upright_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert datasets.read_size(tmp_path / "a.jpg") == (40, 20)
    (tmp_path / "b.jpg").write_text("no picture")
    with pytest.raises(DataError, match="no readable picture"):
        datasets.read_size(tmp_path / "b.jpg")


@given(st.integers(0, 400), st.floats(0, 1))
def test_split_takes_each_picture_once_and_never_moves_it(count, fraction):
    samples = [sample(f"{n}.jpg") for n in range(count)]
    train, held = datasets.split(samples, fraction)
    assert {s.name for s in train}.isdisjoint(s.name for s in held)
    assert len(train) + len(held) == count
    again, _ = datasets.split(samples[::-1][: count // 2], fraction)
    assert {s.name for s in again} <= {s.name for s in train}


def test_split_holds_out_about_the_fraction():
    _, held = datasets.split([sample(f"{n}.jpg") for n in range(5000)], 0.1)
    assert 440 < len(held) < 560
    assert {s.name for s in held[:3]} == {"2.jpg", "5.jpg", "21.jpg"}
    with pytest.raises(DataError, match="fraction"):
        datasets.split([], 1.5)


def test_digest_follows_labels_not_order():
    a, b = sample("a"), sample("b", boxes=())
    assert datasets.digest([a, b]) == datasets.digest([b, a])
    assert datasets.digest([a]) != datasets.digest([a, b])
    moved = sample("a", boxes=[(1, 2, 11, 23)])
    ignored = sample("a", ignore=np.array([True]))
    pointed = sample("a", landmarks=np.zeros((1, 5, 2)))
    assert len({datasets.digest([s]) for s in (a, moved, ignored, pointed)}) == 4
