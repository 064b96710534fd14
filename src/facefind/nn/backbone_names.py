"""Names of backbones, for configurations: importing them takes no torch."""

from __future__ import annotations

from typing import Literal

Published = Literal[
    "vgg16",
    "mobilenet-0.25",
    "mobilenet-v2",
    "resnet-18",
    "resnet-34",
    "resnet-50",
    "resnet-101",
    "resnet-152",
    "se-resnet-101",
    "se-resnext-101",
    "dpn-98",
]
"""Backbones whose weights for ImageNet are to be had; `nn.backbones.published` builds them."""
