from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import assigned, packed, target
from reference import atss as oracle

from facefind.learn.assigners import (
    ATSS,
    BACKGROUND,
    IGNORED,
    MaxIoU,
    SimOTA,
    cells_around,
    inside_regions,
)
from facefind.learn.boxes import iou
from facefind.learn.targets import BatchTargets, Target
from facefind.nn.anchors import AnchorGrid
from facefind.nn.coders import DistanceCoder
from facefind.nn.detector import DenseOutput

SIZES = [(16, 16), (8, 8), (4, 4)]
GRID = AnchorGrid((8, 16, 32), ((16, 32), (64, 128), (256, 512)))
ANCHORS = GRID(SIZES)
TALL = AnchorGrid(GRID.strides, tuple(tuple((s, 1.5 * s) for s in sides) for sides in GRID.sizes))
"""The same, half as high again as they are wide."""


@st.composite
def faces(draw, most=12, longest=3.0):
    """Faces (G,4) float32, some of them beyond the image, up to `longest` times as long as wide."""
    # Odd fractions keep centers off the grid's lines of symmetry, where ties have no one answer.
    seed = draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    count = draw(st.integers(0, most))
    corners = rng.uniform(-10, 120, (count, 2))
    side = np.exp(rng.uniform(np.log(3), np.log(120), (count, 1)))
    aspect = np.exp(rng.uniform(-0.5, 0.5, (count, 1)) * np.log(longest))
    sides = np.concatenate([side * aspect, side / aspect], 1)
    return np.concatenate([corners, corners + sides], 1).astype(np.float32)


def output(boxes=None, scores=None, anchors=ANCHORS, images=1):
    """An output that predicts boxes (B,A,4) of scores (B,A)."""
    count, coder = len(anchors), DistanceCoder()
    boxes = torch.zeros(images, count, 4) if boxes is None else boxes
    scores = torch.full((images, count), 0.5) if scores is None else scores
    raw = coder.encode(boxes.double(), anchors)
    logits = scores.double().logit()[..., None]
    return DenseOutput(logits, raw, None, anchors, coder, torch.zeros(len(boxes), 3, 128, 128))


@settings(max_examples=150, deadline=None)
@given(faces(longest=1.0) | faces(longest=6.0))
def test_atss_equals_the_plain_oracle(boxes):
    got = assigned(ATSS(), ANCHORS, boxes).numpy()
    want = oracle.assign(
        ANCHORS.centers.numpy().astype(float),
        ANCHORS.boxes.numpy().astype(float),
        ANCHORS.per_level,
        boxes.astype(float),
    )
    # float32 and float64 may part over a candidate that lies exactly on the threshold
    assert (got != want).sum() <= 1
    assert ((got >= 0) == (want >= 0)).mean() > 0.999


@pytest.mark.parametrize("assigner", [ATSS(), MaxIoU(low_quality_iou=0.1)])
def test_no_faces_no_positives(assigner):
    assert (assigned(assigner, ANCHORS, torch.zeros(0, 4)) == BACKGROUND).all()


def test_every_plain_face_gets_an_anchor():
    boxes = torch.tensor([[10.0, 12, 30, 34], [60, 50, 110, 115]])
    assert set(assigned(ATSS(), ANCHORS, boxes).unique().tolist()) == {-1, 0, 1}


def test_a_contested_anchor_goes_to_the_better_face():
    boxes = torch.tensor([[40.0, 40, 74, 74], [40.0, 40, 72, 72]])  # the second fits 32 px better
    both, alone = assigned(ATSS(), ANCHORS, boxes), assigned(ATSS(), ANCHORS, boxes[:1])
    center = ((ANCHORS.centers - 56).abs().sum(1) == 0) & (ANCHORS.sizes[:, 0] == 32)
    assert (alone[center] == 0).all()
    assert (both[center] == 1).all()


