"""Modulated deformable convolution, one output and one tap at a time, in float64."""

from __future__ import annotations

import math

import numpy as np


def pixel(image, y, x):
    """The value of one channel between pixels at whole numbers, zero beyond the edges."""
    top, left = math.floor(y), math.floor(x)
    value = 0.0
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                value += (1 - abs(y - row)) * (1 - abs(x - column)) * image[row, column]
    return value


def convolve(x, offsets, mask, weight, bias, stride, padding):
    batch, channels = x.shape[:2]
    outputs, _, high, wide = weight.shape
    rows, columns = offsets.shape[-2:]
    result = np.zeros((batch, outputs, rows, columns)) + bias[:, None, None]
    for b, o, i, j in np.ndindex(*result.shape):
        for c in range(channels):
            for p in range(high):
                for q in range(wide):
                    tap = p * wide + q
                    y = i * stride - padding + p + offsets[b, 2 * tap, i, j]
                    z = j * stride - padding + q + offsets[b, 2 * tap + 1, i, j]
                    value = mask[b, tap, i, j] * pixel(x[b, c], y, z)
                    result[b, o, i, j] += weight[o, c, p, q] * value
    return result
