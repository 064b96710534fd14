"""SmallHardFace: one map, small anchors, hard images.

Paper: Z. Zhang, W. Shen, S. Qiao, Y. Wang, B. Wang, A. Yuille (arXiv:1811.11662). Two maps of the
backbone are fused at stride 8 and carry three small anchors a cell, each behind its own dilation
of one shared convolution. Larger faces are left to an image pyramid (`facefind.protocols`), easy
images to hard image mining (`facefind.learn.mining`). The detector with three maps that the paper
starts from is here too.

Legend: B batch, A anchors over all levels, C channels, H W.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from facefind.learn.assigners import BACKGROUND, by_iou, inside_any
from facefind.learn.losses import Losses, min_positive_scores
from facefind.learn.recipe import NetworkConfig
from facefind.learn.samplers import FACE, LEFT_OUT, by_quota
from facefind.learn.targets import Target
from facefind.nn.anchors import Anchors, square_anchors
from facefind.nn.backbones import VGG, BasicBlock, Bottleneck, MobileNetV1, ResNetV1e
from facefind.nn.coders import BoxCoder
from facefind.nn.heads import AnchorOutput, DilatedHead, PlainHead
from facefind.nn.necks import FusedMap
from facefind.nn.upsampling import FixedBilinear

SIZES = (16.0, 32.0, 64.0)
"""Sides of the anchors on each cell of the one map, in pixels (sec. 3.1)."""
DILATIONS = (1, 2, 4)
"""Dilation of the shared convolution for each of `SIZES` (sec. 3.1)."""
THREE_STRIDES, THREE_SIZES = (8, 16, 32), ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))
"""The maps and anchors of Baseline-Three, which are SSH's (sec. 2.3)."""
ANCHOR_OFFSET = 8.0
"""From a cell's top left corner to its anchors' center, at every stride: the released code shifts
the window of pixels 0..15, whose middle is the edge of a cell of stride 8."""


@dataclass(frozen=True)
class Outputs:
    """Raw outputs of the network with the anchors that they belong to, for images of one size."""

    raw: AnchorOutput
    anchors: Anchors
    image_size: tuple[int, int]


