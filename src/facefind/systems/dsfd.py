"""DSFD: two shots through one network.

Paper: J. Li, Y. Wang, C. Wang, Y. Tai, J. Qian, J. Yang, C. Wang, J. Li, F. Huang
(arXiv:1810.10220). A first shot on six maps of the backbone learns from anchors of half the size
and is left out of inference; a feature enhance module makes six better maps of them for the second
shot. What the authors released is another network, which is here as `dsfd-release`, and so is the
small one that one of them released later, `lightdsfd`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from facefind.learn.criterion_config import (
    AssignerConfig,
    BoxConfig,
    ClassificationConfig,
    CriterionConfig,
    SamplerConfig,
)
from facefind.learn.recipe import NetworkConfig
from facefind.nn.backbone_names import Published
from facefind.systems.retinaface import IMAGENET

if TYPE_CHECKING:
    from torch import nn

    from facefind.nn.anchors import AnchorGrid
    from facefind.nn.detector import DenseDetector

STRIDES = (4, 8, 16, 32, 64, 128)
SIDES = (16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
"""Square roots of the areas of the second shot's anchors, one a cell (table 1)."""
L2_SCALES = (10.0, 8.0, 5.0)
"""Lengths at first of the three maps of VGG that are normalized."""
RELEASED_MEAN = (123.0, 117.0, 104.0)
"""RGB that the released codes subtract; they divide by nothing."""
DPN_NORMALIZE = ((124.0, 117.0, 104.0), (1 / 0.0167,) * 3)
"""Mean and divisor under which DPN's weights for ImageNet were trained."""

CRITERION = CriterionConfig(
    assigner=AssignerConfig(
        kind="max-iou", positive_iou=0.4, negative_iou=0.4, low_quality_iou=0.0
    ),
    sampler=SamplerConfig(kind="ohem", ratio=3.0),
    classification=ClassificationConfig(kind="cross-entropy", average="sampled"),
    box=BoxConfig(kind="smooth-l1"),
)
"""The paper's (sec. 3.3 and 3.4, eq. 2 to 4), for either shot.

Differs: the paper gives neither beta nor lambda, which are 1 here (`box.weight`; lambda is the
inverse of `auxiliary_weight`), nor which negatives are learned: three of the hardest for each
positive, as in SSD, which it follows, and at least 30 of each image. Eq. 2 as it is printed divides
the boxes' sum by both numbers; here it is divided by that of the positives alone, as in eq. 3. That
a face's best anchor is assigned to it in any case is the released code's.
"""
RELEASED_CRITERION = replace(
    CRITERION, classification=replace(CRITERION.classification, average="positives")
)
"""The released code's: scores, too, are divided by the number of positive anchors."""


