"""The criterion: what a network learns, made of an assigner, a sampler and loss terms.

    anchors, targets -> assigner -> faces of anchors -> sampler -> labels -> terms -> losses

Any assigner, sampler and terms go together, for any system; `recipe.CriterionConfig` names them.
The number of operations depends neither on images nor on faces, and nothing is read back from the
device.

Legend: B batch, A anchors over all levels, F faces of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from facefind.learn.assigners import Assigner, Assignment, inside_regions
from facefind.learn.boxes import diou, iou
from facefind.learn.distributed import mean_over_processes
from facefind.learn.losses import margin_cross_entropy, quality_focal
from facefind.learn.samplers import BACKGROUND, FACE, IGNORED, Sampler
from facefind.learn.targets import BatchTargets
from facefind.nn.anchors import Anchors
from facefind.nn.detector import DenseOutput


class Losses(NamedTuple):
    """What a criterion returns: what to minimize, and how hard each image was.

    Attributes:
        terms: loss terms by name, weighted and ready to be added.
        min_positive_scores: (B,) the lowest face score among an image's positive anchors, before
            they are sampled, in 0..1 and without gradient; NaN for an image without any.
    """

    terms: dict[str, Tensor]
    min_positive_scores: Tensor


class Matched(NamedTuple):
    """A shot's outputs with what each anchor is to learn.

    Scores are learned by all anchors (B,A). Boxes and landmarks are learned by few, which have a
    row each: R is (B,A), or (N,) where the assigner knows the few that may have a face.

    Attributes:
        output: float32 outputs.
        targets: labels of the batch.
        labels: (B,A) int64 after sampling: 1 face, 0 background, -1 ignored.
        scores: (B,A) face scores in 0..1, without gradient.
        slot: (N,) image * A + anchor of each row; None: rows are all anchors.
        anchors: of the rows.
        face: (R) int64: the face of each row that is sampled as one, else F.
        box_face: (R) int64: the face whose box a row learns, else F.
        boxes: (R,4) target boxes; rows that learn none have their anchor's own.
    """

    output: DenseOutput
    targets: BatchTargets
    labels: Tensor
    scores: Tensor
    slot: Tensor | None
    anchors: Anchors
    face: Tensor
    box_face: Tensor
    boxes: Tensor

    @property
    def positive(self) -> Tensor:
        """(B,A) bool: anchors that are sampled as faces."""
        return self.labels == FACE

    @property
    def image(self) -> Tensor:
        """(R) int64: the image of each row."""
        batch, count = self.labels.shape
        if self.slot is not None:
            return torch.div(self.slot, count, rounding_mode="floor")
        return torch.arange(batch, device=self.labels.device)[:, None].expand(batch, count)

    def rows(self, values: Tensor) -> Tensor:
        """(R,...) the rows' part of values (B,A,...)."""
        return values if self.slot is None else values.flatten(0, 1).index_select(0, self.slot)

    def spread(self, values: Tensor) -> Tensor:
        """(B,A) values (R), not below 0, each at its anchor, and 0 at all others."""
        if self.slot is None:
            return values
        whole = values.new_zeros(self.labels.numel())
        return whole.scatter_reduce(0, self.slot, values, "amax").view_as(self.labels)


Term = Callable[[Matched], Tensor | dict[str, Tensor]]
"""A loss term: a weighted scalar of what was matched; or several by name, or none."""

Average = Literal["positives", "sampled", "levels", "images"]
"""What a sum over anchors is divided by: the number of positive anchors, of sampled ones, or each
level's sum by its own number of sampled anchors, and the levels' sum, or each image's by its own,
and the images' mean."""


