"""The part of a recipe that names what a network learns; `learn.criterion` explains the parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from facefind.learn.assigners import ATSS, MaxIoU, SimOTA
    from facefind.learn.criterion import Criterion, Term
    from facefind.learn.samplers import Sampler
    from facefind.nn.detector import DenseDetector


@dataclass(frozen=True, kw_only=True)
class AssignerConfig:
    """Which anchors learn which face."""

    kind: Literal["atss", "max-iou", "simota"] = "atss"
    """`atss`: IoU above a threshold of each face's own; `max-iou`: IoU above fixed thresholds;
    `simota`: what the network predicts now decides."""
    topk: int = 9
    """ATSS: candidates a level."""
    positive_iou: float = 0.5
    """Max-IoU: least IoU with a face at which an anchor is assigned to it."""
    negative_iou: float = 0.3
    """Max-IoU: IoU below which an anchor is background; between the two it is ignored."""
    low_quality_iou: float | None = None
    """Max-IoU: least IoU at which a face has its best anchor in any case; None: no face has."""
    box_iou: float | None = None
    """Max-IoU: IoU from which an anchor learns a box whatever its score learns; None: anchors
    sampled as faces learn boxes."""
    inside_image: bool = False
    """Max-IoU: whether anchors that reach beyond the image are ignored."""
    at_least: int = 0
    """Max-IoU: so many anchors are assigned to each face, down to an IoU of 0.1 (S3FD: 6)."""
    radius: float = 2.5
    """SimOTA: strides around a face's center within which anchors are preferred."""
    max_anchors: int = 10
    """SimOTA: most anchors of a face."""

    def build(self) -> ATSS | MaxIoU | SimOTA:
        """The assigner."""
        from facefind.learn.assigners import ATSS, MaxIoU, SimOTA

        if self.kind == "atss":
            return ATSS(self.topk)
        if self.kind == "simota":
            return SimOTA(self.radius, max_anchors=self.max_anchors)
        return MaxIoU(
            self.positive_iou,
            self.negative_iou,
            self.low_quality_iou,
            self.box_iou,
            self.inside_image,
            self.at_least,
        )


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """Which anchors a step learns from."""

    kind: Literal["all", "ohem", "ohem-quota"] = "all"
    """`all`; `ohem`: all faces of an image and the hardest negatives, so many for each face;
    `ohem-quota`: a fixed number, the hardest faces and the hardest negatives."""
    ratio: float = 3.0
    """OHEM: negatives for each positive."""
    min_negatives: int = 30
    """OHEM: negatives of an image that has fewer positives, or none, for which to have some."""
    positives: int = 64
    """Quota: most faces."""
    total: int = 256
    """Quota: most anchors."""
    by_level: bool = False
    """Quota: whether each level of an image has this many, instead of the image."""

    def build(self) -> Sampler:
        """The sampler."""
        from facefind.learn.samplers import AllAnchors, OHEMQuota, OHEMRatio

        if self.kind == "all":
            return AllAnchors()
        if self.kind == "ohem":
            return OHEMRatio(self.ratio, self.min_negatives)
        return OHEMQuota(self.positives, self.total, self.by_level)


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig:
    """How scores learn."""

    kind: Literal["quality-focal", "cross-entropy", "margin"] = "quality-focal"
    """`quality-focal`: scores learn the IoU of their boxes; `cross-entropy`: face or background;
    `margin`: the same, and to be right by a margin."""
    weight: float = 1.0
    average: Literal["positives", "sampled", "levels", "images"] = "positives"
    """Cross-entropy and margin: what the sum is divided by: positive anchors, sampled ones, or each
    level's or image's own number of sampled ones; of levels these are added up."""
    margin: float = 0.2
    """Margin: what the logit of the right class must gain; of scores that are cosines, the same on
    the cosine, whose scale multiplies it (CosFace)."""

    def build(self, logit_scale: float = 1.0) -> Term:
        """The loss term of scores that are multiplied by `logit_scale`."""
        from facefind.learn.criterion import CrossEntropy, QualityFocal

        if self.kind == "quality-focal":
            return QualityFocal(self.weight)
        margin = self.margin * logit_scale if self.kind == "margin" else 0.0
        return CrossEntropy(self.weight, self.average, margin)


@dataclass(frozen=True, kw_only=True)
class BoxConfig:
    """How boxes learn."""

    kind: Literal["diou", "smooth-l1"] = "diou"
    weight: float = 1.0
    smooth_l1_beta: float = 1.0
    """Difference at which smooth L1 turns from a square to a line."""
    by_score: bool = False
    """Whether anchors weigh by their own score."""
    by_image: bool = False
    """Whether each image counts alike, instead of each anchor."""
    per_image: float | None = None
    """Anchors for every image that the sum is divided by; None: by the anchors that learn."""

    def build(self) -> Term:
        """The loss term."""
        from facefind.learn.criterion import BoxLoss

        return BoxLoss(
            self.kind,
            self.weight,
            self.smooth_l1_beta,
            self.by_score,
            self.by_image,
            self.per_image,
        )


@dataclass(frozen=True, kw_only=True)
class LandmarkConfig:
    """How landmarks learn, where the network has them."""

    weight: float = 0.1
    smooth_l1_beta: float = 1 / 9
    by_score: bool = False
    """Whether anchors weigh by their own score."""
    per_image: float | None = None
    """Anchors for every image that the sum is divided by; None: by the positive ones with
    landmarks."""

    def build(self) -> Term:
        """The loss term."""
        from facefind.learn.criterion import LandmarkLoss

        return LandmarkLoss(self.weight, self.smooth_l1_beta, self.by_score, self.per_image)


@dataclass(frozen=True, kw_only=True)
class CriterionConfig:
    """What a network learns. Parts of all papers go together, for any system."""

    assigner: AssignerConfig = field(default_factory=AssignerConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    classification: ClassificationConfig = field(default_factory=ClassificationConfig)
    box: BoxConfig = field(default_factory=BoxConfig)
    landmarks: LandmarkConfig = field(default_factory=LandmarkConfig)
    auxiliary_weight: float = 1.0
    """Factor of the loss terms of auxiliary shots."""
    inclusive_pixels: bool = False
    """Whether boxes are given by their first and last pixel, as in older code: faces are then
    learned one pixel wider and higher."""

    def build(self, network: DenseDetector) -> Criterion:
        """The criterion of a network, its mesh branch's terms included."""
        from facefind.learn.criterion import Criterion

        terms: dict[str, Term] = {
            "cls": self.classification.build(network.logit_scale),
            "box": self.box.build(),
            "landmarks": self.landmarks.build(),
        }
        if network.mesh is not None:
            terms["mesh"] = network.mesh.losses
        return Criterion(
            self.assigner.build(),
            self.sampler.build(),
            terms,
            auxiliary_weight=self.auxiliary_weight,
            inclusive_pixels=self.inclusive_pixels or network.inclusive_pixels,
        )
