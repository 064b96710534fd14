"""Backbones: image -> feature maps C2..C5 at strides 4, 8, 16, 32, trained from scratch."""

from facefind.nn.backbones.mobilenet import MobileNetV1
from facefind.nn.backbones.resnet import BasicBlock, Bottleneck, ResNetV1e

__all__ = ["BasicBlock", "Bottleneck", "MobileNetV1", "ResNetV1e"]