def test_degenerate_face_is_harmless():
    for flat in ([20.0, 20, 20, 20], [20.0, 20, 20, 60], [40.0, 40, 20, 20]):
        assert (assigned(ATSS(), ANCHORS, [flat]) == -1).all()


@pytest.mark.parametrize("topk", [1, 9, 15, 60, 200])
@pytest.mark.parametrize("per_cell", [1, 2, 3])
@pytest.mark.parametrize("size", [(13, 17), (1, 30), (25, 2), (3, 9)])
def test_the_nearest_anchors_are_those_of_the_whole_level(topk, per_cell, size):
    """Whatever their number, for centers on the map and a cell beyond it."""
    sides = tuple(16.0 * (number + 1) for number in range(per_cell))
    grid = AnchorGrid((8,), (sides,), None)([size])
    rng = np.random.default_rng(topk)
    centers = torch.from_numpy(rng.uniform(-8, (size[1] * 8 + 8, size[0] * 8 + 8), (200, 2)))
    index = ATSS(topk)._nearest(grid.levels[0], torch.cat([centers - 9, centers + 9], 1))
    distance = torch.cdist(centers, grid.centers.double())
    want = distance.sort(dim=1, stable=True).values[:, :topk]
    assert index.shape[1] == min(topk, len(grid))
    torch.testing.assert_close(distance.gather(1, index), want, atol=1e-5, rtol=0)
    assert all(len(set(row)) == len(row) for row in index.tolist())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 4.0, 8.0, None]))
def test_inside_regions_equals_a_test_of_every_anchor(seed, offset):
    rng = np.random.default_rng(seed)
    anchors = replace(GRID, offset=offset)(SIZES)
    centers, targets = anchors.centers.tolist(), []
    images = int(rng.integers(1, 4))
    for _ in range(images):
        count = rng.integers(0, 5)
        # Multiples of 4 have sides on the anchors' centers, which are inside.
        low = rng.choice([rng.uniform(-60, 150, (count, 2)), 4 * rng.integers(-9, 36, (count, 2))])
        sides = rng.choice([rng.uniform(-5, 90, (count, 2)), 8 * rng.integers(0, 9, (count, 2))])
        targets.append(target(torch.zeros(0, 4), np.concatenate([low, low + sides], 1)))
    got = inside_regions(anchors, packed(targets, (128, 128)))
    want = torch.zeros(images, len(anchors), dtype=torch.bool)
    for image, one in enumerate(targets):
        regions = one.ignore.tolist()
        for number, (x, y) in enumerate(centers):
            want[image, number] = any(a <= x <= c and b <= y <= d for a, b, c, d in regions)
    assert torch.equal(got, want)


RULES = [
    MaxIoU(),
    MaxIoU(low_quality_iou=0.1),
    MaxIoU(low_quality_iou=0.35),
    MaxIoU(0.35, 0.35, low_quality_iou=0.2),
    MaxIoU(0.4, 0.4, box_iou=0.3),
    MaxIoU(0.7, 0.3, low_quality_iou=0.15, box_iou=0.2),
]


def test_anchors_beyond_the_image_are_ignored_unless_all_are():
    rules, face = MaxIoU(inside_image=True, box_iou=0.3), [30.0, 30, 60, 60]
    targets = [replace(target([face]), size=(100, 80)), target([]), target([face])]
    got = rules.assign(ANCHORS, packed(targets, (128, 128)))
    free = replace(rules, inside_image=False).assign(ANCHORS, packed(targets, (128, 128)))
    boxes = ANCHORS.boxes
    for image, (height, width) in enumerate([(100, 80), (128, 128), (128, 128)]):
        within = (boxes[:, :2] >= 0).all(1) & (boxes[:, 2] <= width) & (boxes[:, 3] <= height)
        assert torch.equal(got.face[image], torch.where(within, free.face[image], IGNORED))
        assert torch.equal(got.box_face[image], torch.where(within, free.box_face[image], -1))
    nowhere = replace(target([]), size=(12, 12))
    both = rules.assign(ANCHORS, packed([nowhere, target([])], (128, 128))).face
    assert (both[0] == BACKGROUND).all()  # none lies inside: all count
    assert (both[1] == IGNORED).any()


