"""Hard anchors: of very many, the few that a step learns to tell from background.

Both functions take labels (...,A) that are 1 for a face, 0 for background and -1 for what is left
out, with scores (...,A) in which more means more like a face, and give labels in which the anchors
that are not picked are left out too. Nothing carries a gradient.

Legend: A anchors to choose from: those of one image, or of one of its levels.
"""

from __future__ import annotations

import torch
from torch import Tensor

FACE, BACKGROUND, LEFT_OUT = 1, 0, -1


def by_ratio(labels: Tensor, scores: Tensor, *, ratio: float = 3.0, least: int = 0) -> Tensor:
    """Labels (...,A) int64 with every face, and `ratio` times as many of the hardest negatives.

    Args:
        labels: (...,A).
        scores: (...,A); the negative of highest score has the greatest loss.
        ratio: negatives for each positive.
        least: negatives that are kept in any case: all that an image without faces has.

    Source: SSD (arXiv:1512.02325), sec. 2.2, after OHEM (arXiv:1604.03540); RetinaFace, sec. 4.2.
    """
    wanted = ((labels == FACE).sum(-1, keepdim=True) * ratio).clamp(min=least)
    kept = (labels == FACE) | _highest(scores, labels == BACKGROUND, wanted)
    return torch.where(kept, labels, LEFT_OUT)


def by_quota(labels: Tensor, scores: Tensor, *, positives: int = 64, total: int = 256) -> Tensor:
    """Labels (...,A) int64 with at most `total` anchors, `positives` of them faces.

    The faces of lowest score and the negatives of highest score are kept; negatives fill what
    faces leave.

    Source: the released code of RetinaFace and of SmallHardFace (64 of 256).
    """
    faces = _highest(-scores, labels == FACE, labels.new_full((), positives))
    wanted = total - faces.sum(-1, keepdim=True)
    return torch.where(faces | _highest(scores, labels == BACKGROUND, wanted), labels, LEFT_OUT)


def _highest(scores: Tensor, among: Tensor, wanted: Tensor) -> Tensor:
    """Whether each is one of the `wanted` (...,1) highest of those `among`: (...,A) bool."""
    ordered = scores.detach().masked_fill(~among, -torch.inf)
    most = min(int(wanted.max().ceil()), scores.shape[-1]) if wanted.numel() else 0
    if most <= 0:
        return torch.zeros_like(among)
    index = ordered.topk(most, dim=-1).indices  # the highest first
    picked = torch.arange(most, device=scores.device) < wanted
    return torch.zeros_like(among).scatter(-1, index, picked.expand_as(index)) & among
