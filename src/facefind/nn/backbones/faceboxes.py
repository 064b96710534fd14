"""FaceBoxes' kind of trunk: a quick way down to stride 4, then Inception modules; lightDSFD's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from facefind.nn.backbones.resnet import initialize
from facefind.nn.layers import BiasedConv


class CReLU(nn.Module):
    """A convolution whose outputs are used with both signs: (B,C,H,W) -> (B,2*out,H',W').

    Source: CReLU (arXiv:1603.05201), sec. 2.2, after normalization; FaceBoxes
    (arXiv:1708.05234), sec. 3.1.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """The rectified outputs and their rectified negatives."""
        out = self.bn(self.conv(x))
        return torch.cat([out, -out], 1).relu()


class Inception(nn.Module):
    """Four views of a map side by side: (B,C,H,W) -> (B,C,H,W).

    A quarter of the channels each: 1x1, the mean of 3x3 and 1x1, 3x3, and two 3x3; the last two
    begin with half as many channels.

    Source: FaceBoxes (arXiv:1708.05234), sec. 3.1 and fig. 2a.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half, quarter = channels // 8, channels // 4
        self.point = BiasedConv(channels, quarter)
        self.mean = BiasedConv(channels, quarter)
        self.small = nn.Sequential(BiasedConv(channels, half), BiasedConv(half, quarter, 3))
        self.large = nn.Sequential(
            BiasedConv(channels, half),
            BiasedConv(half, quarter, 3),
            BiasedConv(quarter, quarter, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The four views of `x`."""
        mean = functional.avg_pool2d(x, 3, 1, 1)
        return torch.cat([self.point(x), self.mean(mean), self.small(x), self.large(x)], 1)


class LightTrunk(nn.Module):
    """The trunk of lightDSFD: (B,3,H,W) -> maps at strides 4, 8, 16, 32.

    Source: the released code of lightDSFD; its paper has none of it.
    """

    widths = (64, 64, 128, 128)

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.inception1 = CReLU(3, 32, 7, 4), Inception(64)
        self.inception2 = Inception(64)
        self.conv3, self.inception3 = CReLU(64, 64, 5, 2), Inception(128)
        self.inception4 = Inception(128)
        initialize(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps of a normalized image `x` (B,3,H,W)."""
        first = self.inception1(self.conv1(x))
        second = self.inception2(functional.max_pool2d(first, 3, 2, 1))
        third = self.inception3(self.conv3(second))
        return [first, second, third, self.inception4(functional.max_pool2d(third, 3, 2, 1))]
