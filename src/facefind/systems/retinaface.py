"""RetinaFace: single-stage dense face localization in the wild.

Paper: J. Deng, J. Guo, Y. Zhou, J. Yu, I. Kotsia, S. Zafeiriou (arXiv:1905.00641). A feature
pyramid, an independent context module on every level, deformable convolutions in both, and a 1x1
head that gives each anchor a score, a box, five landmarks and, optionally, the parameters of a
dense mesh, learned together.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from facefind.learn.criterion_config import (
    AssignerConfig,
    BoxConfig,
    ClassificationConfig,
    CriterionConfig,
    LandmarkConfig,
    SamplerConfig,
)
from facefind.learn.recipe import NetworkConfig
from facefind.mesh import PARAMETERS
from facefind.systems.mesh.config import MeshConfig

if TYPE_CHECKING:
    from torch import nn

    from facefind.nn.detector import DenseDetector

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

CRITERION = CriterionConfig(
    assigner=AssignerConfig(kind="max-iou", positive_iou=0.5, negative_iou=0.3),
    sampler=SamplerConfig(kind="ohem", ratio=3.0),
    classification=ClassificationConfig(kind="cross-entropy"),
    box=BoxConfig(kind="smooth-l1", weight=0.25),
    landmarks=LandmarkConfig(weight=0.1, smooth_l1_beta=1.0),
)
"""The paper's (sec. 3.1, eq. 1; sec. 4.2): three negatives for each positive anchor.

Differs: the text does not say what sums are divided by. As in SSD, which its reference for the
sampling follows, scores and boxes are divided by the number of positive anchors, landmarks by
those with landmarks. For the scores an image without positives counts as one, so that its negatives
do not outweigh all others.
"""
RELEASED_CRITERION = replace(
    CRITERION,
    assigner=AssignerConfig(
        kind="max-iou", positive_iou=0.35, negative_iou=0.35, low_quality_iou=0.2
    ),
    sampler=SamplerConfig(kind="ohem", ratio=7.0),
    box=BoxConfig(kind="smooth-l1", weight=2.0),
    landmarks=LandmarkConfig(weight=1.0, smooth_l1_beta=1.0),
)
"""The PyTorch port's: no ignored anchors, seven negatives for each positive.

