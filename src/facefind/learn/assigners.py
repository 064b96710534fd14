"""Assigners: which anchors learn which face.

Each takes a network's output and a batch's targets and returns an `Assignment`. All images are
assigned at once: the number of operations depends neither on images nor on faces, and nothing is
read back from the device. Faces are compared with the anchors around them alone, where a bound on
the distance exists.

Legend: B batch, A anchors over all levels, F faces of the batch, K anchors around a face.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from facefind.learn.boxes import iou
from facefind.learn.targets import BatchTargets
from facefind.nn.anchors import Anchors, Level
from facefind.nn.constants import constant
from facefind.nn.detector import DenseOutput

BACKGROUND, IGNORED = -1, -2
"""What an anchor without a face is: background, or neither face nor background."""


@dataclass(frozen=True)
class Assignment:
    """The face of each anchor.

    Attributes:
        face: (B,A) int64: row of the face in `BatchTargets.boxes` that the anchor is assigned to,
            else `BACKGROUND` or `IGNORED`.
        box_face: (B,A) int64: the face whose box the anchor learns, -1 for none; None: the boxes
            are learned by the anchors that are sampled as faces.
        slots: (N,) int64: image * A + anchor of all anchors that may have a face, where these are
            few; one may occur twice. None: any may.
        slot_face: (N,) int64: the face of each slot, `BACKGROUND` where it has none or the face is
            that of another occurrence.
    """

    face: Tensor
    box_face: Tensor | None = None
    slots: Tensor | None = None
    slot_face: Tensor | None = None


class Assigner(Protocol):
    """What a criterion needs of an assigner."""

    def __call__(self, output: DenseOutput, targets: BatchTargets) -> Assignment:
        """The assignment of a batch; nothing carries a gradient."""
        ...


@dataclass(frozen=True)
class ATSS:
    """Adaptive training sample selection.

    On every level the `topk` anchors nearest to a face's center are candidates. Those whose IoU
    with the face is at least mean + standard deviation over its candidates are assigned to it, if
    their center lies inside the face. An anchor with two faces takes that of higher IoU.

    Attributes:
        topk: candidates a level.
        min_inside: least distance of an anchor's center from the face's sides, as a fraction of
            sqrt(width * height).

    Source: ATSS (arXiv:1912.02424), algorithm 1; SCRFD, sec. 5.1.
    Differs: with several anchors on a cell, ATSS counts anchors and not cells, as SCRFD's authors'
    code does; the inside test is relative to the face's size, as in that code, not in pixels.
    """

    topk: int = 9
    min_inside: float = 0.001

    def __call__(self, output: DenseOutput, targets: BatchTargets) -> Assignment:
        """The assignment of a batch."""
        return self.assign(output.anchors, targets)

    def assign(self, anchors: Anchors, targets: BatchTargets) -> Assignment:
        """The assignment, to which predictions add nothing."""
        boxes = targets.boxes
        index = torch.cat([self._nearest(level, boxes) for level in anchors.levels], 1)  # (F,K)
        overlap = iou(boxes[:, None], anchors.boxes[index])
        threshold = overlap.mean(1, keepdim=True) + overlap.std(1, keepdim=True)
        centers = anchors.centers[index]
        sides = torch.cat([centers - boxes[:, None, :2], boxes[:, None, 2:] - centers], dim=-1)
        size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1).sqrt()
        inside = sides.amin(-1) > self.min_inside * size[:, None].clamp(min=1e-6)
        slot = targets.image[:, None] * len(anchors) + index
        claimed = torch.where(inside & (overlap >= threshold), overlap, -torch.inf)
        return _highest(slot, claimed, len(targets), len(anchors))

    def _nearest(self, level: Level, boxes: Tensor) -> Tensor:
        """The `topk` anchors of a level nearest to each face: (F,K) int64."""
        # Whole cells are ranked, since anchors of one cell are equally near; the first anchors of
        # the last cell complete the number.
        per_cell = len(level.sizes)
        count = min(self.topk, level.count)
        cells = -(-count // per_cell)
        # The nearest nine lie within two cells of the center, n within the root of n; on a map of
        # few rows or columns they lie in a line.
        far = 2 if cells <= 9 else math.isqrt(cells - 1) + 1
        far = max(far, -(-cells // min(level.map_size)))
        row, column = cells_around(level, boxes, reach=(far, far))
        center = ((boxes[:, :2] + boxes[:, 2:]) / 2 - level.offset) / level.stride
        distance = (column - center[:, :1]).square() + (row - center[:, 1:]).square()
        order = distance.sort(dim=1, stable=True).indices[:, :cells]
        cell = (row * level.map_size[1] + column).gather(1, order)
        return _anchors_of(cell, level)[:, :count]


@dataclass(frozen=True)
class MaxIoU:
    """Each anchor's face by overlap: from one IoU on it is assigned, below another background.

    Attributes:
        positive_iou: least IoU at which an anchor is assigned to a face.
        negative_iou: IoU below which an anchor is background; what lies between is ignored.
        low_quality_iou: the best anchor of a face is assigned to it from this IoU on, whatever
            `positive_iou` says and whichever face is nearest; of two faces with one best anchor the
            later has it. None: no face is certain of an anchor; 0: each is of one that it touches.
        box_iou: IoU from which an anchor learns the box of its best face, sampled or not; None: as
            `Assignment.box_face` says.
        inside_image: anchors that reach beyond the image, or into its padding, are ignored, unless
            all of an image's do.
        at_least: a face with fewer anchors is assigned its best ones without a face, from an IoU of
            0.1 on, until it has so many; 0: none is.

    Source: Faster R-CNN (arXiv:1506.01497), sec. 3.1.2; RetinaFace, sec. 4.2 (0.5 and 0.3, no
    low-quality match); SmallHardFace, sec. 3.3, with the border of its released code; S3FD
    (arXiv:1708.05237), sec. 3.2 (scale compensation, with 6 anchors in the known codes).
    """

    positive_iou: float = 0.5
    negative_iou: float = 0.3
    low_quality_iou: float | None = None
    box_iou: float | None = None
    inside_image: bool = False
    at_least: int = 0

    def __call__(self, output: DenseOutput, targets: BatchTargets) -> Assignment:
        """The assignment of a batch."""
        return self.assign(output.anchors, targets)

    def assign(self, anchors: Anchors, targets: BatchTargets) -> Assignment:
        """The assignment, to which predictions add nothing."""
        boxes, count = targets.boxes, len(anchors)
        rows = torch.arange(len(boxes), device=boxes.device)
        index = torch.cat([self._around(level, boxes) for level in anchors.levels], 1)  # (F,K)
        overlap = iou(boxes[:, None], anchors.boxes[index])
        slot = targets.image[:, None] * count + index
        best = overlap.new_zeros(len(targets) * count)
        best = best.scatter_reduce(0, slot.flatten(), overlap.flatten(), "amax")
        # The first of the faces with an anchor's highest overlap.
        leads = (overlap > 0) & (overlap >= best[slot])
        nearest = torch.full_like(best, len(boxes), dtype=torch.int64)
        face = torch.where(leads, rows[:, None], len(boxes)).flatten()
        nearest = nearest.scatter_reduce(0, slot.flatten(), face, "amin")

        found = torch.where(best < self.negative_iou, BACKGROUND, IGNORED)
        found = torch.where((best >= self.positive_iou) & (best > 0), nearest, found)
        if self.low_quality_iou is not None:
            value, place = overlap.max(1)
            certain = (value >= self.low_quality_iou) & (value > 0)
            forced = torch.full_like(found, -1).scatter_reduce(
                0, slot.gather(1, place[:, None])[:, 0], torch.where(certain, rows, -1), "amax"
            )
            found = torch.where(forced >= 0, forced, found)
        if self.at_least:
            found = self._compensated(found, slot, overlap)
        box_face = None
        if self.box_iou is not None:
            box_face = torch.where(best >= self.box_iou, nearest, -1).view(-1, count)
        found = found.view(-1, count)
        if self.inside_image:
            within = _inside_images(anchors, targets.image_sizes)
            found = torch.where(within, found, IGNORED)
            box_face = box_face if box_face is None else torch.where(within, box_face, -1)
        return Assignment(found, box_face)

    def _compensated(self, found: Tensor, slot: Tensor, overlap: Tensor) -> Tensor:
        """Faces (B*A,) of anchors, with more of them for the faces that have too few."""
        rows = torch.arange(len(slot), device=slot.device)
        has = (found[slot] == rows[:, None]).sum(1, keepdim=True)
        free = torch.where((found[slot] < 0) & (overlap >= 0.1), overlap, -torch.inf)
        value, place = free.sort(dim=1, descending=True, stable=True)
        value, place = value[:, : self.at_least], place[:, : self.at_least]
        lacking = torch.arange(value.shape[1], device=slot.device) < self.at_least - has
        value = torch.where(lacking, value, -torch.inf)
        more = _highest(slot.gather(1, place), value, 1, len(found)).face[0]
        return torch.where(more >= 0, more, found)

    def _around(self, level: Level, boxes: Tensor) -> Tensor:
        """All anchors of a level that may overlap a face by an IoU that matters: (F,K) int64.

        An anchor that overlaps it most is always among them, and with `at_least` its best six.
        """
        limits = (self.positive_iou, self.negative_iou, self.low_quality_iou, self.box_iou)
        least = min(limit for limit in limits if limit)
        # Two boxes of one height, the longer 1 / IoU times as wide and flush with the other at one
        # end, have centers (1 / IoU - 1) / 2 of the shorter's width apart: none are further.
        far = [(1 / least - 1) / 2 * max(side) for side in zip(*level.sizes, strict=True)]
        # The nearest anchor overlaps most, the next ones in turn: six lie within three cells.
        cells = 3 if self.at_least else 0
        width, height = (max(int(distance / level.stride + 0.501), cells) for distance in far)
        row, column = cells_around(level, boxes, reach=(height, width))
        return _anchors_of(row * level.map_size[1] + column, level)


@dataclass(frozen=True)
class SimOTA:
    """The network's own predictions decide: each face takes the anchors to which it is cheapest.

    The cost is that of the score and of the overlap of what an anchor predicts now. A face takes as
    many anchors as its best predictions' IoUs add up to, at least one. An anchor that two faces
    take goes to the one to which it is cheaper.

    Attributes:
        radius: an anchor within so many of its strides from a face's center is preferred; others
            are candidates only where they lie inside the face.
        overlap_weight: weight of the overlap's cost beside the score's.
        max_anchors: predictions whose IoUs are added up, and so the most anchors of one face.

    Source: YOLOX (arXiv:2107.08430), sec. 2.1, "SimOTA".
    Differs: it gates candidates by cell; here an anchor counts by its own center. Costs are float32
    in steps that keep the three ranks of candidates apart, not 1e5 and 1e8.
    """

    radius: float = 2.5
    overlap_weight: float = 3.0
    max_anchors: int = 10

    @torch.no_grad()
    def __call__(self, output: DenseOutput, targets: BatchTargets) -> Assignment:
        """The assignment of a batch."""
        anchors, boxes, image = output.anchors, targets.boxes, targets.image
        count, batch = len(anchors), len(targets)
        decoded = output.decode()
        sides = torch.cat(
            [anchors.centers - boxes[:, None, :2], boxes[:, None, 2:] - anchors.centers], dim=-1
        )
        real = (boxes[:, 2:] > boxes[:, :2]).all(1)[:, None]
        inside = (sides.amin(-1) > 0) & real  # (F,A)
        middle = (boxes[:, :2] + boxes[:, 2:])[:, None] / 2
        near = (anchors.centers - middle).abs().amax(-1) < self.radius * anchors.strides
        near &= real
        # Whatever is a candidate of any face counts among the best predictions of all.
        candidate = output.logits.new_zeros(batch, count)
        candidate = candidate.index_add(0, image, (inside | near).to(candidate.dtype)) > 0
        overlap = iou(boxes[:, None], decoded.boxes[image]) * candidate[image]
        cost = -decoded.scores[image].clamp(min=1e-6).log()  # at most 14
        cost = cost - self.overlap_weight * overlap.clamp(min=1e-8).log()
        step = 32 + 19 * self.overlap_weight  # more than any cost so far
        cost = cost + step * ((~inside).to(cost.dtype) + (~near).to(cost.dtype))
        most = min(self.max_anchors, count)
        share = overlap.topk(most, dim=1).values.sum(1).long().clamp(min=1)
        cost, index = cost.topk(most, dim=1, largest=False)  # (F,K), the cheapest first
        rank = torch.arange(most, device=cost.device)
        taken = (rank < share[:, None]) & (inside | near).gather(1, index)
        slot = image[:, None] * count + index
        return _highest(slot, torch.where(taken, -cost, -torch.inf), batch, count)


def cells_around(level: Level, boxes: Tensor, reach: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Rows (F,K) and columns (F,K) int64 of the cells around each box's center, row by row.

    At the map's border the window moves inwards, so that all boxes have as many cells; no cell
    within `reach` of the center is left out.

    Args:
        level: whose cells.
        boxes: (F,4) xyxy.
        reach: cells up and down, and to the left and right.
    """
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    first = []
    for axis, (size, far) in enumerate(zip(level.map_size, reach, strict=True)):
        middle = ((center[:, 1 - axis] - level.offset) / level.stride).round().long()
        window = min(2 * far + 1, size)
        start = (middle - far).clamp(0, size - window)
        first.append(start[:, None] + torch.arange(window, device=boxes.device))
    rows, columns = first
    shape = (len(boxes), rows.shape[1], columns.shape[1])
    return (
        rows[:, :, None].expand(shape).flatten(1),
        columns[:, None, :].expand(shape).flatten(1),
    )


