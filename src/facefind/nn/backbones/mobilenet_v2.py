"""MobileNetV2: inverted residuals, the backbone of a mobile ASFD."""

from __future__ import annotations

from torch import Tensor, nn

from facefind.nn.backbones.resnet import initialize


class InvertedResidual(nn.Module):
    """1x1 to more channels, depthwise 3x3, 1x1 to few: (B,C,H,W) -> (B,outputs,H/s,W/s).

    What comes out is not rectified; where shapes agree, the input is added.

    Args:
        inputs: channels C.
        outputs: channels of the result.
        stride: s of the depthwise convolution, 1 or 2.
        expansion: times as many channels in the depthwise convolution; 1: no 1x1 before it.

    Source: MobileNetV2 (arXiv:1801.04381), sec. 3.3 and table 1.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            *([ConvNormAct6(inputs, inner, 1)] if expansion > 1 else []),
            ConvNormAct6(inner, inner, 3, stride, groups=inner),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        out: Tensor = self.conv(x)
        return out + x if self.adds else out


class ConvNormAct6(nn.Sequential):
    """Convolution without bias, normalization, ReLU6: (B,C,H,W) -> (B,out,H/stride,W/stride)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(inplace=True),
        )


class MobileNetV2(nn.Module):
    """Inverted residuals: (B,3,H,W) -> the last maps at strides 4, 8, 16, 32.

    Its parts have the names of torchvision's, `features.N`, so that weights for those load once the
    last 1x1 convolution, which leads to the classifier alone, and the classifier are taken out.

    Source: MobileNetV2 (arXiv:1801.04381), table 2.
    """

    STAGES = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    """Expansion, channels, blocks, and stride of the first block."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [ConvNormAct6(3, 32, 3, 2)]
        widths, stride, inputs = {}, 2, 32
        for expansion, outputs, blocks, first in self.STAGES:
            stride *= first
            for index in range(blocks):
                layers.append(InvertedResidual(inputs, outputs, 1 if index else first, expansion))
                inputs = outputs
            widths[stride] = (len(layers), outputs)
        self.features = nn.Sequential(*layers)
        last = [widths[stride] for stride in (4, 8, 16, 32)]
        self.ends = tuple(end for end, _ in last)
        self.widths = tuple(width for _, width in last)
        initialize(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The four maps of a normalized image `x` (B,3,H,W)."""
        maps = []
        for place, layer in enumerate(self.features, 1):
            x = layer(x)
            if place in self.ends:
                maps.append(x)
        return maps
