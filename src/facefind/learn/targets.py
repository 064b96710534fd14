"""Targets: the labels of a batch in the form that assigners and losses take."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Target:
    """Labeled faces of one training image, in pixels of the network's input.

    Attributes:
        boxes: (G,4) xyxy of the faces to be found.
        landmarks: (G,5,2); NaN where a face has no points.
        ignore: (I,4) xyxy of regions that are neither face nor background.
        size: (H,W) of the image itself, where the input is padded to its right and below to make
            a batch; None: the image fills the input.
    """

    boxes: Tensor
    landmarks: Tensor
    ignore: Tensor
    size: tuple[int, int] | None = None

    @classmethod
    def empty(cls) -> Target:
        """The target of an image without faces."""
        return cls(torch.zeros(0, 4), torch.zeros(0, 5, 2), torch.zeros(0, 4))

    def to(self, device: torch.device) -> Target:
        """The same target on another device."""
        boxes, landmarks = self.boxes.to(device), self.landmarks.to(device)
        return replace(self, boxes=boxes, landmarks=landmarks, ignore=self.ignore.to(device))