@dataclass(frozen=True, kw_only=True)
class DSFDConfig(NetworkConfig):
    """A DSFD: every number in which one differs from another; the paper's by default."""

    system = "dsfd"

    backbone: Literal[Published, "mobilenet", "light-trunk"] = "resnet-152"
    stem: tuple[int, int] = (16, 16)
    """MobileNet: channels of the stem."""
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    """MobileNet: blocks in each stage."""
    widths: tuple[int, int, int, int] = (32, 64, 128, 256)
    """MobileNet: channels of the stages."""
    coarser: tuple[tuple[int, int], ...] = ((512, 512), (128, 256))
    """Channels of the two convolutions that make each map beyond stride 32."""
    design: Literal["paper", "release", "light"] = "paper"
    """What follows the backbone: the paper's two shots, the modules and heads of the released code,
    or those of lightDSFD. The fields from here on to `ratio` are the paper's."""
    pyramid: str = "fem"
    """The pyramid: `none`, `fpn`, `pafpn`, `bifpn`, `fem`, `autofem`, or the `.json` file of a
    genotype; the paper's is `fem`; others give maps of one width."""
    context: str = "fem"
    """The context modules: `none`, `ssh`, `fem`, `rfe`, `cpm`, or the `.json` file of a genotype;
    the paper's is `fem`."""
    enhance: bool = True
    """Whether a feature enhance module makes the second shot's maps; without it they are the
    backbone's own."""
    enhanced: tuple[int, ...] = ()
    """Channels of the six enhanced maps; none: each as many as its map of the backbone."""
    product: bool = True
    """Whether a map is multiplied by the next coarser one."""
    chained: bool = True
    """Whether that is a product itself, as in the known codes; else the backbone's map, as the
    paper's equation 1 has it."""
    dilation: int = 3
    """Of the convolutions of the feature enhance module."""
    normalized: int = 0
    """How many of the finest maps have batch normalization in the feature enhance module; the
    coarsest have too few cells for it. Where any has, first weights are those for training from
    scratch, else the paper's."""
    first_shot: Literal["half", "same", "none"] = "half"
    """Anchors of the first shot: half the second's (progressive anchor loss), the same, or no first
    shot at all (single shot)."""
    ratio: float = 1.5
    """Height of an anchor over its width."""
    mean: tuple[float, float, float] = IMAGENET[0]
    """RGB that is subtracted from the image."""
    std: tuple[float, float, float] = IMAGENET[1]
    """What the rest is divided by."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Cell sizes of the six maps."""
        return STRIDES

    @property
    def sizes(self) -> tuple[tuple[tuple[float, float], ...], ...]:
        """(width, height) of the one anchor on a cell of each map, in pixels."""
        root = math.sqrt(self.ratio)
        return tuple(((side / root, side * root),) for side in SIDES)

    def build(self) -> DenseDetector:
        """The network with fresh weights.

        Raises:
            ValueError: if a feature module is unknown or does not fit.
        """
        from facefind.nn.anchors import AnchorGrid
        from facefind.nn.backbones import LightTrunk, MobileNetV1, published
        from facefind.nn.coders import AnchorBoxCoder
        from facefind.nn.detector import DenseDetector, Normalize
        from facefind.nn.extension import Extension

        backbone: nn.Module
        if self.backbone == "mobilenet":
            backbone = MobileNetV1(self.stem, self.depths, self.widths)
        elif self.backbone == "light-trunk":
            backbone = LightTrunk()
        else:
            backbone = published(self.backbone)
        extension = Extension(
            backbone.widths,
            self.coarser,
            norm=self.backbone not in ("vgg16", "mobilenet"),
            fc_width=1024 if self.backbone == "vgg16" else 0,
        )
        anchors = AnchorGrid(STRIDES, self.sizes, offset=None)
        parts = {"paper": self._paper, "release": _release, "light": _light}[self.design]
        return DenseDetector(
            normalize=Normalize(self.mean, self.std),
            backbone=backbone,
            extension=extension,
            anchors=anchors,
            coder=AnchorBoxCoder((0.1, 0.1, 0.2, 0.2)),
            system=self.system,
            **parts(extension.widths, anchors),
        )

    def _paper(self, maps: tuple[int, ...], anchors: AnchorGrid) -> dict[str, Any]:
        """What follows maps of so many channels in the paper's network (fig. 2)."""
        from torch import nn

        from facefind.nn import features
        from facefind.nn.context import DilatedBranches
        from facefind.nn.detector import AuxiliaryShot, PerLevel
        from facefind.nn.heads import LinearHead
        from facefind.nn.layers import L2Norm, xavier
        from facefind.nn.necks import ProductPyramid

        vgg = self.backbone == "vgg16"

        def norms(widths: tuple[int, ...]) -> list[nn.Module]:
            """Of VGG's maps alone are the finest three normalized (sec. 4.2)."""
            scaled = [L2Norm(width, scale) for width, scale in zip(widths, L2_SCALES, strict=False)]
            return [PerLevel([*scaled, *(nn.Identity() for _ in widths[3:])])] if vgg else []

        def head(widths: Sequence[int]) -> nn.Module:
            outputs = {"cls": 2, "box": 4}
            return LinearHead(
                widths,
                outputs,
                levels=len(maps),
                anchors_per_cell=1,
                shared=False,
                kernel=3,
            )

        widths = (self.enhanced or maps) if self.enhance else maps
        neck: nn.Module | None = None
        context: list[nn.Module] = norms(widths)
        if self.enhance and self.pyramid == "fem":
            neck = ProductPyramid(
                maps,
                widths,
                merged=len(maps) - 1,
                product=self.product,
                chained=self.chained,
                normalized=self.normalized,
            )
        elif self.enhance:
            if len(set(widths)) > 1:
                raise ValueError(
                    f"pyramid {self.pyramid} has maps of one width; expected as many enhanced "
                    f"channels on all six, got {widths}"
                )
            neck = features.pyramid(self.pyramid, maps, widths[0], STRIDES)
        if self.enhance and self.context == "fem":
            branches = (
                DilatedBranches(width, dilation=self.dilation, norm=level < self.normalized)
                for level, width in enumerate(widths)
            )
            context = [PerLevel(branches), *context]
        elif self.enhance and (modules := features.context(self.context, widths, STRIDES)):
            context = [modules, *context]
        shots = []
        if self.first_shot != "none":
            first = nn.Sequential(*norms(maps), head(maps))
            smaller = anchors.halved() if self.first_shot == "half" else anchors
            shots.append(AuxiliaryShot(first, smaller))
        second = head(widths)
        xavier(*context)
        if not self.normalized:  # from scratch, heads do better by small weights
            xavier(second, *shots)
        return {
            "neck": neck,
            "context": nn.Sequential(*context) if context else None,
            "head": second,
            "auxiliary": shots,
        }


