"""ASFD: feature modules that were searched, a loss with a margin, and a family of seven sizes.

Paper: B. Zhang, J. Li, Y. Wang, Y. Tai, C. Wang, J. Li, F. Huang, Y. Xia, W. Pei, R. Ji
(arXiv:2003.11228). DSFD's two shots share one head; between them AutoFEM, a pyramid and context
modules whose wiring was searched, makes the second shot's maps. The text withholds its method
section, and of the code one network alone was released, without training: DSFDv2 on ResNet-18,
whose parameters and multiply-adds are those that the paper gives for D2. `asfd-d2` is that network.
What else is here and not in the text is inferred: each place says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from facefind.learn.criterion_config import BoxConfig, ClassificationConfig
from facefind.learn.recipe import NetworkConfig
from facefind.nn.backbone_names import Published
from facefind.systems import dsfd

if TYPE_CHECKING:
    from facefind.nn.detector import DenseDetector

DRMC = replace(
    dsfd.RELEASED_CRITERION,
    classification=ClassificationConfig(kind="margin", margin=0.2),
    box=BoxConfig(kind="diou", weight=5.0),
)
"""Distance-based regression and margin-based classification, for either shot (sec. 1 and 4.2).

Matching at an IoU of 0.4 and three negatives a positive are the released code's, as is the margin
of 0.2 on plain logits, which its settings name. Inferred: that sums are divided by the positive
anchors, that both shots weigh alike, and the weight of 5 of the boxes, which is that of the
authors of DIoU for SSD.
"""


@dataclass(frozen=True, kw_only=True)
class ASFDConfig(NetworkConfig):
    """An ASFD: every number in which one differs from another; D2 by default."""

    system = "asfd"

    backbone: Published = "resnet-18"
    coarser: tuple[tuple[int, int], tuple[int, int]] = ((128, 256), (128, 256))
    """Channels of the two convolutions that make each map beyond stride 32."""
    width: int = 128
    """Channels of all maps after the backbone."""
    repeats: int = 1
    """How many pyramids follow each other."""
    head_depth: int = 1
    """3x3 convolutions before each of the head's outputs; all but the first are separable."""
    pyramid: str = "autofem"
    """The pyramid: `none`, `fpn`, `pafpn`, `bifpn`, `fem`, `autofem`, or the `.json` file of a
    genotype."""
    context: str = "none"
    """The context modules: `none`, as the paper's costs have it; `ssh`, `fem`, `rfe`; `cpm`, a
    hand-made cell in place of the searched ones; or the `.json` file of a genotype."""
    first_shot: Literal["half", "same", "none"] = "half"
    """Anchors of the first shot: half the second's, the same, or no first shot at all."""
    cosine: float = 0.0
    """Scale of the cosines that scores are, for a margin loss like CosFace's (16 to 30); 0: plain
    scores."""
    mean: tuple[float, float, float] = dsfd.RELEASED_MEAN
    """RGB that is subtracted from the image."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """What the rest is divided by."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Cell sizes of the six maps."""
        return dsfd.STRIDES

    @property
    def sizes(self) -> tuple[tuple[tuple[float, float], ...], ...]:
        """(width, height) of the one anchor on a cell of each map, in pixels."""
        return dsfd.DSFDConfig().sizes

    def build(self) -> DenseDetector:
        """The network with fresh weights.

        Heads and bodies have anchors, too, half and a quarter of the size of the faces' on their
        level; they are learned beside the faces', as in DSFD's released network.

        Raises:
            ValueError: if a feature module is unknown or does not fit.

        Source: ASFD, sec. 3.1 and fig. 2; the released code of DSFDv2.
        Differs: the code clips anchors at the image's edges. The first shot is inferred: the head
        on the maps that the pyramid is given, from faces' anchors alone.
        """
        from torch import nn

        from facefind.nn import features
        from facefind.nn.anchors import AnchorGrid
        from facefind.nn.backbones import published
        from facefind.nn.coders import AnchorBoxCoder
        from facefind.nn.detector import AuxiliaryShot, DenseDetector, Normalize
        from facefind.nn.extension import Extension
        from facefind.nn.heads import DeepHead

        backbone = published(self.backbone)
        if len(backbone.widths) != 4:
            raise ValueError(f"backbone {self.backbone} has no maps at strides 4, 8, 16 and 32")
        extension = Extension(backbone.widths, self.coarser, norm=True)
        widths = (self.width,) * len(self.strides)
        anchors = AnchorGrid(self.strides, self.sizes, offset=None)
        shots = []
        if self.first_shot != "none":
            smaller = anchors.halved() if self.first_shot == "half" else anchors
            shots.append(AuxiliaryShot(None, smaller))
        return DenseDetector(
            normalize=Normalize(self.mean, self.std),
            backbone=backbone,
            extension=nn.Sequential(extension, features.laterals(extension.widths, self.width)),
            neck=features.pyramid(
                self.pyramid, widths, self.width, self.strides, repeats=self.repeats
            ),
            context=features.context(self.context, widths, self.strides),
            head=DeepHead(
                self.width,
                ((self.width, 3),) * self.head_depth,
                levels=len(widths),
                sets=3,
                max_in_out=True,
                separable=True,
                cosine=self.cosine,
            ),
            anchors=anchors,
            coder=AnchorBoxCoder((0.1, 0.1, 0.2, 0.2)),
            auxiliary=shots,
            further=dsfd.smaller_sets(anchors),
            system=self.system,
        )


