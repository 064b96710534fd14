"""RetinaFace: single-stage dense face localization in the wild.

Paper: J. Deng, J. Guo, Y. Zhou, J. Yu, I. Kotsia, S. Zafeiriou (arXiv:1905.00641). A feature
pyramid, an independent context module on every level, deformable convolutions in both, and a 1x1
head that gives each anchor a score, a box, five points and, where asked for, the parameters of a
dense mesh, learned together.

Legend: B batch, A anchors over all levels, G ground-truth faces, P positive anchors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from facefind.learn.assigners import by_iou, inside_any
from facefind.learn.distributed import mean_over_processes
from facefind.learn.losses import Losses, landmark_loss, min_positive_scores
from facefind.learn.recipe import NetworkConfig
from facefind.learn.samplers import BACKGROUND, FACE, LEFT_OUT, by_quota, by_ratio
from facefind.learn.targets import Target
from facefind.mesh import PARAMETERS
from facefind.nn.anchors import Anchors, square_anchors
from facefind.nn.backbones import Bottleneck, MobileNetV1, ResNet
from facefind.nn.coders import BoxCoder, PointCoder
from facefind.nn.context import ContextModule
from facefind.nn.deform import DeformConv2d
from facefind.nn.heads import LinearHead
from facefind.nn.layers import conv3x3
from facefind.nn.necks import FPN
from facefind.systems.mesh.dense import DenseBranch, MeshConfig

RESNET_DEPTHS = {
    "resnet-50": (3, 4, 6, 3),
    "resnet-101": (3, 4, 23, 3),
    "resnet-152": (3, 8, 36, 3),
}
PAPER_STRIDES = (4, 8, 16, 32, 64)
PAPER_SIZES = tuple(
    (4.0 * stride, 4.0 * stride * 2 ** (1 / 3), 4.0 * stride * 2 ** (2 / 3))
    for stride in PAPER_STRIDES
)
"""Sides of the anchors on each level's cells, 16 to 406 pixels (table 2)."""
THREE_STRIDES = (8, 16, 32)
THREE_SIZES = ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))
"""Anchors of the light model: those of SSH, on P3 to P5 (sec. 4.8)."""
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