def smaller_sets(anchors: AnchorGrid) -> list[AnchorGrid]:
    """Anchors of heads and bodies: a half and a quarter of the faces' of their level.

    Source: PyramidBox (arXiv:1803.07737), sec. 3.3, as the released codes have it.
    """
    return [
        replace(anchors, strides=anchors.strides[skip:], sizes=anchors.sizes[:-skip], name=name)
        for skip, name in ((1, "head"), (2, "body"))
    ]


def _release(maps: tuple[int, ...], anchors: AnchorGrid) -> dict[str, Any]:
    """What follows maps of so many channels in the released code's network."""
    from facefind.nn.context import ReleasedContext
    from facefind.nn.detector import PerLevel
    from facefind.nn.heads import DeepHead
    from facefind.nn.layers import xavier
    from facefind.nn.necks import ProductPyramid

    neck = ProductPyramid(maps, maps, merged=3, rectified=False, align_corners=True)
    context = PerLevel(ReleasedContext(width) for width in maps)
    xavier(context)
    tower = ((256, 3), (256, 3), (256, 3))
    return {
        "neck": neck,
        "context": context,
        "head": DeepHead(ReleasedContext.width, tower, levels=len(maps), sets=3, max_in_out=True),
        "further": smaller_sets(anchors),
    }


def _light(maps: tuple[int, ...], anchors: AnchorGrid) -> dict[str, Any]:
    """What follows maps of so many channels in lightDSFD."""
    from facefind.nn.backbones.faceboxes import Inception
    from facefind.nn.detector import PerLevel
    from facefind.nn.heads import DeepHead
    from facefind.nn.necks import SmoothedProduct

    return {
        "neck": SmoothedProduct(maps, 64, merged=3),
        "context": PerLevel(Inception(64) for _ in maps),
        "head": DeepHead(64, ((16, 1), (16, 3)), levels=len(anchors.strides), norm=True),
    }


_R152 = DSFDConfig()
_RELEASE = replace(_R152, design="release", mean=RELEASED_MEAN, std=(1.0, 1.0, 1.0))
_LIGHT = DSFDConfig(
    backbone="mobilenet",
    stem=(16, 16),
    depths=(2, 3, 2, 6),
    widths=(40, 72, 152, 288),
    coarser=((64, 96), (64, 96)),
    enhanced=(24, 48, 64, 64, 64, 64),
    normalized=4,
    mean=(127.5, 127.5, 127.5),
    std=(128.0, 128.0, 128.0),
)

ROWS: dict[str, DSFDConfig] = {
    "dsfd-r152": _R152,
    "dsfd-r101": replace(_R152, backbone="resnet-101"),
    "dsfd-r50": replace(_R152, backbone="resnet-50"),
    "dsfd-vgg16": replace(_R152, backbone="vgg16", coarser=((256, 512), (128, 256))),
    "dsfd-se-r101": replace(_R152, backbone="se-resnet-101"),
    "dsfd-se-rx101": replace(_R152, backbone="se-resnext-101"),
    "dsfd-dpn98": replace(_R152, backbone="dpn-98", mean=DPN_NORMALIZE[0], std=DPN_NORMALIZE[1]),
    "dsfd-release": _RELEASE,
    "dsfd-light": _LIGHT,
    "lightdsfd": replace(
        _RELEASE, design="light", backbone="light-trunk", coarser=((128, 256), (128, 256))
    ),
}
"""Every network by name: the paper's two shots on seven backbones (tables 2 to 5), the released
network, a light one of ours under 1 GF, and the authors' small one."""
