import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import atss as oracle

from facefind.learn.assigners import BACKGROUND, LEFT_OUT, atss, by_iou, inside_any, simota
from facefind.learn.boxes import iou
from facefind.nn.anchors import square_anchors

ANCHORS = square_anchors([(16, 16), (8, 8), (4, 4)], (8, 16, 32), ((16, 32), (64, 128), (256, 512)))


@st.composite
def faces(draw):
    # Odd fractions keep centers off the grid's lines of symmetry, where ties have no one answer.
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


def plainly(anchor_boxes, faces, positive, negative, plus_one, force):
    """`by_iou`, one anchor and one face at a time."""

    def side(box, axis):
        return box[2 + axis] - box[axis] + plus_one

    def overlap(a, b):
        inner = 1.0
        for axis in (0, 1):
            inner *= max(min(a[2 + axis], b[2 + axis]) - max(a[axis], b[axis]) + plus_one, 0)
        union = side(a, 0) * side(a, 1) + side(b, 0) * side(b, 1) - inner
        return inner / union

    table = np.array([[overlap(a, f) for f in faces] for a in anchor_boxes])
    assigned = []
    for row in table:
        best = int(row.argmax())
        kind = LEFT_OUT if row[best] >= negative else BACKGROUND
        assigned.append(best if row[best] >= positive else kind)
    for face, column in enumerate(table.T):
        if force is not None and column.max() >= force:
            assigned[int(column.argmax())] = face
    return np.array(assigned), table.max(1)


@settings(max_examples=15, deadline=None)
@given(faces(), st.booleans(), st.sampled_from([None, 0.1, 0.35]))
def test_by_iou_equals_the_plain_one(boxes, plus_one, force):
    got = by_iou(
        ANCHORS.corners(plus_one=plus_one).double(),
        torch.from_numpy(boxes).double(),
        positive=0.5,
        negative=0.3,
        plus_one=plus_one,
        force=force,
    )
    if not len(boxes):
        assert (got.assigned == BACKGROUND).all()
        assert (got.nearest == -1).all()
        assert (got.overlap == 0).all()
        return
    want, overlap = plainly(
        ANCHORS.corners(plus_one=plus_one).double().numpy(),
        boxes.astype(float),
        0.5,
        0.3,
        plus_one,
        force,
    )
    assert np.array_equal(got.assigned.numpy(), want)
    np.testing.assert_allclose(got.overlap.numpy(), overlap, atol=1e-12)
    assert (got.nearest >= 0).all()


def test_by_iou_takes_faces_a_few_at_a_time():
    rng = np.random.default_rng(0)
    corners = torch.from_numpy(rng.uniform(0, 100, (100, 2)))
    boxes = torch.cat([corners, corners + torch.from_numpy(rng.uniform(8, 60, (100, 2)))], 1)
    got = by_iou(ANCHORS.boxes.double(), boxes, positive=0.5, negative=0.3, force=0.2)
    whole = iou(boxes[:, None], ANCHORS.boxes.double())
    assert torch.equal(got.overlap, whole.max(0).values)
    assert torch.equal(got.nearest, whole.argmax(0))
    value, anchor = whole.max(1)
    for face in range(100):
        last = all(anchor[later] != anchor[face] for later in range(face + 1, 100))
        if value[face] >= 0.2 and last:
            assert got.assigned[anchor[face]] == face


def test_a_face_without_area_is_forced_on_nothing():
    flat = torch.tensor([[20.0, 20, 20, 40]])
    assert (by_iou(ANCHORS.boxes, flat, positive=0.5, negative=0.3, force=0.0).assigned < 0).all()


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
    near = boxes[rng.integers(0, 5, len(ANCHORS.centers))]
    predicted = (near + rng.normal(0, 6, near.shape)).astype(np.float32)
    scores = rng.uniform(0.01, 0.99, len(near)).astype(np.float32)
    got = simota(ANCHORS, *(torch.from_numpy(a) for a in (boxes, predicted, scores)))
    assert np.array_equal(got.numpy(), plain_simota(boxes, predicted, scores))


def test_simota_takes_more_anchors_where_predictions_are_good_and_none_without_faces() -> None:
    count = len(ANCHORS.centers)
    box, scores = torch.tensor([[30.0, 30, 90, 90]]), torch.full((count,), 0.5)
    good = simota(ANCHORS, box, box.expand(count, 4), scores)
    poor = simota(ANCHORS, box, torch.tensor([[0.0, 0, 10, 10]]).expand(count, 4), scores)
    assert (good >= 0).sum() == 10
    assert (poor >= 0).sum() == 1
    assert (simota(ANCHORS, torch.zeros(0, 4), box.expand(count, 4), scores) == -1).all()
