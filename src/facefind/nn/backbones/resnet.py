"""ResNet, as it was published and in the "v1e" form: deep stem, average-pooled shortcuts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional

from facefind.nn.layers import ConvNormAct

Shortcut = Callable[[int, int, int], nn.Module]
"""Makes what runs beside a block's convolutions, for input channels, output channels and stride."""


def projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    """The identity where shapes agree, else a 1x1 convolution with the stride and normalization.

    Source: ResNet (arXiv:1512.03385), sec. 3.3, option B.
    """
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


def pooled_projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    """The identity where shapes agree, else average pool, 1x1 convolution and normalization.

    Source: Bag of tricks (arXiv:1812.01187), ResNet-D.
    """
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(
        nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut: (B,C,H,W) -> (B,width,H/stride,W/stride).

    Source: ResNet (arXiv:1512.03385), fig. 5 left.
    """

    expansion = 1

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int = 1,
        shortcut: Shortcut = pooled_projection,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output, rectified."""
        out = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out)) + self.downsample(x)
        return functional.relu(out, inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1 around a shortcut, four times wider at its ends.

    (B,C,H,W) -> (B,4*width,H/stride,W/stride).

    Source: ResNet (arXiv:1512.03385), fig. 5 right.
    """

    expansion = 4

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int = 1,
        shortcut: Shortcut = pooled_projection,
    ) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output, rectified."""
        out = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        out = functional.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out)) + self.downsample(x)
        return functional.relu(out, inplace=True)


class ResNetV1e(nn.Module):
    """Residual backbone: (B,3,H,W) -> [C2, C3, C4, C5] at strides 4, 8, 16, 32.

    With fewer depths and widths the coarsest stages are left out.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        stem: output channels of the stem; its first two convolutions have half of them.
        depths: blocks in each of the stages.
        widths: channels of the stages before the block's expansion.

    Source: SCRFD, sec. 4.2.
    Differs: the paper gives all three stem convolutions the stem's width; the authors' code and
    weights halve the first two, which alone agrees with their parameter counts, so we do too.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        stem: int,
        depths: Sequence[int],
        widths: Sequence[int],
    ) -> None:
        super().__init__()
        self.widths = tuple(width * block.expansion for width in widths)
        half = stem // 2
        self.stem = nn.Sequential(
            *ConvNormAct(3, half, stride=2), *ConvNormAct(half, half), *ConvNormAct(half, stem)
        )
        self.maxpool = nn.MaxPool2d(2, 2)
        for number, stage in enumerate(_stages(block, stem, depths, widths, pooled_projection), 1):
            self.add_module(f"layer{number}", stage)
        initialize(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps C2..C5 of a normalized image `x` (B,3,H,W)."""
        stages = [self.get_submodule(f"layer{n}") for n in range(1, len(self.widths) + 1)]
        return stage_maps(self.maxpool(self.stem(x)), *stages)


class ResNet(nn.Module):
    """The published residual backbone: (B,3,H,W) -> [C2, C3, C4, C5] at strides 4, 8, 16, 32.

    Its parts have the names of torchvision's, so that weights for those load with `strict` once
    the classifier `fc` is taken out.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        depths: blocks in each of the four stages.
        widths: channels of the stages before the block's expansion.

    Source: ResNet (arXiv:1512.03385), table 1.
    Differs: as in torchvision, a bottleneck's stride is in its 3x3 convolution; in the paper it is
    in the 1x1 before.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        widths: Sequence[int] = (64, 128, 256, 512),
    ) -> None:
        super().__init__()
        self.widths = tuple(width * block.expansion for width in widths)
        self.conv1 = nn.Conv2d(3, widths[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages = _stages(block, widths[0], depths, widths, projection)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        initialize(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps C2..C5 of a normalized image `x` (B,3,H,W)."""
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return stage_maps(self.maxpool(x), self.layer1, self.layer2, self.layer3, self.layer4)


def _stages(
    block: type[BasicBlock] | type[Bottleneck],
    inputs: int,
    depths: Sequence[int],
    widths: Sequence[int],
    shortcut: Shortcut,
) -> list[nn.Sequential]:
    """Blocks of each stage; all but the first begin with stride 2."""
    stages = []
    for number, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        blocks = []
        for index in range(depth):
            stride = 2 if number > 0 and index == 0 else 1
            blocks.append(block(inputs, width, stride, shortcut))
            inputs = width * block.expansion
        stages.append(nn.Sequential(*blocks))
    return stages


def stage_maps(x: Tensor, *stages: nn.Module) -> list[Tensor]:
    """The output of each stage."""
    maps = []
    for stage in stages:
        x = stage(x)
        maps.append(x)
    return maps


def initialize(network: nn.Module) -> None:
    """Fresh weights: He's (arXiv:1502.01852); every block of a ResNet begins as its shortcut."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)
        elif isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)