class SmallHardFace(nn.Module):
    """The detector: parts in, raw outputs, candidates and losses out.

    Args:
        backbone: image -> maps, the second and third at strides 8 and 16.
        neck: those two -> the maps with anchors.
        head: maps -> `AnchorOutput`.
        strides: stride of each map.
        sizes: sides of the anchors on a cell of each map.
        mean: RGB that is subtracted from the image.
        std: what the rest is divided by.
        plus_one: train with faces one pixel wider and higher than their boxes.
        quota: of each image, the most positive anchors and the most anchors that are learned.
    """

    size_multiple = 16
    """Heights and widths that it takes are multiples of this."""
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        head: nn.Module,
        *,
        strides: Sequence[int] = (8,),
        sizes: Sequence[Sequence[float]] = (SIZES,),
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        plus_one: bool = False,
        quota: tuple[int, int] = (64, 256),
    ) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = backbone, neck, head
        self.quota = quota
        self.strides, self.sizes = tuple(strides), tuple(tuple(s) for s in sizes)
        self.coder, self.plus_one = BoxCoder(), plus_one
        self.register_buffer("mean", torch.tensor(mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(3, 1, 1), persistent=False)
        for module in (*neck.modules(), *head.modules()):
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Outputs:
        """Raw outputs for images (B,3,H,W), RGB in 0..255, H and W multiples of 16."""
        kind = next(self.parameters()).dtype
        x = (images.to(kind) - self.mean.to(kind)) / self.std.to(kind)
        maps = self.neck(self.backbone(x)[1:3])
        sizes = [(m.shape[-2], m.shape[-1]) for m in maps]
        anchors = square_anchors(sizes, self.strides, self.sizes, x.device, ANCHOR_OFFSET)
        return Outputs(self.head(maps), anchors, (images.shape[-2], images.shape[-1]))

    def candidates(self, images: Tensor) -> tuple[Tensor, Tensor, None]:
        """Boxes (B,A,4) in input pixels with scores (B,A) in 0..1, and no points."""
        outputs = self(images)
        logits, deltas = outputs.raw.logits.float(), outputs.raw.deltas.float()
        boxes = self.coder.decode(deltas, outputs.anchors.boxes)
        return boxes, (logits[..., 1] - logits[..., 0]).sigmoid(), None

    def losses(self, outputs: Outputs, targets: Sequence[Target]) -> Losses:
        """Loss terms `cls` and `box`, and each image's weakest positive.

        Each image counts alike: `cls` is the mean cross-entropy over its picked anchors, `box` the
        mean smooth L1 over all anchors that overlap a face by 0.3. An image without faces adds to
        `cls` alone; what is then 0 still carries (zero) gradients to every parameter.

        Source: sec. 3.2 (the weakest positive, before hard anchors are picked), sec. 3.3; weights
        of 1 and the bend of smooth L1 at 1/9 are the released code's.
        """
        logits, deltas = outputs.raw.logits.float(), outputs.raw.deltas.float()
        scores = logits.detach().softmax(-1)[..., 1]
        matches = [self.match(outputs, target) for target in targets]
        labels = torch.stack([match.labels for match in matches])
        positives, total = self.quota
        picked = by_quota(labels, scores, positives=positives, total=total)
        entropy = functional.cross_entropy(
            logits.transpose(1, 2), picked, ignore_index=LEFT_OUT, reduction="none"
        )
        cls = entropy.sum(1) / (picked != LEFT_OUT).sum(1).clamp(min=1)

        regressed = torch.stack([match.regressed for match in matches])
        faces = torch.cat([match.faces for match in matches])
        image, anchor = regressed.nonzero(as_tuple=True)
        goal = self.coder.encode(faces, outputs.anchors.boxes[anchor])
        gap = functional.smooth_l1_loss(deltas[image, anchor], goal, beta=1 / 9, reduction="none")
        share = 1 / regressed.sum(1).clamp(min=1)
        box = (gap.sum(1) * share[image]).sum() + deltas.sum() * 0

        image, anchor = (labels == FACE).nonzero(as_tuple=True)
        weakest = min_positive_scores(scores[image, anchor], image, len(targets))
        return Losses({"cls": cls.mean(), "box": box / len(targets)}, weakest)

    def match(self, outputs: Outputs, target: Target) -> Match:
        """What each anchor answers for in one image.

        Anchors that reach beyond the image, or into its padding, take no part, unless all do. An
        anchor is a face from an IoU of 0.5 on, background below 0.3 and not in an ignored region.
        No face is given its best anchor by force: what is too large or too small for the anchors
        is learned by none.

        Source: sec. 3.3; the border is the released code's.
        Differs: with `plus_one` off, the code's habit of counting boxes (x, y, x + w, y + h) as
        w + 1 wide is left out; with it on, faces are made a pixel wider and higher, which in plain
        arithmetic on anchors of whole pixels is the same.
        """
        anchors = outputs.anchors
        boxes, faces = anchors.boxes, target.boxes
        if self.plus_one:
            faces = faces + faces.new_tensor([0.0, 0.0, 1.0, 1.0])
        found = by_iou(boxes, faces, positive=0.5, negative=0.3)
        height, width = target.size or outputs.image_size
        within = (boxes[:, :2] >= 0).all(1) & (boxes[:, 2] <= width) & (boxes[:, 3] <= height)
        if not within.any():
            within = torch.ones_like(within)
        background = found.assigned == BACKGROUND
        if target.ignore.shape[0]:
            background &= ~inside_any(anchors.centers, target.ignore)
        labels = torch.full_like(found.assigned, LEFT_OUT)
        labels[background & within] = 0
        labels[(found.assigned >= 0) & within] = FACE
        regressed = (found.overlap >= 0.3) & within
        return Match(labels, regressed, faces[found.nearest[regressed]])


class Match(NamedTuple):
    """What the anchors of one image answer for.

    Attributes:
        labels: (A,) int64: 1 face, 0 background, -1 neither.
        regressed: (A,) bool: which anchors learn a box, R of them.
        faces: (R,4) xyxy: the boxes that these learn.
    """

    labels: Tensor
    regressed: Tensor
    faces: Tensor


CAFFE_MEAN = (122.7717, 115.9465, 102.9801)
"""Mean RGB under which Caffe's ImageNet weights were trained; they divide by nothing."""


@dataclass(frozen=True, kw_only=True)
class SmallHardFaceConfig(NetworkConfig):
    """A row of the ablation, or a detector of its kind on another backbone."""

    system = "smallhardface"

    block: Literal["vgg", "depthwise", "basic", "bottleneck"] = "vgg"
    """Backbone block: VGG's, MobileNetV1's or ResNet's."""
    depths: tuple[int, ...] = (2, 2, 3, 3, 3)
    """Blocks in each stage up to stride 16: five stages of VGG, three of the others."""
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    """Channels of the stages, before a bottleneck's expansion."""
    stem: tuple[int, ...] = ()
    """Channels of the stem: none for VGG, (first, last) for depthwise, (last,) for ResNet."""
    reduced: int = 256
    """Channels to which either map is brought before both are fused."""
    fused: int = 512
    """Channels of the fused map."""
    head: int = 128
    """Channels of the head."""
    three_maps: bool = False
    """Baseline-Three: maps at strides 8, 16, 32 with anchors up to 512, instead of one."""
    dilated: bool = True
    """The dilated head, for one map."""
    norm: bool = False
    """Batch normalization in neck and head, for training from scratch."""
    caffe_upsample: bool = True
    """Enlarge by Caffe's transposed convolution, which darkens the rim, not by interpolation."""
    mean: tuple[float, float, float] = CAFFE_MEAN
    """RGB subtracted from the image; the backbone's first weights decide."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """What the rest is divided by."""
    plus_one: bool = False
    """Train with faces one pixel wider and higher, as the released code does."""
    quota: tuple[int, int] = (64, 256)
    """Of each image, the most positive anchors and the most anchors that are learned (sec. 3.3)."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Cell sizes of the maps with anchors."""
        return THREE_STRIDES if self.three_maps else THREE_STRIDES[:1]

    def build(self) -> SmallHardFace:
        """The network with fresh weights."""
        if self.three_maps and self.dilated:
            raise ValueError("the dilated head stands on one map: set dilated off with three_maps")
        stages, stem = (5, 0) if self.block == "vgg" else (3, 2 if self.block == "depthwise" else 1)
        if (len(self.depths), len(self.widths), len(self.stem)) != (stages, stages, stem):
            raise ValueError(
                f"block {self.block} with depths {self.depths}, widths {self.widths} and stem "
                f"{self.stem}; wanted {stages} depths, {stages} widths and {stem} numbers of a stem"
            )
        backbone: VGG | MobileNetV1 | ResNetV1e
        if self.block == "vgg":
            backbone = VGG(self.depths, self.widths)
        elif self.block == "depthwise":
            backbone = MobileNetV1(self.stem, self.depths, self.widths)
        else:
            block = BasicBlock if self.block == "basic" else Bottleneck
            backbone = ResNetV1e(block, self.stem[-1], self.depths, self.widths)
        upsample = (
            FixedBilinear() if self.caffe_upsample else nn.Upsample(scale_factor=2, mode="bilinear")
        )
        neck = FusedMap(
            (backbone.widths[1], backbone.widths[2]),
            self.reduced,
            self.fused,
            upsample,
            norm=self.norm,
            pyramid=self.three_maps,
        )
        sizes = THREE_SIZES if self.three_maps else (SIZES,)
        head: nn.Module
        if self.dilated:
            head = DilatedHead(self.fused, self.head, DILATIONS, norm=self.norm)
        else:
            head = PlainHead(neck.widths, self.head, len(sizes[0]), norm=self.norm)
        return SmallHardFace(
            backbone,
            neck,
            head,
            strides=self.strides,
            sizes=sizes,
            mean=self.mean,
            std=self.std,
            plus_one=self.plus_one,
            quota=self.quota,
        )


_FULL = SmallHardFaceConfig()
_LIGHT = replace(
    _FULL,
    block="basic",
    depths=(1, 2, 3),
    widths=(16, 32, 64),
    stem=(16,),
    reduced=32,
    fused=48,
    head=32,
    norm=True,
    caffe_upsample=False,
    mean=(127.5, 127.5, 127.5),
    std=(128.0, 128.0, 128.0),
)

ROWS: dict[str, SmallHardFaceConfig] = {
    "smallhardface": _FULL,
    "smallhardface-single": replace(_FULL, dilated=False),
    "smallhardface-three": replace(_FULL, dilated=False, three_maps=True),
    "smallhardface-light": _LIGHT,
}
"""Every network by name: the full model, Baseline-Single and Baseline-Three of table 1, and a light
one of ours under 1 GF, to be trained from scratch on a CPU."""
