"""Samplers: of very many anchors, those that a step learns from.

Each takes labels (B,A) that are 1 for a face, 0 for background and -1 for what is ignored, with
scores (B,A) in which more means more like a face, and returns labels in which the anchors that are
not sampled are ignored too. Nothing carries a gradient, and nothing is read back from the device.

Legend: B batch, A anchors over all levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

FACE, BACKGROUND, IGNORED = 1, 0, -1


class Sampler(Protocol):
    """What a criterion needs of a sampler."""

    def __call__(self, labels: Tensor, scores: Tensor, per_level: Sequence[int]) -> Tensor:
        """Labels (B,A) of the sampled anchors; `per_level` numbers add up to A."""
        ...


@dataclass(frozen=True)
class AllAnchors:
    """Every anchor is learned from."""

    def __call__(self, labels: Tensor, scores: Tensor, per_level: Sequence[int]) -> Tensor:
        """The labels as they are."""
        return labels


@dataclass(frozen=True)
class OHEMRatio:
    """Every face, and so many times as many of an image's hardest negatives.

    Attributes:
        ratio: negatives for each positive.
        min_negatives: negatives that are kept in any case: all that an image without faces has.

    Source: SSD (arXiv:1512.02325), sec. 2.2, after OHEM (arXiv:1604.03540); RetinaFace, sec. 4.2.
    """

    ratio: float = 3.0
    min_negatives: int = 30

    def __call__(self, labels: Tensor, scores: Tensor, per_level: Sequence[int] = ()) -> Tensor:
        """The labels of an image's sampled anchors."""
        count = (labels == FACE).sum(-1, keepdim=True) * self.ratio
        kept = _highest(scores, labels == BACKGROUND, count.clamp(min=self.min_negatives))
        return torch.where((labels == FACE) | kept, labels, IGNORED)


@dataclass(frozen=True)
class OHEMQuota:
    """A fixed number of an image's anchors: its hardest faces, and the hardest negatives.

    The faces of lowest score and the negatives of highest score are kept; negatives fill what faces
    leave.

    Attributes:
        positives: most faces.
        total: most anchors.
        by_level: whether each level of an image has this many, instead of the image.

    Source: SmallHardFace, sec. 3.3 (64 of 256 an image); the released code of RetinaFace (a level).
    """

    positives: int = 64
    total: int = 256
    by_level: bool = False

    def __call__(self, labels: Tensor, scores: Tensor, per_level: Sequence[int] = ()) -> Tensor:
        """The labels of the sampled anchors."""
        counts = list(per_level) if self.by_level else [labels.shape[-1]]
        split = zip(torch.split(labels, counts, -1), torch.split(scores, counts, -1), strict=True)
        return torch.cat([self._sampled(some, score) for some, score in split], -1)

    def _sampled(self, labels: Tensor, scores: Tensor) -> Tensor:
        faces = _highest(-scores, labels == FACE, labels.new_full((), self.positives))
        left = self.total - faces.sum(-1, keepdim=True)
        return torch.where(faces | _highest(scores, labels == BACKGROUND, left), labels, IGNORED)


def _highest(scores: Tensor, among: Tensor, count: Tensor) -> Tensor:
    """Whether each is one of the `count` (...,1) highest of those `among`: (...,A) bool."""
    order = scores.detach().masked_fill(~among, -torch.inf).argsort(-1, descending=True)
    picked = torch.arange(scores.shape[-1], device=scores.device) < count
    return torch.zeros_like(among).scatter(-1, order, picked.expand_as(order)) & among