class Criterion:
    """Outputs and targets -> losses.

    A detector's auxiliary shots learn by the same terms from their own anchors; theirs are called
    `cls_aux`, `box_aux` and so on, with a number from the second on.

    Args:
        assigner: finds the face of each anchor.
        sampler: picks the anchors that a step learns from.
        terms: loss terms by name.
        auxiliary_weight: factor of the terms of auxiliary shots.
        inclusive_pixels: boxes are given by their first and last pixel and landmarks by pixel
            numbers, as older code has them: boxes become a pixel wider and higher, landmarks move
            by half a pixel.
    """

    def __init__(
        self,
        assigner: Assigner,
        sampler: Sampler,
        terms: Mapping[str, Term],
        *,
        auxiliary_weight: float = 1.0,
        inclusive_pixels: bool = False,
    ) -> None:
        self.assigner, self.sampler, self.terms = assigner, sampler, dict(terms)
        self.auxiliary_weight, self.inclusive_pixels = auxiliary_weight, inclusive_pixels

    def __call__(self, output: DenseOutput, targets: BatchTargets) -> Losses:
        """The losses of a batch.

        An image without faces adds to the classification alone. A term without anything to learn is
        exactly 0 and still carries (zero) gradients to every parameter.
        """
        if self.inclusive_pixels:
            low, high = targets.boxes.chunk(2, 1)
            real = (high > low).all(1, keepdim=True)  # padding stays without area
            wider = torch.cat([low, high + real.to(high.dtype)], 1)
            targets = replace(targets, boxes=wider, landmarks=targets.landmarks + 0.5)
        terms, scores = self._shot(output.float(), targets)
        for number, shot in enumerate(output.auxiliary, 1):
            more, _ = self._shot(shot.float(), targets)
            end = "_aux" if number == 1 else f"_aux{number}"
            terms |= {f"{name}{end}": self.auxiliary_weight * v for name, v in more.items()}
        return Losses(terms, scores)

    def match(self, output: DenseOutput, targets: BatchTargets) -> tuple[Assignment, Tensor]:
        """The faces of a shot's anchors and their labels (B,A) before sampling."""
        with torch.no_grad():
            found = self.assigner(output, targets)
            labels = (found.face + 1).clamp(max=FACE)  # a row, or -1, or -2 -> 1, 0, -1
            ignored = inside_regions(output.anchors, targets)
            labels = torch.where(ignored & (labels == BACKGROUND), IGNORED, labels)
        return found, labels

    def _shot(self, output: DenseOutput, targets: BatchTargets) -> tuple[dict[str, Tensor], Tensor]:
        found, labels = self.match(output, targets)
        scores = output.face_logits.detach().sigmoid()
        lowest = scores.masked_fill(labels != FACE, torch.inf).amin(1)
        lowest = lowest.masked_fill(lowest.isinf(), torch.nan)
        labels = self.sampler(labels, scores, output.anchors.per_level)
        terms: dict[str, Tensor] = {}
        matched = _matched(output, targets, found, labels, scores)
        for name, term in self.terms.items():
            value = term(matched)
            terms |= value if isinstance(value, dict) else {name: value}
        return terms, lowest


def _matched(
    output: DenseOutput, targets: BatchTargets, found: Assignment, labels: Tensor, scores: Tensor
) -> Matched:
    """What was assigned and sampled, as the terms take it."""
    none, anchors = len(targets.boxes), output.anchors
    sampled, face, slot = labels == FACE, found.face, None
    # Who learns a box without being sampled as a face is known for all anchors alone.
    if found.box_face is None and found.slots is not None and found.slot_face is not None:
        slot, face = found.slots, found.slot_face
        sampled = (face >= 0) & sampled.flatten()[slot]
        anchors = anchors.take(slot % len(anchors))
    face = torch.where(sampled, face, none)
    box_face = face
    if found.box_face is not None:
        box_face = torch.where(found.box_face >= 0, found.box_face, none)
    boxes = rows_or_zeros(targets.boxes, box_face)
    boxes = torch.where((box_face < none)[..., None], boxes, anchors.boxes)
    return Matched(output, targets, labels, scores, slot, anchors, face, box_face, boxes)


@dataclass(frozen=True)
class QualityFocal:
    """Scores learn the IoU of their boxes, background 0; the sum is divided by the positives.

    Attributes:
        weight: factor of the term.
        beta: power of the weight of hard anchors.

    Source: SCRFD, sec. 5.1: quality focal loss (the "GFL" of the text).
    """

    weight: float = 1.0
    beta: float = 2.0

    def __call__(self, matched: Matched) -> Tensor:
        """The term."""
        output, targets = matched.output, matched.targets
        now = output.coder.decode(matched.rows(output.boxes.detach()), matched.anchors)
        overlap = iou(now, rows_or_zeros(targets.boxes, matched.face))  # 0 with what is no face
        loss = quality_focal(output.face_logits, matched.spread(overlap), self.beta)
        return self.weight * averaged_over_anchors(loss, matched, "positives")


@dataclass(frozen=True)
class CrossEntropy:
    """Scores learn face or background, and to be right by a margin where there is one.

    The margin is taken off the logit of what an anchor is. It is in training alone, and samplers
    rank anchors without it.

    Attributes:
        weight: factor of the term.
        average: what the sum is divided by.
        margin: in the units of the logits: of cosines that are scaled by s, s times CosFace's m.

    Source: RetinaFace, sec. 3.1, eq. 1; a softmax over background and face is a sigmoid of their
    difference. ASFD, sec. 1 and 4.2 (margin-based classification); CosFace
    (arXiv:1801.09414), eq. 4.
    Differs: ASFD gives no formula; a margin on plain logits is the released code's.
    """

    weight: float = 1.0
    average: Average = "positives"
    margin: float = 0.0

    def __call__(self, matched: Matched) -> Tensor:
        """The term."""
        positive = matched.positive.float()
        loss = margin_cross_entropy(matched.output.face_logits, positive, self.margin)
        return self.weight * averaged_over_anchors(loss, matched, self.average)


