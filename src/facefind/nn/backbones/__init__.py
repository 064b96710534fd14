"""Backbones: image -> feature maps at strides 4, 8, 16 and, but for VGG, 32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from facefind.nn.backbones.mobilenet import MobileNetV1
from facefind.nn.backbones.resnet import BasicBlock, Bottleneck, ResNet, ResNetV1e
from facefind.nn.backbones.vgg import VGG

__all__ = ["VGG", "BasicBlock", "Bottleneck", "MobileNetV1", "ResNet", "ResNetV1e", "from_blocks"]


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
