"""SCRFD: sample and computation redistribution for efficient face detection.

Paper: J. Guo, J. Deng, A. Lattas, S. Zafeiriou (arXiv:2105.04714). The family is one network
shape: a backbone of free depths and widths, a PAFPN over C3..C5, a light head at strides 8, 16, 32
with two square anchors a cell, no anchors at stride 4, everything trained from scratch.

Legend: B batch, A anchors over all levels, G ground-truth faces, P positive anchors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from facefind.learn.assigners import atss, inside_any, simota
from facefind.learn.boxes import iou
from facefind.learn.distributed import mean_over_processes
from facefind.learn.losses import (
    Losses,
    diou_loss,
    landmark_loss,
    min_positive_scores,
    quality_focal,
)
from facefind.learn.recipe import NetworkConfig
from facefind.learn.targets import Target
from facefind.nn.anchors import Anchors, square_anchors
from facefind.nn.backbones import BasicBlock, Bottleneck, MobileNetV1, ResNetV1e
from facefind.nn.coders import decode_distances, decode_points, encode_points
from facefind.nn.heads import HeadOutput, TowerHead
from facefind.nn.layers import group_norm
from facefind.nn.necks import PAFPN

STRIDES = (8, 16, 32)
ANCHOR_SIZES = ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))
"""Sides of the square anchors at each stride, in pixels (sec. 4)."""


Assigner = Callable[[Anchors, Tensor, Tensor, Tensor], Tensor]
"""Anchors, boxes (G,4), predicted boxes (A,4) and scores (A,) -> each anchor's face or -1: (A,)."""


def _atss(anchors: Anchors, boxes: Tensor, predicted: Tensor, scores: Tensor) -> Tensor:
    return atss(anchors, boxes)  # geometry alone decides


ASSIGNERS: dict[str, Assigner] = {"atss": _atss, "simota": simota}
"""What may choose the anchors of a face in training; the paper's is ATSS (sec. 5.1)."""


@dataclass(frozen=True)
class Outputs:
    """Raw outputs of the network with the anchors that they belong to."""

    raw: HeadOutput
    anchors: Anchors


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss terms, from the authors' configurations (the paper gives none)."""

    box: float = 2.0
    landmarks: float = 0.1


