"""SCRFD: sample and computation redistribution for efficient face detection.

Paper: J. Guo, J. Deng, A. Lattas, S. Zafeiriou (arXiv:2105.04714). A residual or depthwise
backbone, a path-aggregation pyramid of three levels and a head of few convolutions, whose depths
and widths a search over computation found; anchors are assigned by ATSS and learn by quality focal
and DIoU loss.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from facefind.learn.criterion_config import BoxConfig, CriterionConfig, LandmarkConfig
from facefind.learn.recipe import NetworkConfig

if TYPE_CHECKING:
    from facefind.nn.detector import DenseDetector

STRIDES = (8, 16, 32)
ANCHOR_SIZES = ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))
"""Sides of the anchors on each level's cells, in input pixels (sec. 4)."""
LANDMARKS = LandmarkConfig(weight=0.1, by_score=True)
CRITERION = CriterionConfig(box=BoxConfig(weight=2.0, by_score=True), landmarks=LANDMARKS)
"""What every row learns: ATSS, quality focal loss (the "GFL" of the text), DIoU loss (sec. 5.1).

The paper gives no weights; these, and that each box weighs by its own score, are the authors'
code's. Differs: that code divides 0 by 0 without faces, ours does not.
"""


@dataclass(frozen=True, kw_only=True)
class SCRFDConfig(NetworkConfig):
    """A row of the family: every number in which one SCRFD differs from another."""

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
    """Channels of the pyramid."""
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
    """Whether five landmarks are regressed."""
    pyramid: str = "pafpn"
    """The pyramid: `none`, `fpn`, `pafpn`, `bifpn`, `fem`, `autofem`, or the `.json` file of a
    genotype; the paper's is `pafpn`."""
    context: str = "none"
    """The context modules: `none`, `ssh`, `fem`, `rfe`, `cpm`, or the `.json` file of a genotype;
    the paper has none."""
    first_shot: bool = False
    """Whether DSFD's first shot learns beside the head: on the backbone's maps, from anchors of
    half the size (progressive anchor loss); inference does without it."""

    def build(self) -> DenseDetector:
        """The network with fresh weights.

        Raises:
            ValueError: if a feature module is unknown or does not fit.
        """
        from torch import nn

        from facefind.nn import backbones, features
        from facefind.nn.anchors import AnchorGrid
        from facefind.nn.coders import DistanceCoder
        from facefind.nn.detector import AuxiliaryShot, DenseDetector, Normalize
        from facefind.nn.heads import LinearHead, TowerHead
        from facefind.nn.layers import group_norm

        backbone = backbones.from_blocks(self.block, self.stem, self.depths, self.widths)
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
        anchors = AnchorGrid(STRIDES, ANCHOR_SIZES)
        shots = []
        if self.first_shot:
            first = LinearHead(
                backbone.widths[1:],
                {"cls": 1, "box": 4},
                levels=len(STRIDES),
                anchors_per_cell=len(ANCHOR_SIZES[0]),
                shared=False,
                kernel=3,
                prior=0.01,
            )
            shots.append(AuxiliaryShot(first, anchors.halved()))
        return DenseDetector(
            Normalize(),
            backbone,
            features.pyramid(self.pyramid, backbone.widths[1:], self.neck, STRIDES),
            features.context(self.context, (self.neck,) * len(STRIDES), STRIDES),
            head,
            anchors,
            DistanceCoder(),
            taps=slice(1, None),
            system=self.system,
            auxiliary=shots,
        )


def with_landmarks(row: SCRFDConfig, *, scales: bool = True) -> SCRFDConfig:
    """A row's variant with five landmarks: batch normalization and a head a level, as published."""
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
"""The family by name (fig. 7 and 8). The 1 and 1.3 GF rows and the variants with landmarks are from
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
