"""Targets: the labels of a batch in the form that assigners and losses take."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Target:
    """Labelled faces of one training image, in pixels of the network's input.

    Attributes:
        boxes: (G,4) xyxy of the faces to be found.
        landmarks: (G,5,2); NaN where a face has no points.
        ignore: (I,4) xyxy of regions that are neither face nor background.
    """

    boxes: Tensor
    landmarks: Tensor
    ignore: Tensor

    @classmethod
    def empty(cls) -> Target:
        """The target of an image without faces."""
        return cls(torch.zeros(0, 4), torch.zeros(0, 5, 2), torch.zeros(0, 4))

    def to(self, device: torch.device) -> Target:
        """The same target on another device."""
        return Target(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})