def plain_simota(boxes: np.ndarray, predicted: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """SimOTA one face and one anchor at a time."""
    centers, strides = ANCHORS.centers.numpy(), ANCHORS.strides.numpy()
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = [[b[0] < x < b[2] and b[1] < y < b[3] for x, y in centers] for b in boxes]
    near = [
        [
            max(abs(x - m[0]), abs(y - m[1])) < 2.5 * s
            for (x, y), s in zip(centers, strides, strict=True)
        ]
        for m in middles
    ]
    candidates = np.flatnonzero(np.any(inside, 0) | np.any(near, 0))
    claims: dict[int, list[tuple[float, int]]] = {}
    for face, box in enumerate(boxes):
        costs, overlaps = {}, []
        for a in candidates:
            shared = float(iou(torch.from_numpy(box), torch.from_numpy(predicted[a])))
            overlaps.append(shared)
            if inside[face][a] or near[face][a]:
                cost = -np.log(max(scores[a], 1e-6)) - 3 * np.log(max(shared, 1e-8))
                costs[a] = cost + 1e5 * (not (inside[face][a] and near[face][a]))
        wanted = max(int(sum(sorted(overlaps)[-10:])), 1)
        for a in sorted(costs, key=lambda a: (costs[a], a))[:wanted]:
            claims.setdefault(a, []).append((costs[a], face))
    assigned = np.full(len(centers), -1)
    for a, of in claims.items():
        assigned[a] = min(of)[1]
    return assigned


@pytest.mark.parametrize("seed", range(4))
def test_simota_agrees_with_a_plain_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 90, (5, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(4, 60, (5, 2))], 1).astype(np.float32)
    near = boxes[rng.integers(0, 5, len(ANCHORS))]
    predicted = (near + rng.normal(0, 6, near.shape)).astype(np.float32)
    scores = rng.uniform(0.01, 0.99, len(near)).astype(np.float32)
    predictions = output(torch.from_numpy(predicted)[None], torch.from_numpy(scores)[None])
    got = SimOTA()(predictions, packed([target(boxes)], (128, 128))).face[0]
    assert np.array_equal(got.numpy(), plain_simota(boxes, predicted, scores))


def test_simota_takes_more_anchors_where_predictions_are_good_and_none_without_faces() -> None:
    count = len(ANCHORS)
    box = torch.tensor([[30.0, 30, 90, 90]])
    good, poor = (
        output(predicted.expand(1, count, 4))
        for predicted in (box, torch.tensor([[0.0, 0, 10, 10]]))
    )
    assert (SimOTA()(good, packed([target(box)])).face >= 0).sum() == 10
    assert (SimOTA()(poor, packed([target(box)])).face >= 0).sum() == 1
    assert (SimOTA(max_anchors=4)(good, packed([target(box)])).face >= 0).sum() == 4
    assert (SimOTA()(good, packed([Target.empty()])).face == BACKGROUND).all()


def random_batch(seed):
    """Four images, two without faces, with predictions near their faces."""
    rng = np.random.default_rng(seed)
    targets, predicted = [], []
    for count in (5, 0, 7, 0):
        corners = rng.uniform(-5, 90, (count, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(6, 80, (count, 2))], 1)
        targets.append(replace(target(boxes), size=(128, 96 if count == 7 else 128)))
        near = boxes if count else rng.uniform(0, 128, (3, 4))
        near = near[rng.integers(0, len(near), len(ANCHORS))]
        predicted.append(near + rng.normal(0, 6, near.shape))
    scores = torch.from_numpy(rng.uniform(0.01, 0.99, (4, len(ANCHORS))))
    return targets, output(torch.from_numpy(np.stack(predicted)), scores)