@dataclass(frozen=True)
class Outputs:
    """Raw outputs of the network with the anchors that they belong to.

    Attributes:
        classes: (B,A,2) logits of background and face.
        deltas: (B,A,4) boxes, as the network's box coder has them.
        offsets: (B,A,5,2) points, as its point coder has them, or None.
        anchors: A anchors.
        mesh: (B,A,144) mesh parameters, relative to the anchors, or None.
        images: (B,3,H,W) that the outputs are of; the mesh is compared with them.
    """

    classes: Tensor
    deltas: Tensor
    offsets: Tensor | None
    anchors: Anchors
    mesh: Tensor | None = None
    images: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Matching:
    """Which anchors learn what, and which of them a step looks at (sec. 4.2)."""

    positive: float = 0.5
    """Least IoU with a face at which an anchor answers for it."""
    negative: float = 0.3
    """IoU below which an anchor is background; between the two it is left out."""
    force: float | None = None
    """Least IoU at which a face has its best anchor in any case; None: no face has."""
    mining: Literal["ratio", "quota"] = "ratio"
    """`ratio`: all faces of an image and the hardest negatives; `quota`: on every level of an image
    at most 64 hardest faces, and the hardest negatives that make them up to 256."""
    ratio: float = 3.0
    """Negatives for each positive."""
    least: int = 30
    """Negatives of an image that has fewer positives, or none, for which to have some."""


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the loss terms (eq. 1) and the bend of smooth L1."""

    cls: float = 1.0
    box: float = 0.25
    points: float = 0.1
    bend: float = 1.0
    """Difference at which smooth L1 turns from a square to a line."""


class RetinaFace(nn.Module):
    """The detector: parts in, raw outputs, candidates and losses out.

    Args:
        backbone: image -> maps C2..C5.
        neck: the last of these -> one map a level.
        contexts: a context module a level.
        head: maps -> `cls`, `box` and perhaps `points` of each anchor.
        strides: stride of each level.
        sizes: sides of the anchors on a cell of each level.
        offset: pixels from a cell's corner to its anchors' center; None: half a cell.
        boxes: between deltas and boxes.
        points: between offsets and points.
        mean: RGB that is subtracted from the image.
        std: what the rest is divided by.
        stride4_score_scale: what the finest level's scores are multiplied by in `candidates`.
        matching: of anchors with faces.
        weights: of the loss terms.
        mesh: the dense branch behind the head's `mesh`, or None.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        contexts: Sequence[nn.Module],
        head: nn.Module,
        *,
        strides: Sequence[int] = PAPER_STRIDES,
        sizes: Sequence[Sequence[float]] = PAPER_SIZES,
        offset: float | None = None,
        boxes: BoxCoder | None = None,
        points: PointCoder | None = None,
        mean: Sequence[float] = IMAGENET[0],
        std: Sequence[float] = IMAGENET[1],
        stride4_score_scale: float = 1.0,
        matching: Matching | None = None,
        weights: LossWeights | None = None,
        mesh: DenseBranch | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = backbone, neck, head
        self.contexts = nn.ModuleList(contexts)
        self.strides, self.sizes = tuple(strides), tuple(tuple(s) for s in sizes)
        self.offsets = [stride / 2 if offset is None else offset for stride in strides]
        self.boxes, self.points = boxes or BoxCoder(), points or PointCoder()
        self.stride4_score_scale = stride4_score_scale
        self.matching, self.weights = matching or Matching(), weights or LossWeights()
        self.mesh = mesh
        self.register_buffer("mean", torch.tensor(mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Outputs:
        """Raw outputs for images (B,3,H,W), RGB in 0..255, H and W multiples of 32."""
        kind = next(self.parameters()).dtype
        x = (images.to(kind) - self.mean.to(kind)) / self.std.to(kind)
        maps = self.neck(self.backbone(x)[PAPER_STRIDES.index(self.strides[0]) :])
        maps = [context(m) for context, m in zip(self.contexts, maps, strict=True)]
        map_sizes = [(m.shape[-2], m.shape[-1]) for m in maps]
        anchors = square_anchors(map_sizes, self.strides, self.sizes, x.device, self.offsets)
        raw = self.head(maps)
        points = raw.get("points")
        if points is not None:
            points = points.reshape(*points.shape[:2], 5, 2)
        return Outputs(raw["cls"], raw["box"], points, anchors, raw.get("mesh"), images)

    @property
    def mesh_decoder(self) -> str:
        """Name of the decoder that mesh parameters are for, "" without any."""
        return self.mesh.name if self.mesh else ""

    def candidates(self, images: Tensor) -> tuple[Tensor | None, ...]:
        """Boxes (B,A,4) and points (B,A,5,2) or None in input pixels, with scores (B,A) in 0..1.

        With a dense branch mesh parameters (B,A,144) follow, their camera in input pixels.
        """
        outputs = self(images)
        at = outputs.anchors.corners(plus_one=self.boxes.plus_one)
        scores = (outputs.classes[..., 1] - outputs.classes[..., 0]).float().sigmoid()
        if self.stride4_score_scale != 1:
            finest = outputs.anchors.strides == self.strides[0]
            scores = torch.where(finest, scores * self.stride4_score_scale, scores)
        points = None
        if outputs.offsets is not None:
            points = self.points.decode(outputs.offsets.float(), at)
        found = (self.boxes.decode(outputs.deltas.float(), at), scores, points)
        if self.mesh is None or outputs.mesh is None:
            return found
        return *found, self.mesh.resolve(outputs.mesh.float(), at)

    def losses(self, outputs: Outputs, targets: Sequence[Target]) -> Losses:
        """Loss terms `cls`, `box` and, with points, `kps`; and each image's weakest positive.

        A dense branch adds its own, over the same anchors (see `DenseBranch.losses`).

        `cls` is the cross-entropy of the picked anchors, `box` and `kps` the smooth L1, summed over
        coordinates, of the faces among them; faces without points train none. An image without
        faces adds to `cls` alone. What is 0 still carries (zero) gradients to every parameter.

        Source: sec. 3.1, eq. 1; sec. 4.2.
        Differs: the text does not say what sums are divided by. As in SSD, which its reference for
        the mining follows, `box` and `cls` are divided by the number of positives, `kps` by those
        with points. With a quota of anchors, `cls` is their mean, as in the released code.
        """
        classes, deltas = outputs.classes.float(), outputs.deltas.float()
        margin = (classes[..., 1] - classes[..., 0]).detach()
        matches = [self._match(outputs.anchors, target) for target in targets]
        labels = torch.stack([label for label, _ in matches])
        positive = labels == FACE
        image = positive.nonzero()[:, 0]
        weakest = min_positive_scores(margin[positive].sigmoid(), image, len(targets))

        labels = self._pick(labels, margin, outputs.anchors.per_level)
        entropy = functional.cross_entropy(
            classes.flatten(0, 1), labels.flatten(), ignore_index=LEFT_OUT, reduction="sum"
        )
        picked = mean_over_processes((labels != LEFT_OUT).sum().float()).clamp(min=1)
        share = 1 + self.matching.ratio if self.matching.mining == "ratio" else 1
        terms = {"cls": self.weights.cls * share * entropy / picked}

        image, anchor = (labels == FACE).nonzero(as_tuple=True)
        nearest = torch.stack([face for _, face in matches])[image, anchor]
        starts = torch.tensor([0, *(len(t.boxes) for t in targets[:-1])], device=image.device)
        face = starts.cumsum(0)[image] + nearest
        at = outputs.anchors.corners(plus_one=self.boxes.plus_one)[anchor]
        goal = self.boxes.encode(torch.cat([t.boxes for t in targets])[face], at)
        gap = functional.smooth_l1_loss(
            deltas[image, anchor], goal, beta=self.weights.bend, reduction="sum"
        )
        terms["box"] = self.weights.box * (gap + deltas.sum() * 0) / _mean_count(image)
        points = torch.cat([t.landmarks for t in targets])[face]
        if self.mesh is not None and outputs.mesh is not None and outputs.images is not None:
            raw = outputs.mesh[image, anchor].float()
            terms |= self.mesh.losses(raw, at, image, outputs.images, points)
        if outputs.offsets is not None:
            offsets = outputs.offsets.float()
            known = points.isfinite().flatten(1).all(1)
            image, anchor, at = image[known], anchor[known], at[known]
            goal = self.points.encode(points[known], at)
            gap = landmark_loss(offsets[image, anchor], goal, self.weights.bend).sum()
            terms["kps"] = self.weights.points * (gap + offsets.sum() * 0) / _mean_count(image)
        return Losses(terms, weakest)

    def _match(self, anchors: Anchors, target: Target) -> tuple[Tensor, Tensor]:
        """Labels (A,) and faces (A,) int64 of one image's anchors."""
        found = by_iou(
            anchors.corners(plus_one=self.boxes.plus_one),
            target.boxes,
            positive=self.matching.positive,
            negative=self.matching.negative,
            plus_one=self.boxes.plus_one,
            force=self.matching.force,
        )
        labels = (found.assigned + 1).clamp(max=FACE)  # a face's index or -1 or -2 -> 1, 0, -1
        if target.ignore.shape[0]:
            within = inside_any(anchors.centers, target.ignore)
            labels[within & (labels == BACKGROUND)] = LEFT_OUT
        return labels, found.assigned

    def _pick(self, labels: Tensor, scores: Tensor, per_level: Sequence[int]) -> Tensor:
        """The labels (B,A) with all but the hardest anchors left out."""
        rules = self.matching
        if rules.mining == "ratio":
            return by_ratio(labels, scores, ratio=rules.ratio, least=rules.least)
        counts = list(per_level)
        levels = zip(torch.split(labels, counts, 1), torch.split(scores, counts, 1), strict=True)
        return torch.cat([by_quota(some, score) for some, score in levels], dim=1)


def _mean_count(index: Tensor) -> Tensor:
    """How many there are, at least 1; the mean over processes."""
    count = torch.tensor(float(len(index)), device=index.device)
    return mean_over_processes(count).clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class RetinaFaceConfig(NetworkConfig):
    """A RetinaFace: every number that tells one from another; the paper's by default."""

    system = "retinaface"

    backbone: Literal["resnet-50", "resnet-101", "resnet-152", "mobilenet-0.25"] = "resnet-152"
    first: tuple[int, int] = (7, 4)
    """Kernel and stride of MobileNet's first convolution (sec. 4.8); the released one's is 3, 2."""
    width: int = 256
    """Channels of neck and context modules."""
    slope: float = 0.0
    """Of MobileNet's, the neck's and the context modules' ReLUs on their negative side."""
    deformable: bool = True
    """Whether the 3x3 convolutions of neck and context modules are deformable."""
    shared_head: bool = True
    """Whether one head serves all levels."""
    landmarks: bool = True
    """Whether five points are regressed."""
    dense: bool = False
    """Whether the 144 parameters of a dense mesh are regressed."""
    mesh: MeshConfig = field(default_factory=MeshConfig)
    """Of the dense branch, where there is one."""
    strides: tuple[int, ...] = PAPER_STRIDES
    """Strides of the levels, each twice the last, within 4 to 64."""
    sizes: tuple[tuple[float, ...], ...] = PAPER_SIZES
    """Sides of the anchors on a cell of each level, in pixels; equally many on all."""
    offset: float | None = None
    """Pixels from a cell's corner to its anchors' center; None: half a cell. Authors' code: 7.5."""
    plus_one: bool = False
    """Whether boxes are counted by their first and last pixel, as in the authors' code."""
    box_stds: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    """What box targets are divided by."""
    point_std: float = 1.0
    """What point targets are divided by."""
    mean: tuple[float, float, float] = IMAGENET[0]
    """RGB that is subtracted from the image."""
    std: tuple[float, float, float] = IMAGENET[1]
    """What the rest is divided by."""
    stride4_score_scale: float = 1.0
    """What the finest level's scores are multiplied by in testing; authors' code: 0.5."""
    matching: Matching = field(default_factory=Matching)
    loss: LossWeights = field(default_factory=LossWeights)

    def build(self) -> RetinaFace:
        """The network with fresh weights.

        Raises:
            ValueError: if the levels do not fit together.
        """
        first, last = self.strides[0], self.strides[-1]
        counts = {len(sides) for sides in self.sizes}
        wanted = tuple(stride for stride in PAPER_STRIDES if first <= stride <= last)
        if self.strides != wanted or last < 32 or len(self.sizes) != len(wanted) or len(counts) > 1:
            raise ValueError(
                f"strides {self.strides} with anchors {self.sizes}; wanted {PAPER_STRIDES} or the "
                "like, from 4 or more up to 32 or 64, and as many anchors on each"
            )
        backbone: MobileNetV1 | ResNet
        if self.backbone == "mobilenet-0.25":
            depths, widths = (2, 2, 6, 2), (32, 64, 128, 256)
            backbone = MobileNetV1((8, 16), depths, widths, first=self.first, slope=self.slope)
        else:
            backbone = ResNet(Bottleneck, RESNET_DEPTHS[self.backbone])
        conv = DeformConv2d if self.deformable else conv3x3
        inputs = backbone.widths[PAPER_STRIDES.index(first) :]
        neck = FPN(inputs, self.width, conv=conv, slope=self.slope, coarser=last == 64)
        contexts = [ContextModule(self.width, conv=conv, slope=self.slope) for _ in wanted]
        outputs = {"cls": 2, "box": 4} | ({"points": 10} if self.landmarks else {})
        outputs |= {"mesh": PARAMETERS} if self.dense else {}
        head = LinearHead(
            self.width,
            outputs,
            levels=len(wanted),
            anchors_per_cell=counts.pop(),
            shared=self.shared_head,
        )
        return RetinaFace(
            backbone,
            neck,
            contexts,
            head,
            strides=self.strides,
            sizes=self.sizes,
            offset=self.offset,
            boxes=BoxCoder(self.box_stds, self.plus_one),
            points=PointCoder(self.point_std, self.plus_one),
            mean=self.mean,
            std=self.std,
            stride4_score_scale=self.stride4_score_scale,
            matching=self.matching,
            weights=self.loss,
            mesh=self.mesh.build() if self.dense else None,
        )


def _three_levels(backbone: Literal["resnet-50", "mobilenet-0.25"], width: int) -> RetinaFaceConfig:
    return RetinaFaceConfig(
        backbone=backbone,
        width=width,
        deformable=False,
        strides=THREE_STRIDES,
        sizes=THREE_SIZES,
    )


def released(network: RetinaFaceConfig) -> RetinaFaceConfig:
    """A three-level network as the PyTorch port has it, whose weights are the widely used ones.

    A head a level, SSD's encoding, no ignored anchors, seven negatives for each positive.

    Source: biubug6/Pytorch_Retinaface.
    Differs: there a face whose best IoU lies below 0.2 may still take over an anchor that answers
    for another face; here it may not. And here images without faces have `least` negatives.
    """
    return replace(
        network,
        first=(3, 2),
        slope=0.1 if network.width <= 64 else 0.0,
        shared_head=False,
        box_stds=(0.1, 0.1, 0.2, 0.2),
        point_std=0.1,
        mean=(123.0, 117.0, 104.0),
        std=(1.0, 1.0, 1.0),
        matching=Matching(positive=0.35, negative=0.35, force=0.2, ratio=7.0),
        loss=LossWeights(box=2.0, points=1.0),
    )


def authors(network: RetinaFaceConfig, points: float) -> RetinaFaceConfig:
    """A three-level network as the authors' code has it: a head a level, a quota of anchors.

    Source: deepinsight/insightface, detection/retinaface.
    Differs: its ResNets put the normalization before the convolution and have one on the image;
    ours are torchvision's. The weight of its boxes also depends on its batch.
    """
    return replace(
        network,
        first=(3, 2),
        shared_head=False,
        offset=7.5,
        plus_one=True,
        matching=Matching(mining="quota"),
        loss=LossWeights(points=points, bend=1 / 9),
    )


_R152 = RetinaFaceConfig()
_R50_THREE = _three_levels("resnet-50", 256)
_MOBILE = _three_levels("mobilenet-0.25", 64)

ROWS: dict[str, RetinaFaceConfig] = {
    "retinaface-r152": _R152,
    "retinaface-r101": replace(_R152, backbone="resnet-101"),
    "retinaface-r50": replace(_R152, backbone="resnet-50"),
    "retinaface-r152-context": replace(_R152, deformable=False, landmarks=False),
    "retinaface-r152-dcn": replace(_R152, landmarks=False),
    "retinaface-mobile": _MOBILE,
    "retinaface-r50-released": released(_R50_THREE),
    "retinaface-mobile-released": released(_MOBILE),
    "retinaface-r50-authors": authors(_R50_THREE, points=0.2),
    "retinaface-mobile-authors": authors(_MOBILE, points=0.25),
}
"""Every network by name. `-context` and `-dcn` are the first rows of table 3; the third, with
points, is `retinaface-r152`."""
