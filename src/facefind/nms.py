"""Ways to make one box of many over the same face: greedy NMS, soft-NMS and box voting.

All three take boxes (N,4) xyxy and scores (N,), work in the boxes' own dtype, and rank by falling
score; of equal scores the earlier index goes first. Empty boxes (no width or no height) overlap
nothing: they are kept and suppress nothing.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facefind.boxes import FloatArray, area, iou

__all__ = ["Voted", "box_voting", "nms", "soft_nms"]

_BLOCK = 64  # boxes that are compared with all that remain in one vectorized step


class Voted(NamedTuple):
    """What box voting gives, by falling score."""

    boxes: FloatArray
    """(K,4): score-weighted mean of each group."""
    scores: FloatArray
    """(K,): best score of each group."""
    indices: NDArray[np.int64]
    """(K,): which input box led each group."""
    landmarks: FloatArray | None
    """(K,...): score-weighted mean of the groups' landmarks where these were given."""


def nms(
    boxes: ArrayLike,
    scores: ArrayLike,
    iou_threshold: float,
    max_keep: int | None = None,
    *,
    containment: float | None = None,
    plus_one: bool = False,
) -> NDArray[np.int64]:
    """Indices of the boxes that survive greedy non-maximum suppression, (K,) by falling score.

    The best box is kept, all boxes whose IoU with it is greater than `iou_threshold` are removed,
    and so on with what remains. Memory grows with N, not with its square.

    A box far smaller than the kept one has a low IoU with it even where it lies inside: an eye or a
    mouth taken for a face within the whole face. Such fragments go by `containment`.

    Args:
        boxes: (N,4) xyxy.
        scores: (N,).
        iou_threshold: Largest overlap that two kept boxes may have, 0..1.
        max_keep: Stop after so many boxes; None keeps all survivors.
        containment: Largest part of its area, 0..1, that a box may have inside a kept one that is
            at least as large: intersection over the smaller area. A box that is larger than the
            kept one is never removed for it. None looks at IoU alone.
        plus_one: Count `x2` and `y2` as the last pixels inside, as older codes do.
    """
    b, s = _checked(boxes, scores)
    limit = len(s) if max_keep is None else max_keep
    order = np.argsort(-s, kind="stable")
    corners = b[order].T.copy()  # four contiguous rows; the columns of suppressed boxes leave it
    areas = area(corners.T, plus_one=plus_one)
    kept: list[int] = []
    with np.errstate(all="ignore"):
        while order.size and len(kept) < limit:
            block = min(_BLOCK, order.size)
            over = _over(corners, areas, block, iou_threshold, containment, plus_one)
            leaders = _sweep(over[:, :block])
            kept.extend(order[leaders].tolist())
            if block == order.size:
                break
            alive = ~over[leaders, block:].any(axis=0)
            order = order[block:][alive]
            corners, areas = corners[:, block:][:, alive], areas[block:][alive]
    return np.array(kept[:limit], np.int64)


def soft_nms(
    boxes: ArrayLike,
    scores: ArrayLike,
    *,
    method: Literal["linear", "gaussian"] = "gaussian",
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 0.001,
) -> tuple[NDArray[np.int64], FloatArray]:
    """Indices (K,) and lowered scores (K,) after soft-NMS, in the order of selection.

    Instead of being removed, a box that overlaps a selected one has its score multiplied: by
    `1 - IoU` where IoU exceeds `iou_threshold` (linear), or by `exp(-IoU**2 / sigma)` (gaussian).
    Boxes whose score falls below `min_score` are removed.

    Source: Bodla et al., Soft-NMS, ICCV 2017.
    """
    b, s = _checked(boxes, scores)
    if method not in ("linear", "gaussian"):
        raise ValueError(f"method must be 'linear' or 'gaussian', got {method!r}")
    if sigma <= 0:
        raise ValueError(f"sigma must be positive, got {sigma}")
    left = np.flatnonzero(s >= min_score)
    weights = s[left].copy()
    selected: list[int] = []
    final: list[Any] = []
    while left.size:
        best = int(np.argmax(weights))
        selected.append(int(left[best]))
        final.append(weights[best])
        overlap = iou(b[left[best]][None], b[left])[0]
        if method == "linear":
            decay = np.where(overlap > iou_threshold, 1 - overlap, 1)
        else:
            decay = np.exp(-(overlap**2) / sigma)
        weights = (weights * decay).astype(s.dtype)
        alive = weights >= min_score
        alive[best] = False
        left, weights = left[alive], weights[alive]
    return np.array(selected, np.int64), np.array(final, s.dtype)


