"""Loss functions, element by element; a criterion's terms weigh and average them.

Legend: P anchors or faces.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from facefind.learn.boxes import diou


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


def margin_cross_entropy(logits: Tensor, targets: Tensor, margin: float) -> Tensor:
    """Cross-entropy of face and background, a margin taken off the right one's logit: same shape.

    Args:
        logits: of the face less of the background.
        targets: 1 for a face, 0 for background.
        margin: by how much the right logit must be higher to count as equal.

    Source: CosFace (arXiv:1801.09414), eq. 4, for two classes.
    """
    harder = logits - margin * (2 * targets - 1)
    return functional.binary_cross_entropy_with_logits(harder, targets, reduction="none")


def diou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """1 - DIoU of boxes (...,4) with targets (...,4), xyxy: (...,) in 0..2.

    Source: DIoU (arXiv:1911.08287), eq. 8.
    """
    return 1 - diou(boxes, targets)


def smooth_l1(raw: Tensor, targets: Tensor, beta: float = 1.0) -> Tensor:
    """Smooth L1, element by element: same shape.

    Args:
        raw: what was predicted.
        targets: what it is to be.
        beta: difference at which the square turns to a line.

    Source: Fast R-CNN (arXiv:1504.08083), eq. 3.
    """
    return functional.smooth_l1_loss(raw, targets, beta=beta, reduction="none")
