"""Box arithmetic against the plain oracle and its own inverses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference import overlap

from facefind import boxes as bx

coordinates = st.floats(-1000, 1000, width=32)
any_boxes = arrays(np.float32, st.tuples(st.integers(0, 12), st.just(4)), elements=coordinates)


@given(a=any_boxes, b=any_boxes, plus_one=st.booleans())
def test_iou_equals_the_oracle_bit_for_bit(a, b, plus_one):
    got = bx.iou(a, b, plus_one=plus_one)
    want = np.array([[overlap.iou_of(x, y, plus_one) for y in b] for x in a], np.float32)
    assert got.dtype == np.float32
    assert got.shape == (len(a), len(b))
    np.testing.assert_array_equal(got, want.reshape(got.shape))


NARROW = np.array([[-1.4e-45, -2.5, 0, 0]], np.float32)  # its area is rounded in float32


@given(a=any_boxes, b=any_boxes)
@example(a=NARROW, b=NARROW)
def test_iou_is_symmetric_and_within_0_and_1(a, b):
    table = bx.iou(a.astype(np.float64), b)
    np.testing.assert_array_equal(table, bx.iou(b, a.astype(np.float64)).T)
    assert ((table >= 0) & (table <= 1 + 1e-6)).all()
    assert (bx.intersection(a, b) >= 0).all()


def test_iou_cases():
    box = np.array([[0, 0, 10, 10]], float)
    others = [[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [0, 0, 5, 5], [3, 3, 3, 9]]
    np.testing.assert_allclose(bx.iou(box, others)[0], [1, 1 / 3, 0, 0.25, 0])
    # On whole pixels the second box has 11 columns, of which 6 are shared.
    assert bx.iou(box, others[1:2], plus_one=True)[0, 0] == 66 / (121 + 121 - 66)
    empty = np.array([[4, 4, 4, 4]], float)
    assert bx.iou(empty, empty)[0, 0] == 0
    assert bx.area([[0, 0, 3, 4], [5, 5, 2, 9]]).tolist() == [12, 0]
    assert bx.area([0, 0, 3, 4], plus_one=True) == 20


@given(boxes=arrays(np.float64, (5, 4), elements=st.floats(-100, 100)))
def test_centers_and_sides_have_an_inverse(boxes):
    np.testing.assert_allclose(bx.from_cxcywh(bx.to_cxcywh(boxes)), boxes, atol=1e-9)


def test_forms():
    box = np.array([[10, 20, 30, 60]], np.float32)
    assert bx.to_xywh(box).tolist() == [[10, 20, 20, 40]]
    assert bx.to_cxcywh(box).tolist() == [[20, 40, 20, 40]]
    assert bx.expand(box, 0.5).tolist() == [[0, 0, 40, 80]]
    assert bx.clip([[-5, -5, 50, 50]], (20, 30)).tolist() == [[0, 0, 30, 20]]
    assert bx.clip(box[0], (20, 15)).tolist() == [10, 20, 15, 20]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_dtype_is_kept(kind):
    box = np.array([[1, 2, 3, 4]], kind)
    results = [bx.area(box), bx.iou(box, box), bx.clip(box, (9, 9)), bx.to_xywh(box)]
    results += [bx.to_cxcywh(box), bx.from_cxcywh(box), bx.expand(box, 0.1)]
    results += [bx.intersection(box, box)]
    assert {r.dtype for r in results} == {np.dtype(kind)}


def test_no_boxes_and_wrong_shapes():
    assert bx.iou([], [[0, 0, 1, 1]]).shape == (0, 1)
    assert bx.area([]).shape == (0,)
    for bad in ([1, 2, 3], np.zeros((2, 5)), 7.0):
        with pytest.raises(ValueError, match=r"\(\.\.\., 4\)"):
            bx.area(bad)
    with pytest.raises(ValueError, match=r"\(N,4\) and \(M,4\)"):
        bx.iou([0, 0, 1, 1], [[0, 0, 1, 1]])


def test_whole_pixels_hold_the_visible_part():
    boxes = [[0.5, 1.2, 3.0, 4.1], [-5, -5, 2.5, 99], [50, 50, 60, 60], [6, 6, 2, 2]]
    got = bx.to_pixels(boxes, (10, 20))
    assert got.dtype == np.int64
    assert got.tolist() == [[0, 1, 3, 5], [0, 0, 3, 10], [20, 10, 20, 10], [6, 6, 6, 6]]


def test_boxes_take_the_best_free_box_in_their_order():
    truth = [[0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60]]
    found = [[1, 0, 11, 10], [0, 0, 10, 10], [2, 0, 12, 10], [51, 50, 61, 60], [80, 80, 90, 90]]
    assert bx.match(found, truth, 0.4) == [(0, 0), (1, 1), (3, 2)]
    assert bx.match(found, truth, 0.9) == [(1, 0), (2, 1)]
    assert bx.match(found, truth, 0.0) == [(0, 0), (1, 1), (3, 2)]  # none without any overlap
    assert bx.match([], truth, 0.4) == bx.match(found, [], 0.4) == []
