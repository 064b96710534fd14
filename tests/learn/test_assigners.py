import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import atss as oracle

from facefind.learn.assigners import atss, inside_any
from facefind.nn.anchors import square_anchors

ANCHORS = square_anchors([(16, 16), (8, 8), (4, 4)], (8, 16, 32), ((16, 32), (64, 128), (256, 512)))


@st.composite
def faces(draw):
    # Odd fractions keep centres off the grid's lines of symmetry, where ties have no one answer.
    seed = draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    count = draw(st.integers(0, 12))
    corners = rng.uniform(-10, 120, (count, 2))
    sides = np.exp(rng.uniform(np.log(3), np.log(120), (count, 2)))
    return np.concatenate([corners, corners + sides], 1).astype(np.float32)


@settings(max_examples=150, deadline=None)
@given(faces())
def test_equals_the_plain_oracle(boxes):
    got = atss(ANCHORS, torch.from_numpy(boxes)).numpy()
    want = oracle.assign(
        ANCHORS.centers.numpy().astype(float),
        ANCHORS.boxes.numpy().astype(float),
        ANCHORS.per_level,
        boxes.astype(float),
    )
    # float32 and float64 may part over a candidate that lies exactly on the threshold
    assert (got != want).sum() <= 1
    assert ((got >= 0) == (want >= 0)).mean() > 0.999


def test_no_faces_no_positives():
    assert (atss(ANCHORS, torch.zeros(0, 4)) == -1).all()


def test_every_plain_face_gets_an_anchor():
    boxes = torch.tensor([[10.0, 12, 30, 34], [60, 50, 110, 115]])
    assigned = atss(ANCHORS, boxes)
    assert set(assigned.unique().tolist()) == {-1, 0, 1}


def test_a_contested_anchor_goes_to_the_better_face():
    boxes = torch.tensor([[40.0, 40, 74, 74], [40.0, 40, 72, 72]])  # the second fits 32 px better
    both, alone = atss(ANCHORS, boxes), atss(ANCHORS, boxes[:1])
    center = ((ANCHORS.centers - 56).abs().sum(1) == 0) & (ANCHORS.sizes == 32)
    assert (alone[center] == 0).all()
    assert (both[center] == 1).all()


def test_degenerate_face_is_harmless():
    assigned = atss(ANCHORS, torch.tensor([[20.0, 20, 20, 20]]))
    assert (assigned == -1).all()


@pytest.mark.parametrize(("point", "inside"), [((5.0, 5.0), True), ((11.0, 5.0), False)])
def test_inside_any(point, inside):
    regions = torch.tensor([[0.0, 0, 10, 10], [100, 100, 101, 101]])
    assert inside_any(torch.tensor([point]), regions).item() is inside
    assert not inside_any(torch.tensor([point]), regions[:0]).item()
