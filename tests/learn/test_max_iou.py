"""`MaxIoU` looks around each face, and gives what the whole matrix of faces and anchors does."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import assigned, packed, target
from test_assigners import ANCHORS, GRID, RULES, SIZES, TALL, faces

from facefind.learn.assigners import BACKGROUND, IGNORED, MaxIoU
from facefind.learn.boxes import iou
from facefind.nn.anchors import AnchorGrid


def plainly(anchors, faces, rules):
    """`MaxIoU`, one anchor and one face at a time: its face, its highest IoU, its best face."""

    def overlap(a, b):
        inner = 1.0
        for axis in (0, 1):
            inner *= max(min(a[2 + axis], b[2 + axis]) - max(a[axis], b[axis]), 0)
        areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
        return inner / (sum(areas) - inner)

    table = np.array([[overlap(a, f) for f in faces] for a in anchors.boxes.double().numpy()])
    found = []
    for row in table:
        best = int(row.argmax())
        kind = IGNORED if row[best] >= rules.negative_iou else BACKGROUND
        found.append(best if row[best] >= rules.positive_iou else kind)
    if rules.low_quality_iou is not None:
        for face, column in enumerate(table.T):
            if column.max() >= rules.low_quality_iou and column.max() > 0:
                found[int(column.argmax())] = face
    return np.array(found), table.max(1), table.argmax(1)


def exact(boxes):
    """A batch of one image in float64, in which no two ways of computing an IoU differ."""
    targets = packed([target(boxes)], (128, 128))
    return replace(targets, boxes=targets.boxes.double())


@settings(max_examples=12, deadline=None)
@given(faces() | faces(longest=6.0), st.sampled_from(RULES), st.booleans())
def test_max_iou_equals_the_plain_one(boxes, rules, tall):
    anchors = (TALL if tall else GRID)(SIZES)
    got = rules.assign(anchors, exact(boxes))
    if not len(boxes):
        assert (got.face == BACKGROUND).all()
        assert got.box_face is None or (got.box_face == -1).all()
        return
    want, overlap, nearest = plainly(anchors, boxes.astype(float), rules)
    assert np.array_equal(got.face[0].numpy(), want)
    if rules.box_iou is None:
        assert got.box_face is None
    else:
        learned = np.where(overlap >= rules.box_iou, nearest, -1)
        assert np.array_equal(got.box_face[0].numpy(), learned)


def in_full(anchors, boxes, rules):
    """`MaxIoU` from the whole matrix of faces and anchors: faces and box faces (A,)."""
    whole = iou(boxes[:, None], anchors.boxes.double())
    best, nearest = whole.max(0)
    found = torch.where(best < rules.negative_iou, BACKGROUND, IGNORED)
    found = torch.where((best >= rules.positive_iou) & (best > 0), nearest, found)
    if rules.low_quality_iou is not None:
        for face, (value, anchor) in enumerate(zip(*whole.max(1), strict=True)):
            if value >= rules.low_quality_iou and value > 0:
                found[anchor] = face
    learned = None
    if rules.box_iou is not None:
        learned = torch.where(best >= rules.box_iou, nearest, -1)
    return found, learned


@st.composite
def elongated(draw):
    """Faces (G,4) float32 from 1:6 to 6:1, of any size, many across the border."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    count = draw(st.integers(1, 40))
    centers = np.where(
        rng.random((count, 1)) < 0.3,
        rng.choice([-6.0, 0, 127, 134], (count, 2)) + rng.uniform(-3, 3, (count, 2)),
        rng.uniform(-8, 136, (count, 2)),
    )
    side = np.exp(rng.uniform(np.log(2), np.log(600), (count, 1)))
    aspect = np.exp(rng.uniform(-0.5, 0.5, (count, 1)) * np.log(6))
    half = np.concatenate([side * aspect, side / aspect], 1) / 2
    return np.concatenate([centers - half, centers + half], 1).astype(np.float32)


WINDOWED = [
    *RULES,
    *(MaxIoU(0.5, 0.4, low_quality_iou=iou) for iou in (0.1, 0.12, 0.15, 0.2)),
    MaxIoU(0.9, 0.8),
    MaxIoU(0.5, 0.3, box_iou=0.1),
    MaxIoU(0.1, 0.05),
]


@settings(max_examples=150, deadline=None)
@given(elongated(), st.sampled_from(WINDOWED), st.booleans(), st.sampled_from([0.0, 8.0, None]))
def test_anchors_around_a_face_are_all_that_matter(boxes, rules, tall, offset):
    """Looking around each face gives what the whole matrix of faces and anchors gives."""
    anchors = replace(TALL if tall else GRID, offset=offset)(SIZES)
    targets = exact(boxes)
    got = rules.assign(anchors, targets)
    face, learned = in_full(anchors, targets.boxes, rules)
    assert torch.equal(got.face[0], face)
    assert (got.box_face is None) == (learned is None)
    assert learned is None or torch.equal(got.box_face[0], learned)


@pytest.mark.parametrize("rules", WINDOWED)
def test_the_window_reaches_the_last_anchor_that_matters(rules):
    """A face as wide as can be, flush with an anchor: it overlaps by exactly the least IoU."""
    limits = (rules.positive_iou, rules.negative_iou, rules.low_quality_iou, rules.box_iou)
    least = min(limit for limit in limits if limit is not None)
    anchors = AnchorGrid((8,), ((16.0,),), 4.0)([(40, 40)])
    (level,) = anchors.levels
    for axis in (0, 1):
        for sign in (-1, 1):
            for shift in (0.0, 3.9, -3.9):
                place = 20 * 40 + 20
                anchor = anchors.boxes[place].double()
                box = anchor.clone()
                low, high = (axis, 2 + axis) if sign > 0 else (2 + axis, axis)
                box[low] += shift  # nearly the least IoU, wherever the face's center rounds to
                box[high] += sign * (16 / (least + 1e-6) - 16)
                index = rules._around(level, box[None])
                if iou(box, anchor) >= least:
                    assert (index == place).any()
    assert index.shape[1] < len(anchors) or least < 0.15


def test_max_iou_of_a_hundred_faces():
    rng = np.random.default_rng(0)
    corners = torch.from_numpy(rng.uniform(0, 100, (100, 2)))
    boxes = torch.cat([corners, corners + torch.from_numpy(rng.uniform(8, 60, (100, 2)))], 1)
    rules = MaxIoU(low_quality_iou=0.2, box_iou=0.01)
    targets = replace(packed([target(boxes)], (128, 128)), boxes=boxes)
    got = rules.assign(ANCHORS, targets)
    whole = iou(boxes[:, None], ANCHORS.boxes.double())
    some = whole.amax(0) >= 0.01
    assert torch.equal(got.box_face[0] >= 0, some)
    assert torch.equal(got.box_face[0, some], whole.argmax(0)[some])
    value, anchor = whole.max(1)
    for face in range(100):
        last = all(anchor[later] != anchor[face] for later in range(face + 1, 100))
        if value[face] >= 0.2 and last:
            assert got.face[0, anchor[face]] == face


def test_a_face_without_area_is_forced_on_nothing():
    flat = torch.tensor([[20.0, 20, 20, 40]])
    assert (assigned(MaxIoU(low_quality_iou=0.0), ANCHORS, flat) < 0).all()