Source: biubug6/Pytorch_Retinaface.
Differs: there a face whose best IoU lies below 0.2 may still take over an anchor that another face
has; here it may not. And here images without faces have `min_negatives` negatives.
"""


def authors_criterion(images: int, points: float) -> CriterionConfig:
    """That of the authors' code: a quota of anchors on each level, and sums divided by it.

    The scores of each level are divided by its own number of sampled anchors and added up. The sums
    of boxes and points are divided by nothing there, and weigh 0.25 * images / 256: by 256 anchors
    an image they weigh 0.25 * images ** 2.

    Args:
        images: on a device in their training, 8 with a ResNet and 16 with the light network.
        points: weight of the points beside that of the boxes.

    Source: deepinsight/insightface, detection/retinaface, rcnn/symbol/symbol_common.py.
    """
    weight = 0.25 * images**2
    return replace(
        CRITERION,
        sampler=SamplerConfig(kind="ohem-quota", by_level=True),
        classification=ClassificationConfig(kind="cross-entropy", average="levels"),
        box=BoxConfig(kind="smooth-l1", weight=weight, smooth_l1_beta=1 / 9, per_image=256),
        landmarks=LandmarkConfig(weight=points * weight, smooth_l1_beta=1 / 9, per_image=256),
    )


@dataclass(frozen=True, kw_only=True)
class RetinaFaceConfig(NetworkConfig):
    """A RetinaFace: every number in which one differs from another; the paper's by default."""

    system = "retinaface"

    backbone: Literal["resnet-50", "resnet-101", "resnet-152", "mobilenet-0.25"] = "resnet-152"
    first: tuple[int, int] = (7, 4)
    """Kernel and stride of MobileNet's first convolution (sec. 4.8); the released one's is 3, 2."""
    width: int = 256
    """Channels of neck and context modules."""
    slope: float = 0.0
    """Of MobileNet's, the neck's and the context modules' ReLUs on their negative side."""
    pyramid: str = "fpn"
    """The pyramid: `none`, `fpn`, `pafpn`, `bifpn`, `fem`, `autofem`, or the `.json` file of a
    genotype; the paper's, `fpn`, may be deformable."""
    context: str = "ssh"
    """The context modules: `none`, `ssh`, `fem`, `rfe`, `cpm`, or the `.json` file of a genotype;
    the paper's, `ssh`, may be deformable."""
    deformable: bool = True
    """Whether the 3x3 convolutions of neck and context modules are deformable."""
    shared_head: bool = True
    """Whether one head serves all levels."""
    cosine: float = 0.0
    """Scale of the cosines that scores are, for a margin loss like CosFace's (16 to 30); 0: plain
    scores."""
    landmarks: bool = True
    """Whether five landmarks are regressed."""
    dense: bool = False
    """Whether the 144 parameters of a dense mesh are regressed."""
    mesh: MeshConfig = field(default_factory=MeshConfig)
    """Of the dense branch, where there is one."""
    strides: tuple[int, ...] = PAPER_STRIDES
    """Strides of the levels, each twice the last, within 4 to 64."""
    sizes: tuple[tuple[float, ...], ...] = PAPER_SIZES
    """Sides of the anchors on a cell of each level, in pixels; equally many on all."""
    offset: float | None = None
    """Pixels from a cell's corner to its anchors' center; None: half a cell. Authors' code: 8."""
    inclusive_pixels: bool = False
    """Whether boxes are counted by their first and last pixel, as in the authors' code."""
    box_stds: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    """What box targets are divided by."""
    landmark_std: float = 1.0
    """What landmark targets are divided by."""
    mean: tuple[float, float, float] = IMAGENET[0]
    """RGB that is subtracted from the image."""
    std: tuple[float, float, float] = IMAGENET[1]
    """What the rest is divided by."""
    stride4_score_scale: float = 1.0
    """What scores at stride 4 are multiplied by in testing; authors' code: 0.5."""

    def build(self) -> DenseDetector:
        """The network with fresh weights.

        Raises:
            ValueError: if the levels do not fit together, or a feature module is unknown.
        """
        from facefind.nn import features
        from facefind.nn.anchors import AnchorGrid
        from facefind.nn.backbones import MobileNetV1, published
        from facefind.nn.coders import AnchorBoxCoder
        from facefind.nn.context import ContextModule
        from facefind.nn.deform import DeformConv2d
        from facefind.nn.detector import DenseDetector, Normalize, PerLevel
        from facefind.nn.extension import Extension
        from facefind.nn.heads import LinearHead
        from facefind.nn.layers import conv3x3
        from facefind.nn.necks import FPN

        first, last = self.strides[0], self.strides[-1]
        counts = {len(sides) for sides in self.sizes}
        levels = tuple(stride for stride in PAPER_STRIDES if first <= stride <= last)
        if self.strides != levels or last < 32 or len(self.sizes) != len(levels) or len(counts) > 1:
            raise ValueError(
                f"strides {self.strides} with anchors {self.sizes}: expected {PAPER_STRIDES} or "
                "the like, from 4 or more up to 32 or 64, and as many anchors on each"
            )
        backbone: nn.Module
        if self.backbone == "mobilenet-0.25":
            depths, widths = (2, 2, 6, 2), (32, 64, 128, 256)
            backbone = MobileNetV1((8, 16), depths, widths, first=self.first, slope=self.slope)
        else:
            backbone = published(self.backbone)
        taps = slice(PAPER_STRIDES.index(first), None)
        conv = DeformConv2d if self.deformable else conv3x3
        outputs = {"cls": 2, "box": 4} | ({"landmarks": 10} if self.landmarks else {})
        outputs |= {"mesh": PARAMETERS} if self.dense else {}
        maps, extension = backbone.widths[taps], None
        neck: nn.Module | None
        if self.pyramid == "fpn":
            neck = FPN(maps, self.width, conv=conv, slope=self.slope, coarser=last == 64)
        else:
            if last == 64:
                extension = Extension(maps, ((self.width, self.width),), norm=True)
                maps = extension.widths
            neck = features.pyramid(self.pyramid, maps, self.width, levels)
        context: nn.Module | None
        if self.context == "ssh":
            context = PerLevel(
                ContextModule(self.width, conv=conv, slope=self.slope) for _ in levels
            )
        else:
            context = features.context(self.context, (self.width,) * len(levels), levels)
        return DenseDetector(
            Normalize(self.mean, self.std),
            backbone,
            neck,
            context,
            LinearHead(
                self.width,
                outputs,
                levels=len(levels),
                anchors_per_cell=counts.pop(),
                shared=self.shared_head,
                cosine=self.cosine,
            ),
            AnchorGrid(self.strides, self.sizes, self.offset),
            AnchorBoxCoder(self.box_stds, self.landmark_std),
            taps=taps,
            system=self.system,
            stride4_score_scale=self.stride4_score_scale,
            inclusive_pixels=self.inclusive_pixels,
            extension=extension,
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

    A head a level and SSD's encoding; it learns by `RELEASED_CRITERION`.

    Source: biubug6/Pytorch_Retinaface.
    """
    return replace(
        network,
        first=(3, 2),
        slope=0.1 if network.width <= 64 else 0.0,
        shared_head=False,
        box_stds=(0.1, 0.1, 0.2, 0.2),
        landmark_std=0.1,
        mean=(123.0, 117.0, 104.0),
        std=(1.0, 1.0, 1.0),
    )


def authors(network: RetinaFaceConfig) -> RetinaFaceConfig:
    """A three-level network as the authors' code has it: a head a level, boxes by their pixels.

    Source: deepinsight/insightface, detection/retinaface.
    Differs: its ResNets put the normalization before the convolution and have one on the image;
    ours are torchvision's. Anchors there cover the pixels 0 to 15 around 7.5 on every stride: the
    square from 0 to 16 around 8.
    """
    return replace(network, first=(3, 2), shared_head=False, offset=8.0, inclusive_pixels=True)


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
    "retinaface-r50-authors": authors(_R50_THREE),
    "retinaface-mobile-authors": authors(_MOBILE),
}
"""Every network by name. `-context` and `-dcn` are the first rows of table 3; the third, with
landmarks, is `retinaface-r152`."""
