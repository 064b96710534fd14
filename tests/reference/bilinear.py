"""Bilinear resampling and warping, slow and in float64."""

from __future__ import annotations

import numpy as np


def at(image, y, x):
    """The value between pixel centers `i + 0.5`, edges repeated, at one point."""
    height, width = image.shape[:2]
    y, x = y - 0.5, x - 0.5
    top, left = int(np.floor(y)), int(np.floor(x))
    dy, dx = y - top, x - left
    value = 0.0
    for row, wy in ((top, 1 - dy), (top + 1, dy)):
        for column, wx in ((left, 1 - dx), (left + 1, dx)):
            pixel = image[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
            value = value + wy * wx * pixel
    return value


def resize(image, height, width, extent=None):
    """Block means where a side shrinks to a half or less, then bilinear at the exact scale."""
    high, wide = extent or image.shape[:2]
    step_y, step_x = high / height, wide / width
    by, bx = max(1, int(high // height)), max(1, int(wide // width))
    rows, columns = image.shape[0] // by, image.shape[1] // bx
    blocks = image[: rows * by, : columns * bx].reshape(rows, by, columns, bx, 3).astype(float)
    means = blocks.mean(axis=(1, 3))
    return np.array(
        [
            [at(means, (i + 0.5) * step_y / by, (j + 0.5) * step_x / bx) for j in range(width)]
            for i in range(height)
        ]
    )
