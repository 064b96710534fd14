"""ATSS written plainly, one face and one candidate at a time: the oracle of `learn.assigners`."""

from __future__ import annotations

import math

import numpy as np


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inner = max(width, 0) * max(height, 0)
    areas = [max(c[2] - c[0], 0) * max(c[3] - c[1], 0) for c in (a, b)]
    union = areas[0] + areas[1] - inner
    return inner / max(union, 1e-9)


def assign(
    centers: np.ndarray,
    anchor_boxes: np.ndarray,
    per_level: tuple[int, ...],
    faces: np.ndarray,
    topk: int = 9,
) -> np.ndarray:
    best = np.full(len(centers), -1.0)
    owner = np.full(len(centers), -1)
    for number, face in enumerate(faces):
        middle = np.array([(face[0] + face[2]) / 2, (face[1] + face[3]) / 2])
        candidates: list[int] = []
        start = 0
        for count in per_level:
            distances = [math.dist(centers[start + i], middle) for i in range(count)]
            nearest = np.argsort(np.array(distances), kind="stable")[:topk]
            candidates += [start + int(i) for i in nearest]
            start += count
        values = [overlap(face, anchor_boxes[i]) for i in candidates]
        threshold = float(np.mean(values) + np.std(values, ddof=1))
        side = math.sqrt(max(face[2] - face[0], 0) * max(face[3] - face[1], 0))
        for index, value in zip(candidates, values, strict=True):
            x, y = centers[index]
            nearest_side = min(x - face[0], y - face[1], face[2] - x, face[3] - y)
            if value >= threshold and nearest_side > 0.001 * side and value > best[index]:
                best[index], owner[index] = value, number
    return owner