_D2 = ASFDConfig()
_DEEP = replace(_D2, coarser=((512, 512), (128, 256)))

FAMILY: tuple[ASFDConfig, ...] = (
    replace(
        _D2,
        backbone="mobilenet-0.25",
        coarser=((64, 256), (64, 256)),
        width=24,
        head_depth=3,
    ),
    replace(_D2, backbone="mobilenet-v2", coarser=((256, 512), (128, 256)), width=64),
    _D2,
    replace(_D2, backbone="resnet-34", width=192, repeats=2),
    replace(_DEEP, backbone="resnet-50", width=256, head_depth=3),
    replace(_DEEP, backbone="resnet-101", width=384, head_depth=3),
    replace(
        _DEEP,
        backbone="resnet-152",
        coarser=((512, 512), (128, 512)),
        width=384,
        repeats=2,
        head_depth=3,
    ),
)
"""D0 to D6 (table 4). D2 is the released network. The others are inferred: backbone, width, repeats
and depth of the head are those that come nearest to the paper's parameters and multiply-adds; the
paper says only that all were scaled jointly, and that D0 and D1 have light backbones. Its "M" of
parameters is 2**20. D6 meets both numbers as printed; D0 is 2.7 % over its parameters."""
GROWTH = 1.35
"""By how much maps widen from a size to the next in EfficientDet (arXiv:1911.09070), eq. 1. From 64
channels on, as there, it gives 117 for D2, which has 128, and 387 for D6, which has 384."""


def scaled(phi: float) -> ASFDConfig:
    """The network of a size, 0 for D0 to 6 for D6 and beyond: what lies between is interpolated.

    Backbone, repeats and depth of the head are those of the size below, channels grow by equal
    factors from a size to the next, and by `GROWTH` a size beyond D6; they are multiples of 8.

    Args:
        phi: the compound coefficient, at least 0.

    Raises:
        ValueError: if `phi` is negative.

    Source: EfficientDet (arXiv:1911.09070), sec. 4.2, for the idea, which ASFD, sec. 4.2, follows.
    Differs: ASFD's own rule was never released; this one is ours, and gives its seven sizes.
    """
    if phi < 0:
        raise ValueError(f"the size of an ASFD is at least 0, got {phi}")
    below = min(int(phi), len(FAMILY) - 1)
    base, part = FAMILY[below], phi - below
    growth = GROWTH if below == len(FAMILY) - 1 else FAMILY[below + 1].width / base.width
    return replace(base, width=8 * round(base.width * growth**part / 8))


def within(multiply_adds: float, parameters: float = math.inf, *, step: float = 0.05) -> float:
    """The largest size `phi` whose network stays within a budget, a multiple of `step` up to 12.

    Args:
        multiply_adds: most multiply-adds of convolutions for an image of 640 x 480.
        parameters: most parameters.
        step: between the sizes that are tried; costs never fall from one to the next.

    Raises:
        ValueError: if D0 is over the budget already.
    """
    import torch

    from facefind.nn.cost import measure

    def fits(place: int) -> bool:
        with torch.device("meta"):
            cost = measure(scaled(place * step).build(), 480, 640)
        return cost.multiply_adds <= multiply_adds and cost.parameters <= parameters

    if not fits(0):
        raise ValueError(f"no ASFD has at most {multiply_adds:g} multiply-adds; D0 is the smallest")
    low, high, most = 0, 1, round(12 / step) + 1  # low fits; high does not, or is the end
    while high < most and fits(high):
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low * step


R50 = replace(_DEEP, backbone="resnet-50", width=256, head_depth=2, pyramid="none")
"""The network of tables 1 to 3: a light DSFD, whose heads are two layers deep (sec. 4.2)."""

ROWS: dict[str, ASFDConfig] = {
    **{f"asfd-d{size}": config for size, config in enumerate(FAMILY)},
    **{f"asfd-d{size}-cpm": replace(c, context="cpm") for size, c in enumerate(FAMILY)},
    "asfd-r50": R50,
}
"""Every network by name: the family of table 4, the same with hand-made context modules, which the
paper's costs leave no room for, and the baseline of tables 1 to 3."""
