"""Loss functions, element by element; a criterion's terms weigh and average them.

Legend: P anchors or faces.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


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