def inside_regions(anchors: Anchors, targets: BatchTargets) -> Tensor:
    """Whether each anchor's center lies in an ignored region of its image: (B,A) bool.

    Regions are drawn on the grid of cells by their corners and summed up, so that their number
    costs nothing.
    """
    regions, image, batch = targets.ignore, targets.ignore_image, len(targets)
    found = []
    for level in anchors.levels:
        height, width = level.map_size
        limit = constant([width, height], regions)
        scaled = (regions - level.offset) / level.stride
        low = torch.minimum(scaled[:, :2].ceil().clamp(min=0), limit).long()
        high = torch.minimum((scaled[:, 2:].floor() + 1).clamp(min=0), limit).long()
        high = torch.maximum(high, low)
        grid = regions.new_zeros(batch * (height + 1) * (width + 1))
        for corner, sign in (
            ((low, low), 1),
            ((low, high), -1),
            ((high, low), -1),
            ((high, high), 1),
        ):
            x, y = corner[0][:, 0], corner[1][:, 1]
            cell = (image * (height + 1) + y) * (width + 1) + x
            grid = grid.index_add(0, cell, torch.full_like(regions[:, 0], sign))
        grid = grid.view(batch, height + 1, width + 1).cumsum(1).cumsum(2)
        inside = grid[:, :height, :width].flatten(1) > 0.5
        found.append(inside.repeat_interleave(len(level.sizes), 1))
    return torch.cat(found, 1)


