"""Backbones: image -> feature maps at strides 4, 8, 16 and, but for VGG, 32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from facefind.nn.backbone_names import Published
from facefind.nn.backbones.dpn import DPN
from facefind.nn.backbones.faceboxes import LightTrunk
from facefind.nn.backbones.mobilenet import MobileNetV1
from facefind.nn.backbones.mobilenet_v2 import MobileNetV2
from facefind.nn.backbones.resnet import BasicBlock, Bottleneck, ResNet, ResNetV1e
from facefind.nn.backbones.senet import SENet
from facefind.nn.backbones.vgg import VGG

__all__ = [
    "DPN",
    "VGG",
    "BasicBlock",
    "Bottleneck",
    "LightTrunk",
    "MobileNetV1",
    "MobileNetV2",
    "ResNet",
    "ResNetV1e",
    "SENet",
    "from_blocks",
    "published",
]


def from_blocks(
    block: Literal["vgg", "depthwise", "basic", "bottleneck"],
    stem: Sequence[int],
    depths: Sequence[int],
    widths: Sequence[int],
) -> VGG | MobileNetV1 | ResNetV1e:
    """The backbone of a kind of block, of any depth and width.

    Args:
        block: VGG's, MobileNetV1's or one of ResNet's.
        stem: channels of the stem: none for VGG, (first, last) for depthwise, (last,) for ResNet.
        depths: blocks in each stage.
        widths: channels of the stages, before a bottleneck's expansion.
    """
    if block == "vgg":
        return VGG(depths, widths)
    if block == "depthwise":
        return MobileNetV1(stem, depths, widths)
    return ResNetV1e(BasicBlock if block == "basic" else Bottleneck, stem[-1], depths, widths)


def published(name: Published) -> VGG | MobileNetV1 | MobileNetV2 | ResNet | SENet | DPN:
    """The backbone of a name, without its classifier and what leads to that alone.

    MobileNet-0.25 is MobileNetV1 with a quarter of the channels; SE-ResNeXt-101 is that of 32
    groups, 4 channels wide at first.
    """
    if name == "vgg16":
        return VGG()
    if name == "mobilenet-0.25":
        return MobileNetV1((8, 16), (2, 2, 6, 2), (32, 64, 128, 256))
    if name == "mobilenet-v2":
        return MobileNetV2()
    if name == "dpn-98":
        return DPN()
    if name == "se-resnet-101":
        return SENet((3, 4, 23, 3))
    if name == "se-resnext-101":
        return SENet((3, 4, 23, 3), groups=32, group_width=4)
    block, depths = RESNETS[name]
    return ResNet(block, depths)


RESNETS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    "resnet-18": (BasicBlock, (2, 2, 2, 2)),
    "resnet-34": (BasicBlock, (3, 4, 6, 3)),
    "resnet-50": (Bottleneck, (3, 4, 6, 3)),
    "resnet-101": (Bottleneck, (3, 4, 23, 3)),
    "resnet-152": (Bottleneck, (3, 8, 36, 3)),
}
"""Block and depths of the published ResNets.

Source: ResNet (arXiv:1512.03385), table 1.
"""
