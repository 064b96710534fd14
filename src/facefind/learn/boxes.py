"""Box arithmetic in torch, with gradients. The NumPy twin is `facefind.boxes`."""

from __future__ import annotations

import torch
from torch import Tensor


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of boxes (...,4) with others (...,4), broadcast pairwise: (...,).

    Boxes without area have IoU 0 with everything.
    """
    inner, union = _inner_and_union(boxes, others)
    return inner / union.clamp(min=1e-9)


def diou(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU less the squared distance of the centers over that of the enclosing corners: (...,).

    Source: DIoU (arXiv:1911.08287), eq. 7.
    """
    enclosing = torch.maximum(boxes[..., 2:], others[..., 2:]) - torch.minimum(
        boxes[..., :2], others[..., :2]
    )
    diagonal = enclosing.square().sum(-1)
    gap = (boxes[..., :2] + boxes[..., 2:] - others[..., :2] - others[..., 2:]) / 2
    return iou(boxes, others) - gap.square().sum(-1) / diagonal.clamp(min=1e-9)


def _inner_and_union(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    sides = torch.minimum(boxes[..., 2:], others[..., 2:]) - torch.maximum(
        boxes[..., :2], others[..., :2]
    )
    inner = sides.clamp(min=0).prod(-1)
    areas = [(b[..., 2:] - b[..., :2]).clamp(min=0).prod(-1) for b in (boxes, others)]
    return inner, areas[0] + areas[1] - inner
