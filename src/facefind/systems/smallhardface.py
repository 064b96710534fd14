"""SmallHardFace: one map, small anchors, hard images.

Paper: Z. Zhang, W. Shen, S. Qiao, Y. Wang, B. Wang, A. Yuille (arXiv:1811.11662). Two maps of the
backbone are fused at stride 8 and carry three small anchors a cell, each behind its own dilation
of one shared convolution. Larger faces are left to an image pyramid (`facefind.protocols`), easy
images to hard image mining (`facefind.learn.mining`). The detector with three maps that the paper
starts from is here too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from facefind.learn.criterion_config import (
    AssignerConfig,
    BoxConfig,
    ClassificationConfig,
    CriterionConfig,
    SamplerConfig,
)
from facefind.learn.recipe import NetworkConfig

if TYPE_CHECKING:
    from facefind.nn.detector import DenseDetector

SIZES = (16.0, 32.0, 64.0)
"""Sides of the anchors on each cell of the one map, in pixels (sec. 3.1)."""
DILATIONS = (1, 2, 4)
"""Dilation of the shared convolution for each of `SIZES` (sec. 3.1)."""
THREE_STRIDES, THREE_SIZES = (8, 16, 32), ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))
"""The maps and anchors of Baseline-Three, which are SSH's (sec. 2.3)."""
ANCHOR_OFFSET = 8.0
"""From a cell's top left corner to its anchors' center, at every stride: the released code shifts
the window of pixels 0..15, whose middle is the edge of a cell of stride 8."""
CAFFE_MEAN = (122.7717, 115.9465, 102.9801)
"""Mean RGB under which Caffe's ImageNet weights were trained; they divide by nothing."""

CRITERION = CriterionConfig(
    assigner=AssignerConfig(
        kind="max-iou", positive_iou=0.5, negative_iou=0.3, box_iou=0.3, inside_image=True
    ),
    sampler=SamplerConfig(kind="ohem-quota", positives=64, total=256),
    classification=ClassificationConfig(kind="cross-entropy", average="images"),
    box=BoxConfig(kind="smooth-l1", smooth_l1_beta=1 / 9, by_image=True),
)
"""What every row learns (sec. 3.2 and 3.3): 256 anchors of an image, at most 64 of them faces.

A face is assigned no anchor for certain: what is too large or too small for the anchors is learned
by none. Each image counts alike. That anchors beyond the image take no part, the weights of 1 and
the beta of smooth L1 are the released code's.
"""


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
    context: str = "none"
    """The context modules: `none`, `ssh`, `fem`, `rfe`, `cpm`, or the `.json` file of a genotype;
    the paper has none."""
    norm: bool = False
    """Batch normalization in neck and head, for training from scratch."""
    caffe_upsample: bool = True
    """Enlarge by Caffe's transposed convolution, which darkens the border, not by interpolation."""
    mean: tuple[float, float, float] = CAFFE_MEAN
    """RGB subtracted from the image; the backbone's first weights decide."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """What the rest is divided by."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Cell sizes of the maps with anchors."""
        return THREE_STRIDES if self.three_maps else THREE_STRIDES[:1]

    def build(self) -> DenseDetector:
        """The network with fresh weights.

        Raises:
            ValueError: if the numbers do not fit together.
        """
        from torch import nn

        from facefind.nn import backbones, features
        from facefind.nn.anchors import AnchorGrid
        from facefind.nn.coders import AnchorBoxCoder
        from facefind.nn.detector import DenseDetector, Normalize
        from facefind.nn.heads import DilatedHead, PlainHead
        from facefind.nn.layers import initialize_convs
        from facefind.nn.necks import FusedMap
        from facefind.nn.upsampling import FixedBilinear

        if self.three_maps and self.dilated:
            raise ValueError("the dilated head has one map: set dilated off with three_maps")
        stages, stem = (5, 0) if self.block == "vgg" else (3, 2 if self.block == "depthwise" else 1)
        if (len(self.depths), len(self.widths), len(self.stem)) != (stages, stages, stem):
            raise ValueError(
                f"block {self.block} with depths {self.depths}, widths {self.widths} and stem "
                f"{self.stem}: expected {stages} depths, {stages} widths and {stem} stem channels"
            )
        backbone = backbones.from_blocks(self.block, self.stem, self.depths, self.widths)
        neck = FusedMap(
            (backbone.widths[1], backbone.widths[2]),
            self.reduced,
            self.fused,
            FixedBilinear()
            if self.caffe_upsample
            else nn.Upsample(scale_factor=2, mode="bilinear"),
            norm=self.norm,
            pyramid=self.three_maps,
        )
        sizes = THREE_SIZES if self.three_maps else (SIZES,)
        head: nn.Module
        if self.dilated:
            head = DilatedHead(self.fused, self.head, DILATIONS, norm=self.norm)
        else:
            head = PlainHead(neck.widths, self.head, len(sizes[0]), norm=self.norm)
        initialize_convs(neck, head)
        return DenseDetector(
            Normalize(self.mean, self.std),
            backbone,
            neck,
            features.context(self.context, neck.widths, self.strides),
            head,
            AnchorGrid(self.strides, sizes, ANCHOR_OFFSET),
            AnchorBoxCoder(),
            taps=slice(1, 3),
            system=self.system,
            size_multiple=16,
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
