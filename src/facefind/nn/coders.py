"""Coders: between a network's raw numbers and boxes or points in input pixels.

Each decoder undoes its encoder. Legend: B batch, A anchors over all levels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def decode_distances(distances: Tensor, centers: Tensor, strides: Tensor) -> Tensor:
    """Boxes (...,A,4) xyxy from distances (...,A,4) left, top, right, bottom in strides.

    Args:
        distances: how far each side lies from the anchor's centre; may be negative.
        centers: (A,2) x, y in input pixels.
        strides: (A,) input pixels a unit of distance.

    Source: FCOS (arXiv:1904.01355), eq. 1; SCRFD regresses from the anchor's centre alike.
    """
    signs = distances.new_tensor([-1.0, -1.0, 1.0, 1.0])
    return centers.repeat(1, 2) + distances * (strides[:, None] * signs)


def encode_distances(boxes: Tensor, centers: Tensor, strides: Tensor) -> Tensor:
    """Distances (...,A,4) in strides from boxes (...,A,4) xyxy: inverse of `decode_distances`."""
    sides = torch.cat([centers - boxes[..., :2], boxes[..., 2:] - centers], dim=-1)
    return sides / strides[:, None]


def decode_points(offsets: Tensor, centers: Tensor, strides: Tensor) -> Tensor:
    """Points (...,A,P,2) in input pixels from offsets (...,A,P,2) in strides."""
    # Flat rows of x, y, x, y, ...: a graph of two plain operations, faster on every runtime.
    count = offsets.shape[-2]
    flat = offsets.flatten(-2) * strides[:, None] + centers.repeat(1, count)
    return flat.reshape(offsets.shape)


def encode_points(points: Tensor, centers: Tensor, strides: Tensor) -> Tensor:
    """Offsets (...,A,P,2) in strides from points (...,A,P,2): inverse of `decode_points`."""
    return (points - centers[:, None, :]) / strides[:, None, None]
