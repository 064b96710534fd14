"""Which samples are learned from and which are measured on."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facefind import datasets
from facefind.datasets import Sample
from facefind.errors import DataError


def labeled(root: Path, count: int, prefix: str = "") -> Path:
    """A set of so many pictures in WIDER's layout, with one face each."""
    lines = []
    for number in range(count):
        name = f"{number % 3}--Event/{prefix}{number}.png"
        file = root / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(file)
        lines += [name, "1", "4 5 10 12 0 0 0 0 0 0"]
    (root / "some_bbx_gt.txt").write_text("\n".join(lines) + "\n")
    return root


def names(samples):
    return [sample.name for sample in samples]


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    return labeled(root / "a", 20, "a"), labeled(root / "b", 20, "b")


def test_a_part_of_the_first_set_is_held_out(sets):
    first, second = sets
    training, held_out = datasets.read_sets(sets, hold_out=0.3)
    rest, part = datasets.split(datasets.read(first), 0.3)
    assert 0 < len(held_out) < 20
    assert names(held_out) == names(part)
    assert names(training) == names(rest) + names(datasets.read(second))


def test_nothing_is_held_out_unless_a_fraction_is_given(sets):
    training, held_out = datasets.read_sets(sets)
    assert len(training) == 40
    assert held_out == []


def test_a_partial_set_is_never_held_out(sets, caplog):
    first, second = sets
    with caplog.at_level(logging.WARNING):
        training, held_out = datasets.read_sets([f"partial:{first}", second], hold_out=0.3)
    assert str(second) in caplog.text
    assert names(held_out) == names(datasets.split(datasets.read(second), 0.3)[1])
    assert not any(map(datasets.is_partial, held_out))
    assert names(training)[:20] == names(datasets.read(first))
    assert len(training) + len(held_out) == 40


def test_only_partial_sets_leave_nothing_to_measure_on(sets):
    partial = [f"partial:{root}" for root in sets]
    with pytest.raises(DataError, match=r"unlabeled faces.*--val"):
        datasets.read_sets(partial, hold_out=0.3)
    training, held_out = datasets.read_sets(partial)
    assert len(training) == 40
    assert held_out == []


def test_sets_to_measure_on_take_the_place_of_a_fraction(sets):
    first, second = sets
    training, held_out = datasets.read_sets([first], val=[second], hold_out=0.3)
    assert names(training) == names(datasets.read(first))
    assert names(held_out) == names(datasets.read(second))


def test_sets_to_measure_on_must_be_complete_and_have_names_of_their_own(sets):
    first, second = sets
    with pytest.raises(DataError, match="may show unlabeled faces"):
        datasets.read_sets([first], val=[f"partial:{second}"])
    with pytest.raises(DataError, match="2 held-out images are named"):
        datasets.read_sets([first], val=[second, second])


def test_no_set_at_all():
    with pytest.raises(DataError, match="--data SET"):
        datasets.read_sets([])


def test_a_single_picture_that_is_partial_is_learned_from():
    whole = Sample("a", Path("a"), np.array([[1, 2, 3, 4]]), image_size=(30, 40))
    assert not datasets.is_partial(whole)
    assert datasets.is_partial(datasets.partial(whole))
    near = np.array([[0, 0, 40, 29]])
    assert not datasets.is_partial(
        Sample("a", Path("a"), near, ignore=np.array([True]), image_size=(30, 40))
    )


@given(st.integers(0, 300), st.integers(0, 320))
def test_evenly_spaced(size, count):
    samples = [Sample(str(number), Path("a"), np.zeros((0, 4))) for number in range(size)]
    some = [int(s.name) for s in datasets.evenly_spaced(samples, count)]
    assert len(some) == (min(count, size) or size)
    assert len(set(np.diff(some).tolist())) <= 1  # equal steps
    if some:
        assert some[0] == 0


def test_only_the_named_samples_with_or_without_suffix(sets):
    samples = datasets.read(sets[0])
    found = datasets.only(samples, ["1--Event/a4\n", "", "0--Event/a0.jpg"])
    assert names(found) == ["0--Event/a0.png", "1--Event/a4.png"]
    with pytest.raises(DataError, match="1--Event/a5 is not among the labeled images, nor are 1"):
        datasets.only(samples, ["1--Event/a4", "1--Event/a5", "2--Event/a4"])


def test_labels_are_read_without_their_pictures_and_readers_take_what_they_know(sets, tmp_path):
    root = tmp_path / "moved"
    root.mkdir()
    (root / "some_bbx_gt.txt").write_bytes((sets[0] / "some_bbx_gt.txt").read_bytes())
    assert len(datasets.read_labels(root, refits="of another layout")) == 20
    assert len(datasets.read_labels(f"partial:{root}", images=sets[0] / "images")[0]) == 2
    with pytest.raises(DataError, match="no such file"):
        datasets.read_labels(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"expected a layout of .*, got 'voc2'"):
        datasets.read_labels(root, layout="voc2")
