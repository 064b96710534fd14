"""Coders: between a network's raw numbers and boxes or landmarks in input pixels.

Each decoder undoes its encoder. Legend: A anchors over all levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from facefind.nn.anchors import Anchors

_GROWTH = math.log(1000 / 16)  # a decoded side is at most this much (in logs) above its anchor's


class Coder(Protocol):
    """What a detector needs of its coder; shapes are those of `DistanceCoder`."""

    def encode(self, boxes: Tensor, anchors: Anchors) -> Tensor:
        """Raw numbers (...,A,4) of boxes (...,A,4) xyxy."""
        ...

    def decode(self, raw: Tensor, anchors: Anchors) -> Tensor:
        """Boxes (...,A,4) xyxy of raw numbers (...,A,4)."""
        ...

    def encode_landmarks(self, landmarks: Tensor, anchors: Anchors) -> Tensor:
        """Raw numbers (...,A,5,2) of landmarks (...,A,5,2)."""
        ...

    def decode_landmarks(self, raw: Tensor, anchors: Anchors) -> Tensor:
        """Landmarks (...,A,5,2) of raw numbers (...,A,5,2)."""
        ...


@dataclass(frozen=True)
class DistanceCoder:
    """Boxes as distances from the anchor's center to their four sides, in strides.

    A landmark is its shift from the anchor's center, in strides too. The anchor's size plays no
    part.

    Source: FCOS (arXiv:1904.01355), eq. 1; SCRFD regresses from the anchor's center alike.
    """

    def encode(self, boxes: Tensor, anchors: Anchors) -> Tensor:
        """Distances (...,A,4) left, top, right, bottom of boxes (...,A,4) xyxy."""
        sides = torch.cat(
            [anchors.centers - boxes[..., :2], boxes[..., 2:] - anchors.centers], dim=-1
        )
        return sides / anchors.strides[:, None]

    def decode(self, raw: Tensor, anchors: Anchors) -> Tensor:
        """Boxes (...,A,4) xyxy of distances (...,A,4), which may be negative."""
        signs = raw.new_tensor([-1.0, -1.0, 1.0, 1.0])
        return anchors.centers.repeat(1, 2) + raw * (anchors.strides[:, None] * signs)

    def encode_landmarks(self, landmarks: Tensor, anchors: Anchors) -> Tensor:
        """Shifts (...,A,5,2) in strides of landmarks (...,A,5,2)."""
        return (landmarks - anchors.centers[:, None, :]) / anchors.strides[:, None, None]

    def decode_landmarks(self, raw: Tensor, anchors: Anchors) -> Tensor:
        """Landmarks (...,A,5,2) of shifts (...,A,5,2) in strides."""
        return _shifted(raw, anchors.centers, anchors.strides[:, None].expand(-1, 2))


@dataclass(frozen=True)
class AnchorBoxCoder:
    """Boxes as shifts and log scales of anchor boxes.

    A box is (dx, dy, dw, dh): how far its center lies from the anchor's in widths and heights of
    the anchor, and the logarithm of its width and height over the anchor's; each divided by its
    own number in `stds`. A landmark is its shift from the anchor's center in widths and heights,
    divided by `landmark_std`.

    Attributes:
        stds: what the four are divided by; (0.1, 0.1, 0.2, 0.2) is SSD's choice.
        landmark_std: what shifts of landmarks are divided by.

    Source: Fast R-CNN (arXiv:1504.08083), sec. 2.3, after R-CNN (arXiv:1311.2524), eq. 1-4;
    RetinaFace, sec. 3.1 (3): landmarks are normalized by the anchor as box centers are.
    Differs: a decoded side is at most 62.5 times its anchor's, so that none overflows.
    """

    stds: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    landmark_std: float = 1.0

    def encode(self, boxes: Tensor, anchors: Anchors) -> Tensor:
        """Deltas (...,A,4) of boxes (...,A,4) xyxy, whose sides must be positive."""
        center, sides = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
        deltas = torch.cat(
            [(center - anchors.centers) / anchors.sizes, (sides / anchors.sizes).log()], dim=-1
        )
        return deltas / deltas.new_tensor(self.stds)

    def decode(self, raw: Tensor, anchors: Anchors) -> Tensor:
        """Boxes (...,A,4) xyxy of deltas (...,A,4)."""
        deltas = raw * raw.new_tensor(self.stds)
        center = anchors.centers + deltas[..., :2] * anchors.sizes
        half = deltas[..., 2:].clamp(max=_GROWTH).exp() * anchors.sizes / 2
        return torch.cat([center - half, center + half], dim=-1)

    def encode_landmarks(self, landmarks: Tensor, anchors: Anchors) -> Tensor:
        """Shifts (...,A,5,2) of landmarks (...,A,5,2)."""
        scale = anchors.sizes[:, None] * self.landmark_std
        return (landmarks - anchors.centers[:, None]) / scale

    def decode_landmarks(self, raw: Tensor, anchors: Anchors) -> Tensor:
        """Landmarks (...,A,5,2) of shifts (...,A,5,2)."""
        return _shifted(raw, anchors.centers, anchors.sizes * self.landmark_std)


def _shifted(raw: Tensor, centers: Tensor, scales: Tensor) -> Tensor:
    """Points (...,A,P,2) at `raw` times (A,2) scales from (A,2) centers."""
    # Flat rows of x, y, x, y, ...: a graph of two plain operations, faster on every runtime.
    count = raw.shape[-2]
    flat = raw.flatten(-2) * scales.repeat(1, count) + centers.repeat(1, count)
    return flat.reshape(raw.shape)
