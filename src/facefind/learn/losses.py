"""Loss terms, element by element; a system sums and normalizes them into `Losses`.

Legend: B batch, P positive anchors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from facefind.learn.boxes import diou


class Losses(NamedTuple):
    """What a system's `losses` returns: what to minimize, and how hard each image was.

    Attributes:
        terms: loss terms by name, weighted and ready to be added.
        min_positive_scores: (B,) the lowest face score among an image's positive anchors, in 0..1
            and without gradient; NaN for an image without any.
    """

    terms: dict[str, Tensor]
    min_positive_scores: Tensor


def min_positive_scores(scores: Tensor, image: Tensor, images: int) -> Tensor:
    """The lowest of the positives' scores by image (B,), NaN for an image without any.

    Args:
        scores: (P,) face scores of the positive anchors, in 0..1.
        image: (P,) the image that each lies in, int64.
        images: B.

    Source: SmallHardFace, sec. 3.2: the worst positive anchor score (WPAS).
    """
    lowest = scores.new_full((images,), torch.inf)
    lowest = lowest.scatter_reduce(0, image, scores.detach(), "amin")
    return lowest.masked_fill(lowest.isinf(), torch.nan)


def quality_focal(logits: Tensor, quality: Tensor, beta: float = 2.0) -> Tensor:
    """Cross-entropy with a soft target, weighted by how far the score is from it: same shape.

    Args:
        logits: scores before the sigmoid.
        quality: targets in 0..1: IoU of the predicted box for positives, 0 for background.
        beta: power of the weight.

    Source: Generalized Focal Loss (arXiv:2006.04388), eq. 2; SCRFD, sec. 5.1.
    """
    gap = (logits.sigmoid() - quality).abs().pow(beta)
    return gap * functional.binary_cross_entropy_with_logits(logits, quality, reduction="none")


def diou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """1 - DIoU of boxes (P,4) with targets (P,4), xyxy: (P,) in 0..2.

    Source: DIoU (arXiv:1911.08287), eq. 8.
    """
    return 1 - diou(boxes, targets)


def landmark_loss(offsets: Tensor, targets: Tensor, beta: float = 1 / 9) -> Tensor:
    """Smooth L1 summed over the coordinates of (P,5,2) points: (P,).

    Source: smooth L1 of Fast R-CNN (arXiv:1504.08083), eq. 3, as in SCRFD's models with points.
    """
    return functional.smooth_l1_loss(offsets, targets, beta=beta, reduction="none").sum((-2, -1))
