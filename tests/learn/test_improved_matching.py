"""DSFD's improved anchor matching: a certain anchor for each face, compensation, anchor crops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from kinds import assigned, packed, target

from facefind.learn.assigners import BACKGROUND, MaxIoU
from facefind.learn.augment import draw_anchor_window, draw_view, view_labels
from facefind.learn.boxes import iou
from facefind.learn.labels import Labels
from facefind.learn.recipe import AugmentConfig
from facefind.nn.anchors import AnchorGrid
from facefind.systems.dsfd import CRITERION, ROWS

GRID = AnchorGrid((4, 8, 16, 32, 64, 128), ROWS["dsfd-r50"].sizes, None)
ANCHORS = GRID([(128 // stride, 128 // stride) for stride in GRID.strides])
RULES = CRITERION.assigner.build()


def random_faces(seed: int, count: int = 9) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    centers = rng.uniform(0, 128, (count, 2))
    side = np.exp(rng.uniform(np.log(2), np.log(200), (count, 1)))
    aspect = np.exp(rng.uniform(-0.6, 0.6, (count, 1)))
    half = np.concatenate([side * aspect, side / aspect], 1) / 2
    return torch.from_numpy(np.concatenate([centers - half, centers + half], 1)).float()


def plainly(boxes: torch.Tensor, anchors: torch.Tensor, at_least: int) -> np.ndarray:
    """Face of each anchor, one face after the other: IoU 0.4, best forced, then compensation."""
    whole = iou(boxes[:, None], anchors).numpy()
    found = np.where(whole.max(0) >= 0.4, whole.argmax(0), BACKGROUND)
    for face, row in enumerate(whole):
        if row.max() > 0:
            found[row.argmax()] = face
    if not at_least:
        return found
    claims: dict[int, list[tuple[float, int]]] = {}
    for face, row in enumerate(whole):
        lacking = at_least - int((found == face).sum())
        free = [a for a in np.argsort(-row, kind="stable") if found[a] < 0 and row[a] >= 0.1]
        for anchor in free[: max(lacking, 0)]:
            claims.setdefault(int(anchor), []).append((row[anchor], face))
    for anchor, of in claims.items():
        found[anchor] = max(of)[1]
    return found


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("at_least", [0, 6])
def test_matching_equals_a_plain_one(seed, at_least):
    boxes = random_faces(seed)
    rules = replace(RULES, at_least=at_least)
    # float64, in which no two ways of computing an IoU differ
    targets = packed([target(boxes)], (128, 128))
    targets = replace(targets, boxes=targets.boxes.double())
    anchors = replace(ANCHORS, centers=ANCHORS.centers.double(), sizes=ANCHORS.sizes.double())
    got = rules.assign(anchors, targets).face[0].numpy()
    assert np.array_equal(got, plainly(boxes.double(), anchors.boxes, at_least))


@pytest.mark.parametrize("seed", range(6))
def test_every_face_is_certain_of_an_anchor_and_compensated_up_to_six(seed):
    boxes = random_faces(seed, 3)
    certain = assigned(RULES, ANCHORS, boxes)
    six = assigned(replace(RULES, at_least=6), ANCHORS, boxes)
    overlap = iou(boxes[:, None], ANCHORS.boxes)
    for face in range(3):
        assert (certain == face).sum() >= 1
        eligible = int(((overlap[face] >= 0.1) & ((certain == face) | (certain < 0))).sum())
        had = int((certain == face).sum())
        assert (six == face).sum() >= min(had, 6)
        assert (six == face).sum() <= max(had, min(6, eligible))
    assert ((certain >= 0) <= (six >= 0)).all()


def test_a_certain_match_does_not_look_at_all_anchors():
    """With a least IoU of 0 the anchors around a face are still few."""
    grid = GRID([(640 // stride, 640 // stride) for stride in GRID.strides])
    boxes = random_faces(0) * 5
    for rules in (RULES, replace(RULES, at_least=6)):
        index = torch.cat([rules._around(level, boxes) for level in grid.levels], 1)
        assert index.shape[1] < 600 < len(grid)
        best = iou(boxes[:, None], grid.boxes).amax(1)
        assert torch.allclose(iou(boxes[:, None], grid.boxes[index]).amax(1), best)
    assert MaxIoU().at_least == 0


def labels(*boxes) -> Labels:
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    count = len(corners)
    return Labels(corners, np.full((count, 5, 2), np.nan, np.float32), np.zeros(count, bool))


CONFIG = AugmentConfig(crop_policy="anchor", anchor_prob=1.0, color=False, flip=0)


@pytest.mark.parametrize(("face", "targets", "above"), [
    (10, {16, 32}, 1), (20, {16, 32}, 1), (30, {16, 32, 64}, 1), (100, {16, 32, 64, 128, 256}, 1),
    (500, {16, 32, 64, 128, 256, 512}, 1), (20, {16}, 0), (20, {16, 32, 64, 128, 256, 512}, 5),
])  # fmt: skip
def test_a_face_is_shown_at_the_size_of_an_anchor_not_far_above_the_nearest(face, targets, above):
    rng = np.random.default_rng(0)
    one = labels([250, 200, 250 + face, 200 + face])
    seen = set()
    for _ in range(120):
        view = draw_view(replace(CONFIG, anchor_above=above), (800, 900), one, rng)
        (box,) = view_labels(view, one, replace(CONFIG, clip_boxes=False)).boxes
        side = float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
        near = min(targets, key=lambda t: abs(t - side))
        # whole pixels of the original, of which a small face has few
        assert side == pytest.approx(near, rel=0.03)
        seen.add(near)
    assert seen == targets


def test_sizes_are_continuous_with_octaves_and_the_window_holds_the_face():
    config = replace(CONFIG, anchor_octaves=1.0, size=320)
    rng = np.random.default_rng(1)
    boxes = [[40, 30, 70, 75], [500, 200, 620, 380], [780, 560, 799, 599]]
    several = labels(*boxes)
    sides, chosen = [], set()
    for _ in range(300):
        window = draw_anchor_window((600, 800), several, config, rng, 320)
        low = np.array([window.left, window.top])
        for number, (x1, y1, x2, y2) in enumerate(boxes):
            if (low <= [x1, y1]).all() and (low + window.side >= [x2, y2]).all():
                chosen.add(number)
        inside = window.side <= 600
        assert (low >= 0).all() if inside else (low[1] <= 0 and low[1] + window.side >= 600)
        sides.append(window.side)
    assert chosen == {0, 1, 2}
    assert len(set(sides)) > 100
    assert max(sides) > 1200
    assert min(sides) < 120


def test_faces_larger_than_the_window_and_images_without_faces():
    rng = np.random.default_rng(2)
    long = labels([100, 0, 140, 600])  # 155 pixels by area: at 256 of 320 the window is 194 high
    for _ in range(50):
        window = draw_anchor_window((600, 300), long, replace(CONFIG, size=320), rng, 320)
        assert window.top >= 0 or window.side > 600
    nothing = draw_view(CONFIG, (300, 400), labels(), rng)
    assert nothing.size == (640, 640)
    ignored = replace(labels([10, 10, 50, 50]), ignore=np.ones(1, bool))
    assert draw_view(CONFIG, (300, 400), ignored, rng).size == (640, 640)


def test_crops_go_by_anchors_with_the_given_probability():
    rng = np.random.default_rng(3)
    config = replace(CONFIG, anchor_prob=0.4, crop_sides=(0.5,))
    one = labels([60, 60, 76, 76])
    widths = [draw_view(config, (200, 300), one, rng).width for _ in range(800)]
    assert np.mean([width != 100 for width in widths]) == pytest.approx(0.4, abs=0.05)
