import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from facefind.learn.labels import Labels

SIZE = (40, 60)
"""(H,W); numbers of halves and quarters, so that turning and flipping are exact."""


@st.composite
def several(draw):
    count = draw(st.integers(0, 5))
    quarters = st.integers(0, 4 * 40).map(lambda n: n / 4)
    corners = draw(arrays(np.float32, (count, 2, 2), elements=quarters))
    landmarks = draw(arrays(np.float32, (count, 5, 2), elements=quarters))
    landmarks[::2] = np.nan
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    return Labels(boxes, landmarks, draw(arrays(bool, count)))


def same(a, b):
    return (
        np.array_equal(a.boxes, b.boxes)
        and np.array_equal(a.landmarks, b.landmarks, equal_nan=True)
        and np.array_equal(a.ignore, b.ignore)
    )


@settings(max_examples=50, deadline=None)
@given(several())
def test_flip_twice_is_nothing_and_left_stays_left(labels):
    once = labels.flipped(SIZE[1])
    assert same(once.flipped(SIZE[1]), labels)
    # the right eye of the original is the left one of its mirror image
    mirrored = SIZE[1] - labels.landmarks[:, 1, 0]
    assert np.array_equal(once.landmarks[:, 0, 0], mirrored, equal_nan=True)


@settings(max_examples=50, deadline=None)
@given(several())
def test_four_quarter_turns_are_nothing(labels):
    height, width = SIZE
    turned = labels
    for side in (width, height, width, height):
        turned = turned.turned(side)
        assert (turned.boxes[:, 2:] >= turned.boxes[:, :2]).all()
    assert same(turned, labels)
    twice = labels.turned(width).turned(height)
    assert np.array_equal(twice.boxes[:, 0], width - labels.boxes[:, 2])
    assert np.array_equal(twice.boxes[:, 1], height - labels.boxes[:, 3])


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_landmark_stays_on_its_painted_pixel(turns):
    spots = np.array([(5, 7), (20, 8), (12, 20), (6, 31), (21, 30)])
    marks = np.zeros(SIZE, int)
    for number, (x, y) in enumerate(spots, 1):
        marks[y, x] = number
    labels = Labels(
        np.array([[5, 7, 22, 32]], np.float32),
        (spots[None] + 0.5).astype(np.float32),
        np.array([0], bool),
    )
    for turn in range(turns):
        labels = labels.turned(SIZE[1 - turn % 2])
    turned = np.rot90(marks, turns)
    for number, (x, y) in enumerate(labels.landmarks[0], 1):
        assert turned[int(y), int(x)] == number
    rows, columns = np.nonzero(turned)
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert labels.boxes[0].tolist() == box


def test_faces_whose_center_lies_outside_go_ignored_ones_stay():
    boxes = np.array([[-20, 0, 10, 10], [-4, 0, 10, 10], [-20, 0, 10, 10]], np.float32)
    labels = Labels(boxes, np.full((3, 5, 2), -3, np.float32), np.array([False, False, True]))
    held = labels.held(SIZE)
    assert held.boxes.tolist() == [[0, 0, 10, 10]] * 2
    assert held.ignore.tolist() == [False, True]
    assert (held.landmarks == -3).all()
    assert labels.held(SIZE, clip_boxes=False).boxes[:, 0].tolist() == [-4, -20]