@dataclass(frozen=True)
class BoxLoss:
    """Boxes learn those of their faces.

    Attributes:
        kind: `diou` compares decoded boxes; `smooth-l1` sums the differences of the coder's four
            numbers.
        weight: factor of the term.
        beta: of smooth L1.
        by_score: each anchor weighs by its own score, without gradient, and the sum is divided by
            the sum of these, as in SCRFD's code.
        by_image: each image's mean counts alike, as in SmallHardFace, not each anchor.
        per_image: the sum is divided by so many anchors for every image, whatever learns; None: by
            the anchors that learn.

    Source: SCRFD, sec. 5.1 (DIoU); RetinaFace, sec. 3.1, eq. 1 (smooth L1).
    """

    kind: Literal["diou", "smooth-l1"] = "diou"
    weight: float = 1.0
    beta: float = 1.0
    by_score: bool = False
    by_image: bool = False
    per_image: float | None = None

    def __call__(self, matched: Matched) -> Tensor:
        """The term."""
        coder, raw = matched.output.coder, matched.rows(matched.output.boxes)
        if self.kind == "diou":
            loss = 1 - diou(coder.decode(raw, matched.anchors), matched.boxes)
        else:
            goal = coder.encode(matched.boxes, matched.anchors)
            loss = functional.smooth_l1_loss(raw, goal, reduction="none", beta=self.beta).sum(-1)
        learns = matched.box_face < len(matched.targets.boxes)
        weight = learns * (matched.rows(matched.scores) if self.by_score else 1.0)
        loss = torch.where(learns, loss, 0.0) * weight
        if not self.by_image:
            fixed = None if self.per_image is None else self.per_image * len(matched.targets)
            return self.weight * loss.sum() / (fixed or _count(weight.sum(), least=1e-6))
        sums = loss.new_zeros(2, len(matched.targets))
        both = torch.stack([loss.flatten(), weight.flatten()])
        sums = sums.index_add(1, matched.image.flatten(), both)
        return self.weight * (sums[0] / sums[1].clamp(min=1e-6)).mean()


@dataclass(frozen=True)
class LandmarkLoss:
    """Landmarks learn those of their faces by smooth L1, summed over the visible ones.

    Attributes:
        weight: factor of the term.
        beta: of smooth L1.
        by_score: each anchor weighs by its own score, and the sum is divided by that of the scores
            of all positives, landmarks or not, as in SCRFD's code; otherwise by the number of
            positives with landmarks, one with fewer than five counting in part.
        per_image: as of `BoxLoss`, in place of the number of positives with landmarks.

    Source: RetinaFace, sec. 3.1 (3).
    """

    weight: float = 0.1
    beta: float = 1 / 9
    by_score: bool = False
    per_image: float | None = None

    def __call__(self, matched: Matched) -> Tensor | dict[str, Tensor]:
        """The term; none where the network gives no landmarks."""
        output, targets = matched.output, matched.targets
        if output.landmarks is None:
            return {}
        visible = rows_or_zeros(targets.visible.float(), matched.face)  # (R,5)
        goal = rows_or_zeros(targets.landmarks, matched.face)
        goal = output.coder.encode_landmarks(goal, matched.anchors)
        raw = matched.rows(output.landmarks)
        loss = (
            functional.smooth_l1_loss(raw, goal, reduction="none", beta=self.beta).sum(-1) * visible
        )
        if self.per_image is not None:
            return self.weight * loss.sum() / (self.per_image * len(targets))
        if not self.by_score:
            return self.weight * loss.sum() / _count(visible.sum() / 5, least=0.2)
        weight = matched.rows(matched.scores) * (matched.face < len(targets.boxes))
        return self.weight * (loss.sum(-1) * weight).sum() / _count(weight.sum(), least=1e-6)


def averaged_over_anchors(loss: Tensor, matched: Matched, average: Average) -> Tensor:
    """The mean () of a loss (B,A) over the sampled anchors, in one of the ways of `Average`.

    An image without positive anchors counts as if it had one.
    """
    sampled = matched.labels != IGNORED
    loss = torch.where(sampled, loss, 0.0)
    if average == "images":
        return (loss.sum(1) / sampled.sum(1).clamp(min=1)).mean()
    if average == "levels":
        per_level = list(matched.output.anchors.per_level)
        parts = zip(*(torch.split(x, per_level, 1) for x in (loss, sampled)), strict=True)
        return torch.stack([part.sum() / _count(own.sum().float()) for part, own in parts]).sum()
    if average == "sampled":
        return loss.sum() / _count(sampled.sum().float())
    return loss.sum() / _count(matched.positive.sum(1).clamp(min=1).sum().float())


def _count(value: Tensor, least: float = 1.0) -> Tensor:
    """A divisor: its mean over processes, not less than `least`."""
    return mean_over_processes(value).clamp(min=least)


def rows_or_zeros(values: Tensor, row: Tensor) -> Tensor:
    """Rows (R,...) of values (F,...), zeros where the row is F."""
    padded = torch.cat([values, values.new_zeros(1, *values.shape[1:])])
    return padded.index_select(0, row.flatten()).reshape(*row.shape, *values.shape[1:])
