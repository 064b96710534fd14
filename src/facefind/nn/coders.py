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
    scaled = distances * strides[:, None]
    return torch.cat([centers - scaled[..., :2], centers + scaled[..., 2:]], dim=-1)


def encode_distances(boxes: Tensor, centers: Tensor, strides: Tensor) -> Tensor:
    """Distances (...,A,4) in strides from boxes (...,A,4) xyxy: inverse of `decode_distances`."""
    sides = torch.cat([centers - boxes[..., :2], boxes[..., 2:] - centers], dim=-1)
    return sides / strides[:, None]


def decode_points(offsets: Tensor, centers: Tensor, strides: Tensor) -> Tensor:
    """Points (...,A,P,2) in input pixels from offsets (...,A,P,2) in strides."""
    return offsets * strides[:, None, None] + centers[:, None, :]


def encode_points(points: Tensor, centers: Tensor, strides: Tensor) -> Tensor:
    """Offsets (...,A,P,2) in strides from points (...,A,P,2): inverse of `decode_points`."""
    return (points - centers[:, None, :]) / strides[:, None, None]