class SCRFD(nn.Module):
    """The detector: parts in, raw outputs, candidates and losses out."""

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        head: nn.Module,
        weights: LossWeights | None = None,
        assign: Assigner = _atss,
    ) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = backbone, neck, head
        self.weights, self.assign = weights or LossWeights(), assign

    def forward(self, images: Tensor) -> Outputs:
        """Raw outputs for images (B,3,H,W), RGB in 0..255, H and W multiples of 32."""
        x = (images.to(next(self.parameters()).dtype) - 127.5) / 128
        maps = self.neck(self.backbone(x)[1:])
        sizes = [(m.shape[-2], m.shape[-1]) for m in maps]
        return Outputs(self.head(maps), square_anchors(sizes, STRIDES, ANCHOR_SIZES, x.device))

    def candidates(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Boxes (B,A,4) and points (B,A,5,2) or None in input pixels, with scores (B,A) in 0..1."""
        outputs = self(images)
        raw, anchors = outputs.raw, outputs.anchors
        boxes = decode_distances(raw.distances.float(), anchors.centers, anchors.strides)
        points = None
        if raw.offsets is not None:
            points = decode_points(raw.offsets.float(), anchors.centers, anchors.strides)
        return boxes, raw.logits.float().sigmoid(), points

    def losses(self, outputs: Outputs, targets: Sequence[Target]) -> Losses:
        """Loss terms `cls`, `box` and, with points, `kps`; and each image's weakest positive.

        An image without faces adds to `cls` alone. Without any face in the batch, `box` and `kps`
        are exactly 0 and still carry (zero) gradients to every parameter.

        Source: sec. 5.1: ATSS, quality focal loss (the "GFL" of the text), DIoU loss.
        Differs: as in the authors' code, `box` and `kps` weigh each positive by its own detached
        score and divide by the sum of these; theirs divides 0 by 0 without faces, ours does not.
        """
        raw, anchors = outputs.raw, outputs.anchors
        logits, distances = raw.logits.float(), raw.distances.float()
        quality = torch.zeros_like(logits)
        counted = torch.ones_like(logits)
        now = decode_distances(distances.detach(), anchors.centers, anchors.strides)
        scores = logits.detach().sigmoid()
        image_index, anchor_index, faces, points = [], [], [], []
        for index, target in enumerate(targets):
            assigned = self.assign(anchors, target.boxes, now[index], scores[index])
            positive = (assigned >= 0).nonzero().squeeze(1)
            if target.ignore.shape[0]:
                counted[index, inside_any(anchors.centers, target.ignore) & (assigned < 0)] = 0
            image_index.append(torch.full_like(positive, index))
            anchor_index.append(positive)
            faces.append(target.boxes[assigned[positive]])
            points.append(target.landmarks[assigned[positive]])
        image, anchor = torch.cat(image_index), torch.cat(anchor_index)
        face, point = torch.cat(faces), torch.cat(points)

        centers, strides = anchors.centers[anchor], anchors.strides[anchor]
        predicted = decode_distances(distances[image, anchor], centers, strides)
        quality[image, anchor] = iou(predicted.detach(), face)
        positives = sum(max(int(i.numel()), 1) for i in anchor_index)
        normalizer = mean_over_processes(logits.new_tensor(float(positives))).clamp(min=1)
        terms = {"cls": (quality_focal(logits, quality) * counted).sum() / normalizer}

        weight = scores[image, anchor]
        weakest = min_positive_scores(weight, image, len(targets))
        divisor = mean_over_processes(weight.sum()).clamp(min=1e-6)
        box = (diou_loss(predicted, face) * weight).sum() + distances.sum() * 0
        terms["box"] = self.weights.box * box / divisor
        if raw.offsets is not None:
            offsets = raw.offsets.float()
            labeled = point.isfinite().all(-1).all(-1)
            image, anchor = image[labeled], anchor[labeled]
            goal = encode_points(point[labeled], centers[labeled], strides[labeled])
            kps = (landmark_loss(offsets[image, anchor], goal) * weight[labeled]).sum()
            terms["kps"] = self.weights.landmarks * (kps + offsets.sum() * 0) / divisor
        return Losses(terms, weakest)


@dataclass(frozen=True, kw_only=True)
class SCRFDConfig(NetworkConfig):
    """A row of the family: every number that tells one SCRFD from another."""

    system = "scrfd"

    block: Literal["depthwise", "basic", "bottleneck"]
    """Backbone block: MobileNetV1's or ResNet's."""
    depths: tuple[int, int, int, int]
    """Blocks in the stages C2..C5."""
    widths: tuple[int, int, int, int]
    """Channels of the stages C2..C5, before a bottleneck's expansion."""
    stem: tuple[int, ...]
    """Channels of the stem: (first, last) for depthwise, (last,) for residual backbones."""
    neck: int
    """Channels of the PAFPN."""
    head: int
    """Channels of the head's tower."""
    head_depth: int = 2
    """Convolutions in the head's tower."""
    head_groups: int | None = 16
    """Groups of the head's group normalization; None: batch normalization."""
    shared_head: bool = True
    """Whether one head serves all levels."""
    scales: bool = True
    """Whether a learned scalar a level multiplies the box output."""
    landmarks: bool = False
    """Whether five points are regressed."""
    assigner: Literal["atss", "simota"] = "atss"
    """What chooses the anchors of a face in training."""
    loss: LossWeights = field(default_factory=LossWeights)

    def build(self) -> SCRFD:
        """The network with fresh weights."""
        backbone: MobileNetV1 | ResNetV1e
        if self.block == "depthwise":
            backbone = MobileNetV1(self.stem, self.depths, self.widths)
        else:
            block = BasicBlock if self.block == "basic" else Bottleneck
            backbone = ResNetV1e(block, self.stem[-1], self.depths, self.widths)
        head = TowerHead(
            self.neck,
            self.head,
            self.head_depth,
            levels=len(STRIDES),
            anchors_per_cell=len(ANCHOR_SIZES[0]),
            norm=group_norm(self.head_groups) if self.head_groups else nn.BatchNorm2d,
            depthwise=self.block == "depthwise",
            shared=self.shared_head,
            scales=self.scales,
            landmarks=self.landmarks,
        )
        neck = PAFPN(backbone.widths[1:], self.neck)
        return SCRFD(backbone, neck, head, self.loss, ASSIGNERS[self.assigner])


def with_landmarks(row: SCRFDConfig, *, scales: bool = True) -> SCRFDConfig:
    """A row's variant with five points: batch normalization and a head a level, as published."""
    return replace(row, head_groups=None, shared_head=False, landmarks=True, scales=scales)


def _mobile(
    depths: tuple[int, int, int, int],
    widths: tuple[int, int, int, int],
    stem: tuple[int, int],
    neck: int,
    head: int,
    groups: int = 16,
) -> SCRFDConfig:
    return SCRFDConfig(
        block="depthwise",
        depths=depths,
        widths=widths,
        stem=stem,
        neck=neck,
        head=head,
        head_groups=groups,
    )


def _residual(
    block: Literal["basic", "bottleneck"],
    depths: tuple[int, int, int, int],
    widths: tuple[int, int, int, int],
    neck: int,
    head: int,
    head_depth: int = 2,
    groups: int = 16,
) -> SCRFDConfig:
    return SCRFDConfig(
        block=block,
        depths=depths,
        widths=widths,
        stem=widths[:1],  # the stem is as wide as the first stage (sec. 4.2)
        neck=neck,
        head=head,
        head_depth=head_depth,
        head_groups=groups,
    )


_500M = _mobile((2, 3, 2, 6), (40, 72, 152, 288), (16, 16), 16, 64)
_1G = _mobile((3, 2, 1, 5), (48, 160, 216, 312), (32, 48), 24, 96, groups=8)
_1_3G = _residual("basic", (3, 5, 3, 2), (16, 32, 40, 72), 24, 48)
_2_5G = _residual("basic", (3, 5, 3, 2), (24, 48, 48, 80), 24, 64)
_10G = _residual("basic", (3, 4, 2, 3), (56, 88, 88, 224), 56, 80, head_depth=3)
_34G = _residual("bottleneck", (17, 16, 2, 8), (56, 56, 144, 184), 128, 256, groups=32)

FAMILY: dict[str, SCRFDConfig] = {
    "scrfd-500m": _500M,
    "scrfd-500m-kps": with_landmarks(_500M, scales=False),
    "scrfd-1g": _1G,
    "scrfd-1g-kps": with_landmarks(_1G),
    "scrfd-1.3g": _1_3G,
    "scrfd-2.5g": _2_5G,
    "scrfd-2.5g-kps": with_landmarks(_2_5G),
    "scrfd-10g": _10G,
    "scrfd-10g-kps": with_landmarks(_10G),
    "scrfd-34g": _34G,
    "scrfd-34g-kps": with_landmarks(_34G),
}
"""The family by name (fig. 7 and 8). The 1 and 1.3 GF rows and the variants with points are from
the authors' code, save 1g-kps and 34g-kps, which follow the same pattern and are ours."""

_RESNET_STAGES = (64, 128, 256, 512)


def _quarters(of: int) -> tuple[int, int, int, int]:
    first, second, third, fourth = (width * of // 4 for width in _RESNET_STAGES)
    return first, second, third, fourth


BASELINES: dict[str, SCRFDConfig] = {
    "mobilenet-0.5g": _mobile((2, 2, 6, 3), (32, 64, 128, 256), (8, 16), 32, 80),
    "mobilenet-1g": _mobile((3, 3, 7, 3), (32, 64, 128, 256), (16, 16), 64, 128),
    "resnet-1.3g": _residual("basic", (2, 2, 2, 2), _quarters(1), 32, 64),
    "resnet-2.5g": _residual("basic", (3, 4, 6, 3), _quarters(1), 48, 96),
    "resnet-10g": _residual("basic", (3, 4, 6, 3), _quarters(2), 128, 160, groups=32),
    "resnet-34g": _residual("bottleneck", (3, 4, 6, 3), _quarters(4), 128, 256, groups=32),
    "resnet-34g-released": _residual("bottleneck", (3, 8, 4, 3), _quarters(4), 128, 256, groups=32),
}
"""Classification networks under the same neck and head: what the family is compared with.

Source: table 2 (mobilenet-0.5g, resnet-2.5g, -10g, -34g); the 1 and 1.3 GF rows are the code's.
Differs: table 2 calls the 34 GF backbone ResNet-50, whose multiply-adds are those of table 4; the
authors' configuration has stages of 3, 8, 4, 3 blocks, whose parameters are those of table 4.
`resnet-34g` is the former, `resnet-34g-released` the latter.
"""

ROWS: dict[str, SCRFDConfig] = FAMILY | BASELINES
"""Every network of the paper and its code by name."""