def box_voting(
    boxes: ArrayLike,
    scores: ArrayLike,
    iou_threshold: float,
    *,
    landmarks: ArrayLike | None = None,
    drop_singletons: bool = False,
    keep_last_singleton: bool = False,
    max_keep: int | None = None,
    plus_one: bool = False,
) -> Voted:
    """Groups of overlapping boxes, each merged into its score-weighted mean with its best score.

    The best box not yet used leads a group of all unused boxes whose IoU with it is at least
    `iou_threshold`. Weights are the scores; a group whose scores are all 0 is averaged plainly.

    Args:
        boxes: (N,4) xyxy, usually pooled from several scales and flips.
        scores: (N,).
        iou_threshold: Least overlap with the leader that makes a box vote, 0..1.
        landmarks: (N,...) points that are averaged with the same weights.
        drop_singletons: Leave out boxes that nothing else voted for.
        keep_last_singleton: With `drop_singletons`, keep a singleton that is the very last box.
        max_keep: Stop after so many groups; the RetinaFace and DSFD codes stop at 750.
        plus_one: Count `x2` and `y2` as the last pixels inside.

    Source: RetinaFace, sec. 4.2; SmallHardFace, sec. 4.1.
    Differs: both refer to Gidaris and Komodakis (arXiv:1505.01749), whose boxes survive NMS and are
    then averaged over all boxes around them, so that one may vote twice; here, as in the released
    codes of both, each votes once. These mean `drop_singletons=True, keep_last_singleton=True,
    plus_one=True` at an IoU of 0.4, and return no landmarks.
    """
    b, s = _checked(boxes, scores)
    points = None if landmarks is None else np.asarray(landmarks)
    if points is not None and len(points) != len(b):
        raise ValueError(f"{len(b)} boxes but {len(points)} landmarks")
    limit = len(s) if max_keep is None else max_keep
    order = np.argsort(-s, kind="stable")
    ranked = b[order]
    by_x = np.argsort(ranked[:, 0], kind="stable")
    first, last = _reach(ranked, ranked[by_x, 0], iou_threshold)
    free = np.ones(len(s), np.bool_)
    unused = len(s)
    leaders: list[int] = []
    groups: list[NDArray[np.intp]] = []
    for lead in range(len(s)):
        if not free[lead]:
            continue
        if len(leaders) >= limit:
            break
        near = by_x[first[lead] : last[lead]]
        near = near[free[near]]
        overlap = iou(ranked[lead : lead + 1], ranked[near], plus_one=plus_one)[0]
        group = near[(overlap >= iou_threshold) & (near != lead)]
        group = np.append(lead, np.sort(group))  # an empty box has IoU 0 with itself
        free[group] = False
        unused -= group.size
        if drop_singletons and group.size == 1 and not (keep_last_singleton and unused == 0):
            continue
        leaders.append(int(order[lead]))
        groups.append(order[group])
    indices = np.array(leaders, np.int64)
    return Voted(
        _means(b, s, groups),
        s[indices],
        indices,
        None if points is None else _means(points, s, groups),
    )


def _checked(boxes: ArrayLike, scores: ArrayLike) -> tuple[FloatArray, FloatArray]:
    b, s = np.asarray(boxes), np.asarray(scores)
    if b.size == 0 and s.size == 0:
        b, s = b.reshape(0, 4), s.reshape(0)
    if b.ndim != 2 or b.shape[1] != 4 or s.shape != b.shape[:1]:
        raise ValueError(f"expected boxes (N,4) and scores (N,), got {b.shape} and {s.shape}")
    if not np.issubdtype(b.dtype, np.floating):
        b = b.astype(np.float64)
    if not np.issubdtype(s.dtype, np.floating):
        s = s.astype(np.float64)
    return b, s


def _reach(
    boxes: FloatArray, lefts: FloatArray, iou_threshold: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For each box, where in the sorted left edges those begin and end that may overlap enough.

    At an IoU of t, two boxes share t of the wider one's width W, and the other is at least t W
    wide: its left edge is at most (1 - t) W to the right, and at most (1 / t - 1) W to the left.
    """
    if iou_threshold <= 0:
        return np.zeros(len(boxes), np.intp), np.full(len(boxes), len(boxes), np.intp)
    x1, x2 = boxes[:, 0].astype(np.float64), boxes[:, 2].astype(np.float64)
    width = np.maximum(x2 - x1, 0) + 1
    slack = 2 + 1e-4 * np.maximum(abs(x1), abs(x2))  # last pixels counted, and float32
    low = x1 - (1 / iou_threshold - 1) * width - slack
    high = x1 + (1 - iou_threshold) * width + slack
    return np.searchsorted(lefts, low, "left"), np.searchsorted(lefts, high, "right")


def _over(
    corners: FloatArray,
    areas: FloatArray,
    block: int,
    threshold: float,
    containment: float | None,
    plus_one: bool,
) -> NDArray[np.bool_]:
    """Which pairs of the first `block` boxes with all boxes overlap too much, (block,N).

    Most pairs lie apart: how much they share is computed for the others alone.
    """
    x1, y1, x2, y2 = corners
    right, bottom = (x2 + 2, y2 + 2) if plus_one else (x2, y2)
    over: NDArray[np.bool_] = x1[:block, None] < right
    over &= right[:block, None] > x1
    over &= y1[:block, None] < bottom
    over &= bottom[:block, None] > y1
    near = np.flatnonzero(over)
    one, other = np.divmod(near, len(x1))
    a, b = corners.take(one, axis=1), corners.take(other, axis=1)
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if plus_one:
        sides += 1
    width, height = np.maximum(sides, 0, out=sides)
    shared = width * height
    own, others = areas[one], areas[other]
    # Where the union is empty, so is the shared part: 0 / 0 is NaN, which exceeds nothing.
    found = shared / (own + others - shared) > threshold
    if containment is not None:
        found |= (shared > containment * others) & (others <= own)
    over.ravel()[near] = found
    return over


def _sweep(over: NDArray[np.bool_]) -> list[int]:
    """Rows of a square table of overlaps, best first, that no kept row before them suppresses."""
    gone = 0  # bit j is set where box j is suppressed
    packed = np.packbits(over, axis=1, bitorder="little")
    leaders = []
    for i, row in enumerate(packed):
        if not gone >> i & 1:
            leaders.append(i)
            gone |= int.from_bytes(row.tobytes(), "little")
    return leaders


def _means(values: FloatArray, scores: FloatArray, groups: list[NDArray[np.intp]]) -> FloatArray:
    out = np.empty((len(groups), *values.shape[1:]), values.dtype)
    for i, group in enumerate(groups):
        weights = scores[group].astype(np.float64)
        total = weights.sum()
        weights = weights / total if total > 0 else np.full(len(group), 1 / len(group))
        out[i] = np.tensordot(weights, values[group].astype(np.float64), axes=1)
    return out
