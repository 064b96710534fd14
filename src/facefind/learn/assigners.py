"""Assigners: which anchors answer for which face.

Legend: A anchors over all levels, G ground-truth faces of one image.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from facefind.learn.boxes import iou
from facefind.nn.anchors import Anchors

BACKGROUND, LEFT_OUT = -1, -2
"""What an anchor that answers for no face is: background, or neither face nor background."""

_FACES_AT_ONCE = 32  # overlaps are computed for so many faces at a time, to bound the memory


class Assigned(NamedTuple):
    """Anchors and faces brought together by overlap.

    Attributes:
        assigned: (A,) int64: the face that an anchor answers for, else `BACKGROUND` or `LEFT_OUT`.
        overlap: (A,) the anchor's greatest IoU with any face; 0 without faces.
        nearest: (A,) int64: the face of that overlap; -1 without faces.
    """

    assigned: Tensor
    overlap: Tensor
    nearest: Tensor


def by_iou(
    anchor_boxes: Tensor,
    faces: Tensor,
    *,
    positive: float,
    negative: float,
    plus_one: bool = False,
    force: float | None = None,
) -> Assigned:
    """Each anchor's face by overlap: positive from one IoU on, background below another.

    Args:
        anchor_boxes: (A,4) xyxy.
        faces: (G,4) xyxy; G may be 0. Faces without area answer for nothing.
        positive: least IoU at which an anchor answers for a face.
        negative: IoU below which an anchor is background; what lies between is left out.
        plus_one: boxes are given by their first and last pixel, so that sides are x2 - x1 + 1.
        force: the best anchor of a face answers for it from this IoU on, whatever `positive` says
            and whichever face is nearest; of two faces with one best anchor the later has it.
            None: no anchor is forced.

    Source: Faster R-CNN (arXiv:1506.01497), sec. 3.1.2; RetinaFace, sec. 4.2 (0.5 and 0.3,
    nothing forced).
    """
    count, device = anchor_boxes.shape[0], anchor_boxes.device
    overlap = anchor_boxes.new_zeros(count)
    nearest = torch.full((count,), -1, dtype=torch.int64, device=device)
    best_overlap, best_anchor = [], []
    for start in range(0, faces.shape[0], _FACES_AT_ONCE):
        some = faces[start : start + _FACES_AT_ONCE]
        found = iou(some[:, None], anchor_boxes, plus_one=plus_one)  # (G, A)
        value, face = found.max(0)
        higher = (value > overlap) | (nearest < 0)
        overlap = torch.where(higher, value, overlap)
        nearest = torch.where(higher, face + start, nearest)
        if force is not None:
            value, anchor = found.max(1)
            best_overlap.append(value)
            best_anchor.append(anchor)
    assigned = torch.full_like(nearest, LEFT_OUT)
    assigned[overlap < negative] = BACKGROUND
    assigned = torch.where((overlap >= positive) & (overlap > 0), nearest, assigned)
    if force is not None and best_overlap:
        value = torch.cat(best_overlap)
        face = ((value >= force) & (value > 0)).nonzero().squeeze(1)
        anchor = torch.cat(best_anchor)[face]
        assigned = assigned.scatter_reduce(0, anchor, face, "amax", include_self=False)
    return Assigned(assigned, overlap, nearest)


def atss(anchors: Anchors, boxes: Tensor, topk: int = 9, minimum_inside: float = 0.001) -> Tensor:
    """Index of the face that each anchor answers for, -1 for background: (A,) int64.

    On every level the `topk` anchors nearest to a face's center are candidates. Those whose IoU
    with the face is at least mean + standard deviation over its candidates become positive, if
    their center lies inside the face. An anchor claimed twice goes to the face of higher IoU.

    Args:
        anchors: A anchors.
        boxes: (G,4) xyxy; G may be 0.
        topk: candidates a level.
        minimum_inside: least distance of a center from the face's sides, as a fraction of
            sqrt(width * height).

    Source: ATSS (arXiv:1912.02424), algorithm 1; SCRFD, sec. 5.1.
    Differs: with several anchors on a cell, ATSS counts anchors and not cells, as SCRFD's authors'
    code does; the inside test is relative to the face's size, as in that code, not in pixels.
    """
    faces = boxes.shape[0]
    assigned = torch.full((anchors.centers.shape[0],), -1, dtype=torch.int64, device=boxes.device)
    if faces == 0:
        return assigned
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    distance = (centers[:, None] - anchors.centers).double().square().sum(-1)
    # Anchors of one cell are equally near: let the smaller one, which stands first, come first.
    distance += torch.arange(len(assigned), device=boxes.device) * 1e-9
    candidates = []
    start = 0
    for count in anchors.per_level:
        nearest = distance[:, start : start + count].topk(min(topk, count), largest=False).indices
        candidates.append(nearest + start)
        start += count
    index = torch.cat(candidates, dim=1)  # (G, topk * levels)

    overlap = iou(boxes[:, None], anchors.boxes[index])  # (G, candidates)
    threshold = overlap.mean(1, keepdim=True) + overlap.std(1, keepdim=True)
    point = anchors.centers[index]
    sides = torch.cat([point - boxes[:, None, :2], boxes[:, None, 2:] - point], dim=-1)
    size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1).sqrt()
    inside = sides.amin(-1) > minimum_inside * size[:, None].clamp(min=1e-6)
    positive = (overlap >= threshold) & inside

    face = torch.arange(faces, device=boxes.device)[:, None].expand_as(index)[positive]
    anchor, value = index[positive], overlap[positive]
    # Write in order of rising IoU, so that the highest claim on an anchor is written last.
    order = value.argsort(stable=True)
    best = torch.full((assigned.shape[0],), -1.0, device=boxes.device).scatter_reduce(
        0, anchor, value, "amax"
    )
    keep = order[value[order] >= best[anchor[order]]]
    assigned[anchor[keep]] = face[keep]
    return assigned


def inside_any(centers: Tensor, regions: Tensor) -> Tensor:
    """Whether each point (A,2) lies in any region (I,4) xyxy: (A,) bool."""
    x, y = centers[:, :1], centers[:, 1:]
    inside = (
        (x >= regions[:, 0]) & (y >= regions[:, 1]) & (x <= regions[:, 2]) & (y <= regions[:, 3])
    )
    return inside.any(1)


def simota(
    anchors: Anchors,
    boxes: Tensor,
    predicted: Tensor,
    scores: Tensor,
    *,
    radius: float = 2.5,
    overlap_weight: float = 3.0,
    most: int = 10,
) -> Tensor:
    """Index of the face that each anchor answers for, -1 for background: (A,) int64.

    The network's own predictions decide: each face takes the anchors to which it is cheapest, by
    score and overlap of what they predict now. It takes as many as its best predictions' IoUs add
    up to, at least one. An anchor claimed twice goes to the face to which it is cheaper.

    Args:
        anchors: A anchors.
        boxes: (G,4) xyxy; G may be 0.
        predicted: (A,4) xyxy, boxes that the network predicts now.
        scores: (A,) face scores in 0..1.
        radius: an anchor within so many of its strides from a face's center is preferred; others
            are candidates only where they lie inside the face.
        overlap_weight: weight of the overlap's cost beside the score's.
        most: predictions whose IoUs are added up, and so the most anchors of one face.

    Source: YOLOX (arXiv:2107.08430), sec. 2.1, "SimOTA".
    Differs: it gates candidates by cell; here an anchor counts by its own center.
    """
    assigned = torch.full((anchors.centers.shape[0],), -1, dtype=torch.int64, device=boxes.device)
    if boxes.shape[0] == 0:
        return assigned
    sides = torch.cat(
        [anchors.centers - boxes[:, None, :2], boxes[:, None, 2:] - anchors.centers], dim=-1
    )
    inside = sides.amin(-1) > 0  # (G,A)
    middle = (boxes[:, :2] + boxes[:, 2:])[:, None] / 2
    near = (anchors.centers - middle).abs().amax(-1) < radius * anchors.strides
    index = (inside | near).any(0).nonzero().squeeze(1)
    if not len(index):
        return assigned
    inside, near = inside[:, index], near[:, index]
    overlap = iou(boxes[:, None], predicted[index])
    cost = (
        -scores[index].double().clamp(min=1e-6).log()  # single precision drowns in 1e5
        - overlap_weight * overlap.double().clamp(min=1e-8).log()
        + 1e5 * ~(inside & near)
        + 1e8 * ~(inside | near)
    )
    wanted = overlap.topk(min(most, len(index)), dim=1).values.sum(1).long().clamp(min=1)
    order = cost.argsort(dim=1, stable=True)
    rank = order.argsort(dim=1)
    claimed = (rank < wanted[:, None]) & (inside | near)
    cost = cost.masked_fill(~claimed, torch.inf)
    cheapest = cost.min(0)
    taken = cheapest.values.isfinite()
    assigned[index[taken]] = cheapest.indices[taken]
    return assigned
