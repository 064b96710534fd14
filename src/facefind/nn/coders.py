"""Coders: between a network's raw numbers and boxes or points in input pixels.

Each decoder undoes its encoder. Legend: B batch, A anchors over all levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_GROWTH = math.log(1000 / 16)  # a decoded side is at most this much (in logs) above its anchor's


def decode_distances(distances: Tensor, centers: Tensor, strides: Tensor) -> Tensor:
    """Boxes (...,A,4) xyxy from distances (...,A,4) left, top, right, bottom in strides.

    Args:
        distances: how far each side lies from the anchor's center; may be negative.
        centers: (A,2) x, y in input pixels.
        strides: (A,) input pixels a unit of distance.

    Source: FCOS (arXiv:1904.01355), eq. 1; SCRFD regresses from the anchor's center alike.
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


@dataclass(frozen=True)
class BoxCoder:
    """Boxes as shifts and log scales of anchor boxes.

    A box is (dx, dy, dw, dh): how far its center lies from the anchor's in widths and heights of
    the anchor, and the logarithm of its width and height over the anchor's; each divided by its
    own number in `stds`.

    Attributes:
        stds: what the four are divided by; (0.1, 0.1, 0.2, 0.2) is SSD's choice.
        plus_one: sides are x2 - x1 + 1, of boxes given by their first and last pixel.

    Source: Fast R-CNN (arXiv:1504.08083), sec. 2.3, after R-CNN (arXiv:1311.2524), eq. 1-4.
    Differs: a decoded side is at most 62.5 times its anchor's, so that none overflows.
    """

    stds: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    plus_one: bool = False

    def encode(self, boxes: Tensor, anchor_boxes: Tensor) -> Tensor:
        """Deltas (...,A,4) of boxes (...,A,4) xyxy on anchor boxes (A,4) xyxy.

        The sides of `boxes` must be positive.
        """
        center, sides = _center_and_sides(boxes, self.plus_one)
        from_center, from_sides = _center_and_sides(anchor_boxes, self.plus_one)
        deltas = torch.cat(
            [(center - from_center) / from_sides, (sides / from_sides).log()], dim=-1
        )
        return deltas / deltas.new_tensor(self.stds)

    def decode(self, deltas: Tensor, anchor_boxes: Tensor) -> Tensor:
        """Boxes (...,A,4) xyxy of deltas (...,A,4) on anchor boxes (A,4): undoes `encode`."""
        from_center, from_sides = _center_and_sides(anchor_boxes, self.plus_one)
        deltas = deltas * deltas.new_tensor(self.stds)
        center = from_center + deltas[..., :2] * from_sides
        half = (deltas[..., 2:].clamp(max=_GROWTH).exp() * from_sides - float(self.plus_one)) / 2
        return torch.cat([center - half, center + half], dim=-1)


@dataclass(frozen=True)
class PointCoder:
    """Points as shifts from an anchor box's center, in its widths and heights.

    Attributes:
        std: what the shifts are divided by.
        plus_one: sides are x2 - x1 + 1, of boxes given by their first and last pixel.

    Source: RetinaFace, sec. 3.1 (3): points are normalized by the anchor as box centers are.
    """

    std: float = 1.0
    plus_one: bool = False

    def encode(self, points: Tensor, anchor_boxes: Tensor) -> Tensor:
        """Offsets (...,A,P,2) of points (...,A,P,2) from anchor boxes (A,4) xyxy."""
        center, sides = _center_and_sides(anchor_boxes, self.plus_one)
        return (points - center[:, None]) / (sides[:, None] * self.std)

    def decode(self, offsets: Tensor, anchor_boxes: Tensor) -> Tensor:
        """Points (...,A,P,2) of offsets (...,A,P,2) on anchor boxes (A,4): undoes `encode`."""
        center, sides = _center_and_sides(anchor_boxes, self.plus_one)
        # Flat rows of x, y, x, y, ...: a graph of two plain operations, faster on every runtime.
        count = offsets.shape[-2]
        flat = offsets.flatten(-2) * (sides * self.std).repeat(1, count) + center.repeat(1, count)
        return flat.reshape(offsets.shape)


def _center_and_sides(boxes: Tensor, plus_one: bool) -> tuple[Tensor, Tensor]:
    """Centers (...,2) and sides (...,2) of boxes (...,4) xyxy."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2] + float(plus_one)
