"""Suppression and voting give what the plain oracles give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import overlap

from facefind.nms import box_voting, nms, soft_nms

crowds = st.builds(
    lambda seed, n, faces, levels: crowd(seed, n, faces, levels),
    seed=st.integers(0, 10**6),
    n=st.integers(0, 120),
    faces=st.integers(1, 60),
    levels=st.sampled_from([3, 10, 10**6]),
)


def crowd(seed, n, faces, levels):
    """Boxes in heaps about some faces, a few of them empty or inside out; scores with ties."""
    rng = np.random.default_rng(seed)
    centers, sides = rng.uniform(0, 300, (faces, 2)), rng.uniform(8, 80, (faces, 1))
    pick = rng.integers(0, faces, n)
    center = centers[pick] + rng.normal(0, 0.12, (n, 2)) * sides[pick]
    half = sides[pick] * np.exp(rng.normal(0, 0.15, (n, 2))) / 2
    half[rng.random(n) < 0.05] *= rng.choice([0, -1])
    boxes = np.concatenate([center - half, center + half], 1).astype(np.float32)
    if seed % 3 == 0:
        boxes = boxes.round()
    return boxes, (rng.integers(0, levels + 1, n) / levels).astype(np.float32)


@given(case=crowds, threshold=st.sampled_from([0.0, 0.3, 0.4, 0.5, 1.0]), plus_one=st.booleans())
@settings(deadline=None)
def test_nms_equals_the_oracle(case, threshold, plus_one):
    got = nms(*case, threshold, plus_one=plus_one)
    assert got.dtype == np.int64
    assert got.tolist() == overlap.nms(*case, threshold, plus_one=plus_one)


def test_nms_equals_the_oracle_on_many_boxes():
    for faces in (20, 400):
        case = crowd(faces, 700, faces, 10**6)
        assert nms(*case, 0.4).tolist() == overlap.nms(*case, 0.4)


@given(case=crowds, limit=st.integers(0, 30))
@settings(deadline=None)
def test_nms_stops_at_max_keep(case, limit):
    assert nms(*case, 0.4, limit).tolist() == nms(*case, 0.4).tolist()[:limit]


@given(
    case=crowds,
    threshold=st.sampled_from([0.3, 0.5, 1.0]),
    containment=st.sampled_from([0.0, 0.5, 0.8, 1.0]),
    plus_one=st.booleans(),
)
@settings(deadline=None)
def test_nms_with_containment_equals_the_oracle(case, threshold, containment, plus_one):
    got = nms(*case, threshold, containment=containment, plus_one=plus_one)
    assert got.tolist() == overlap.nms(*case, threshold, plus_one=plus_one, containment=containment)


def test_a_box_suppresses_fragments_within_it_but_never_what_contains_it():
    boxes = [[0, 0, 100, 100], [10, 10, 40, 30], [90, 0, 130, 40], [-60, -60, 160, 160]]
    scores = [0.9, 0.8, 0.7, 0.6]
    assert nms(boxes, scores, 0.45).tolist() == [0, 1, 2, 3]
    assert nms(boxes, scores, 0.45, containment=0.8).tolist() == [0, 2, 3]
    assert nms(boxes, scores, 0.45, containment=0.2).tolist() == [0, 3]
    assert nms(boxes, scores[::-1], 0.45, containment=0.8).tolist() == [3]


def test_nms_takes_float64_lists_and_integers():
    boxes = [[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]]
    assert nms(boxes, [0.5, 0.9, 0.1], 0.5).tolist() == [1, 2]
    assert nms(np.array(boxes, float), [0.9, 0.9, 0.9], 0.5).tolist() == [0, 2]
    assert nms([], [], 0.5).tolist() == []


def test_empty_and_huge_boxes_suppress_nothing():
    boxes = np.array([[5, 5, 5, 5], [5, 5, 5, 5], [9, 9, 2, 2], [0, 0, 10, 10]], np.float32)
    assert nms(boxes, [0.9, 0.8, 0.7, 0.6], 0.0).tolist() == [0, 1, 2, 3]
    big = np.float32(3e38)
    assert len(nms(np.array([[-big, -big, big, big], [0, 0, 1, 1]]), [0.9, 0.8], 0.4)) == 2


def test_the_limit_itself_is_not_too_much():
    boxes = np.array([[0, 0, 2, 1], [0, 0, 1, 1]], float)  # IoU one half
    assert nms(boxes, [0.9, 0.8], 0.5).tolist() == [0, 1]
    assert nms(boxes, [0.9, 0.8], 0.49).tolist() == [0]


def test_many_boxes_need_little_memory():
    import tracemalloc

    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 20000, (20000, 2)).astype(np.float32)
    boxes = np.concatenate([corner, corner + 30], 1)
    tracemalloc.start()
    kept = nms(boxes, rng.random(20000), 0.4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(kept) > 15000
    assert peak < 60e6  # a full table of float32 would be 1600 MB


@given(case=crowds, method=st.sampled_from(["linear", "gaussian"]))
@settings(deadline=None)
def test_soft_nms_equals_the_oracle(case, method):
    boxes, scores = case[0].astype(np.float64), case[1].astype(np.float64)
    indices, lowered = soft_nms(boxes, scores, method=method, min_score=0.05)
    want = overlap.soft_nms(boxes, scores, method, 0.3, 0.5, 0.05)
    assert indices.tolist() == [i for i, _ in want]
    np.testing.assert_allclose(lowered, [s for _, s in want])
    assert (lowered <= scores[indices]).all()
    assert (np.diff(lowered) <= 0).all()


def test_soft_nms_options():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], np.float32)
    scores = np.array([0.8, 0.6], np.float32)
    np.testing.assert_allclose(soft_nms(boxes, scores, method="linear")[1], [0.8, 0.3])
    np.testing.assert_allclose(
        soft_nms(boxes, scores, sigma=0.25)[1], [0.8, 0.6 * np.exp(-1)], rtol=1e-6
    )
    assert soft_nms(boxes, scores, method="linear", min_score=0.4)[0].tolist() == [0]
    with pytest.raises(ValueError, match="'linear' or 'gaussian'"):
        soft_nms(boxes, scores, method="hard")
    with pytest.raises(ValueError, match="sigma"):
        soft_nms(boxes, scores, sigma=0)


@given(case=crowds, drop=st.booleans(), last=st.booleans(), plus_one=st.booleans())
@settings(deadline=None)
def test_box_voting_equals_the_oracle(case, drop, last, plus_one):
    got = box_voting(*case, 0.4, drop_singletons=drop, keep_last_singleton=last, plus_one=plus_one)
    want = overlap.box_voting(*case, 0.4, drop, last, plus_one)
    assert got.indices.tolist() == [lead for _, _, lead in want]
    assert got.boxes.dtype == np.float32
    np.testing.assert_array_equal(got.scores, [s for _, s, _ in want])
    merged = np.array([box for box, _, _ in want]).reshape(-1, 4)
    np.testing.assert_allclose(got.boxes, merged, rtol=1e-5, atol=1e-4)


def test_box_voting_by_hand():
    boxes = [[0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 60], [90, 90, 95, 95]]
    scores = [0.6, 0.2, 0.9, 0.1]
    voted = box_voting(boxes, scores, 0.4)
    np.testing.assert_allclose(voted.boxes[1], [0.5, 0, 10.5, 10])
    assert voted.scores.tolist() == [0.9, 0.6, 0.1]
    assert voted.indices.tolist() == [2, 0, 3]
    assert voted.landmarks is None
    assert box_voting(boxes, scores, 0.4, drop_singletons=True).indices.tolist() == [0]
    both = box_voting(boxes, scores, 0.4, drop_singletons=True, keep_last_singleton=True)
    assert both.indices.tolist() == [0, 3]
    assert box_voting(boxes, scores, 0.4, max_keep=1).indices.tolist() == [2]


def test_box_voting_moves_landmarks_with_their_boxes():
    rng = np.random.default_rng(4)
    boxes, scores = crowd(1, 60, 8, 10**6)
    inside = rng.random((60, 5, 2)).astype(np.float32)
    corner, side = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2])[:, None]
    voted = box_voting(boxes, scores, 0.4, landmarks=corner + 0 * inside)
    np.testing.assert_allclose(
        voted.landmarks, voted.boxes[:, None, :2].repeat(5, 1), rtol=1e-5, atol=1e-4
    )
    assert box_voting(boxes, scores, 0.4, landmarks=corner + side * inside).landmarks.shape[1:] == (
        5,
        2,
    )
    with pytest.raises(ValueError, match="60 boxes but 3 landmarks"):
        box_voting(boxes, scores, 0.4, landmarks=inside[:3])


def test_groups_without_any_score_are_averaged_plainly():
    voted = box_voting([[0, 0, 10, 10], [2, 0, 12, 10]], [0.0, 0.0], 0.4)
    assert voted.boxes.tolist() == [[1, 0, 11, 10]]


@pytest.mark.parametrize("function", [nms, box_voting])
def test_shapes_that_do_not_fit(function):
    with pytest.raises(ValueError, match=r"\(N,4\) and scores \(N,\)"):
        function(np.zeros((3, 4)), np.zeros(2), 0.4)
    with pytest.raises(ValueError, match=r"\(N,4\) and scores \(N,\)"):
        function(np.zeros((3, 5)), np.zeros(3), 0.4)