def with_padding(targets: BatchTargets) -> BatchTargets:
    """The same with faces without area among the others, as where shapes are to stay the same."""
    flat = torch.tensor([[0.0, 0, 0, 0], [40, 40, 40, 90], [60, 60, 50, 50], [-9, 500, -9, 500]])
    order = torch.arange(len(targets.boxes) + 4).roll(2)  # first and last, and in every image
    joined = {
        "boxes": torch.cat([targets.boxes, flat]),
        "landmarks": torch.cat([targets.landmarks, torch.zeros(4, 5, 2)]),
        "visible": torch.cat([targets.visible, torch.zeros(4, 5, dtype=torch.bool)]),
        "image": torch.cat([targets.image, torch.tensor([0, 1, 2, 3])]),
    }
    return replace(targets, **{name: value[order] for name, value in joined.items()})


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("assigner", [ATSS(), SimOTA(), *RULES, MaxIoU(0.4, 0.3, 0.2, 0.3, True)])
@pytest.mark.parametrize("padded", [False, True])
def test_a_batch_is_assigned_as_each_image_alone(assigner, seed, padded):
    targets, whole = random_batch(seed)
    batch = packed(targets, (128, 128))
    batch = with_padding(batch) if padded else batch
    together = assigner(whole, batch)
    for number, one in enumerate(targets):
        row = slice(number, number + 1)
        single = replace(whole, logits=whole.logits[row], boxes=whole.boxes[row])
        alone = assigner(single, packed([one], (128, 128)))
        for got, want in ((together.face, alone.face), (together.box_face, alone.box_face)):
            if want is None:
                assert got is None
                continue
            got, want = got[number], want[0]
            assert torch.equal(got.clamp(max=0), want.clamp(max=0))
            learned = got >= 0
            assert (batch.image[got[learned]] == number).all()
            assert torch.equal(batch.boxes[got[learned]], one.boxes[want[learned]])
        assert (together.face[number] >= 0).any() == bool(len(one.boxes))


def test_cells_around_are_all_within_reach_and_equally_many():
    (level,) = AnchorGrid((8,), ((16,),), 4.0)([(6, 9)]).levels
    rng = np.random.default_rng(0)
    center = torch.from_numpy(rng.uniform(-40, 120, (200, 2)))
    row, column = cells_around(level, torch.cat([center - 5, center + 5], 1), (1, 2))
    assert row.shape == column.shape == (200, 15)
    for (x, y), rows, columns in zip(center.tolist(), row.tolist(), column.tolist(), strict=True):
        cells = set(zip(rows, columns, strict=True))
        assert len(cells) == 15
        assert all(0 <= r < 6 and 0 <= c < 9 for r, c in cells)
        middle = (round((y - 4) / 8), round((x - 4) / 8))
        for r in range(6):
            for c in range(9):
                if abs(r - middle[0]) <= 1 and abs(c - middle[1]) <= 2:
                    assert (r, c) in cells


def test_targets_are_packed_one_image_after_another():
    points = torch.rand(2, 5, 2)
    points[1, 3, 0] = torch.nan
    first = Target(torch.rand(2, 4), points, torch.rand(1, 4), (40, 50))
    last = target([[1, 2, 3, 4]], [[5, 6, 7, 8], [1, 1, 2, 2]])
    batch = packed([first, Target.empty(), last], (64, 96))
    assert len(batch) == 3
    assert batch.image.tolist() == [0, 0, 2]
    assert batch.ignore_image.tolist() == [0, 2, 2]
    assert batch.image_sizes.tolist() == [[40, 50], [64, 96], [64, 96]]
    assert batch.visible.sum(1).tolist() == [5, 4, 0]
    assert batch.landmarks.isfinite().all()
    assert torch.equal(batch.landmarks[0], points[0])
    assert torch.equal(batch.boxes, torch.cat([first.boxes, last.boxes]))
    none = packed([Target.empty()] * 2)
    assert (none.boxes.shape, none.visible.any().item(), len(none)) == ((1, 4), False, 2)
    assert (none.boxes == 0).all()