def _anchors_of(cells: Tensor, level: Level) -> Tensor:
    """All anchors (F,K*sizes) of cells (F,K), cell by cell."""
    per_cell = len(level.sizes)
    anchor = torch.arange(per_cell, device=cells.device)
    return (cells[..., None] * per_cell + anchor).flatten(1) + level.start


def _highest(slot: Tensor, value: Tensor, batch: int, count: int) -> Assignment:
    """Each anchor's face of highest value; `BACKGROUND` where none has one.

    Args:
        slot: (F,K) int64: image * A + anchor.
        value: (F,K), -inf for what takes no part.
        batch: B.
        count: A.
    """
    flat = slot.flatten()
    best = value.new_full((batch * count,), -torch.inf)
    best = best.scatter_reduce(0, flat, value.flatten(), "amax")
    rows = torch.arange(len(slot), device=slot.device)[:, None].expand_as(slot)
    highest = (value > -torch.inf) & (value >= best[slot])
    face = rows.new_full((batch * count,), BACKGROUND)
    face = face.scatter_reduce(0, flat, torch.where(highest, rows, BACKGROUND).flatten(), "amax")
    slot_face = torch.where(highest & (face[slot] == rows), rows, BACKGROUND)
    return Assignment(face.view(batch, count), slots=flat, slot_face=slot_face.flatten())


def _inside_images(anchors: Anchors, sizes: Tensor) -> Tensor:
    """Whether each anchor lies wholly in its image (B,A) bool; all True where none does.

    Args:
        anchors: A anchors.
        sizes: (B,2) height and width of each image.
    """
    boxes = anchors.boxes
    within = (boxes[:, :2] >= 0).all(1) & (boxes[:, 2:] <= sizes.flip(1)[:, None]).all(-1)
    return within | ~within.any(1, keepdim=True)
