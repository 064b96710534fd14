"""Backbones: image -> feature maps at strides 4, 8, 16 and, but for VGG, 32."""

from facefind.nn.backbones.mobilenet import MobileNetV1
from facefind.nn.backbones.resnet import BasicBlock, Bottleneck, ResNet, ResNetV1e
from facefind.nn.backbones.vgg import VGG

__all__ = ["VGG", "BasicBlock", "Bottleneck", "MobileNetV1", "ResNet", "ResNetV1e"]
