"""Assigners: which anchors answer for which face.

Legend: A anchors over all levels, G ground-truth faces of one image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from facefind.learn.boxes import iou
from facefind.nn.anchors import Anchors


def atss(anchors: Anchors, boxes: Tensor, topk: int = 9, minimum_inside: float = 0.001) -> Tensor:
    """Index of the face that each anchor answers for, -1 for background: (A,) int64.

    On every level the `topk` anchors nearest to a face's centre are candidates. Those whose IoU
    with the face is at least mean + standard deviation over its candidates become positive, if
    their centre lies inside the face. An anchor claimed twice goes to the face of higher IoU.

    Args:
        anchors: A anchors.
        boxes: (G,4) xyxy; G may be 0.
        topk: candidates a level.
        minimum_inside: least distance of a centre from the face's sides, as a fraction of
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
