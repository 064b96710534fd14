"""The released targets of SmallHardFace, rewritten plainly: boxes by first and last pixel, NumPy.

Anchors are windows of whole pixels, sides are x2 - x1 + 1 everywhere, centers x1 + side / 2, and
decoded corners are center -+ side / 2: what the Caffe code does, so that nothing here shares a
convention with facefind.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def anchors(rows: int, columns: int, stride: int = 8, scales: tuple[int, ...] = (1, 2, 4)) -> Array:
    """Windows (rows*columns*len(scales),4) around the pixels 0..15, moved by the stride."""
    found = []
    for y in range(rows):
        for x in range(columns):
            for scale in scales:
                middle, half = 7.5, (16 * scale - 1) / 2
                low, high = middle - half, middle + half
                found.append(
                    [low + stride * x, low + stride * y, high + stride * x, high + stride * y]
                )
    return np.array(found)


def sides(boxes: Array) -> tuple[Array, Array]:
    """Widths and heights with the last pixel counted."""
    return boxes[..., 2] - boxes[..., 0] + 1, boxes[..., 3] - boxes[..., 1] + 1


def overlap(first: Array, second: Array) -> float:
    """IoU of two boxes with the last pixel counted."""
    width = min(first[2], second[2]) - max(first[0], second[0]) + 1
    height = min(first[3], second[3]) - max(first[1], second[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    areas = [np.prod(sides(box)) for box in (first, second)]
    return float(width * height / (areas[0] + areas[1] - width * height))


def targets(
    windows: Array, faces: Array, height: int, width: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_], Array]:
    """Labels (A,), which anchors learn a box (A,), and the deltas (A,4) of these; before mining."""
    labels = np.full(len(windows), -1)
    regressed = np.zeros(len(windows), bool)
    deltas = np.zeros((len(windows), 4))
    inside = (windows[:, 0] >= 0) & (windows[:, 1] >= 0)
    inside &= (windows[:, 2] < width) & (windows[:, 3] < height)
    if not inside.any():
        inside[:] = True
    for index in np.flatnonzero(inside):
        overlaps = [overlap(windows[index], face) for face in faces] or [0.0]
        best = int(np.argmax(overlaps))
        if overlaps[best] >= 0.5:
            labels[index] = 1
        elif overlaps[best] < 0.3:
            labels[index] = 0
        if overlaps[best] >= 0.3:
            regressed[index] = True
            deltas[index] = encode(faces[best], windows[index])
    return labels, regressed, deltas


def encode(face: Array, window: Array) -> Array:
    """The four deltas of a face on an anchor."""
    (w, h), (a, b) = sides(face), sides(window)
    x, y = face[0] + w / 2, face[1] + h / 2
    p, q = window[0] + a / 2, window[1] + b / 2
    return np.array([(x - p) / a, (y - q) / b, np.log(w / a), np.log(h / b)])


def decode(deltas: Array, window: Array) -> Array:
    """The box of four deltas on an anchor; unlike `encode`, corners are center -+ half a side."""
    a, b = sides(window)
    x, y = window[0] + a / 2 + deltas[0] * a, window[1] + b / 2 + deltas[1] * b
    w, h = np.exp(deltas[2]) * a, np.exp(deltas[3]) * b
    return np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])


def losses(
    logits: Array,
    deltas: Array,
    labels: NDArray[np.int64],
    regressed: NDArray[np.bool_],
    goal: Array,
) -> tuple[float, float, float]:
    """Classification, box loss and weakest positive of one image, mining by plain sorting."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    face = shifted[:, 1] / shifted.sum(1)
    positives = np.flatnonzero(labels == 1)
    weakest = face[positives].min() if len(positives) else np.nan
    kept = positives[np.argsort(face[positives])][:64]
    negatives = np.flatnonzero(labels == 0)
    negatives = negatives[np.argsort(-face[negatives])][: 256 - len(kept)]
    entropy = np.concatenate([-np.log(face[kept]), -np.log(1 - face[negatives])])
    gap = np.abs(deltas[regressed] - goal[regressed])
    smooth = np.where(gap < 1 / 9, 4.5 * gap**2, gap - 1 / 18)
    box = smooth.sum() / max(regressed.sum(), 1)
    return float(entropy.mean()), float(box), float(weakest)
