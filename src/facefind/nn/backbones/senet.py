"""SE-ResNet and SE-ResNeXt: residual blocks with squeeze-excitation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from facefind.nn.backbones.resnet import initialize, projection, stage_maps


class SqueezeExcitation(nn.Module):
    """Each channel times a factor in 0..1 that depends on all channels' means: same shape.

    Args:
        channels: of the map.
        reduction: how many times fewer channels are between the two 1x1 convolutions.

    Source: SENet (arXiv:1709.01507), sec. 3.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The weighed map."""
        weights = functional.relu(self.fc1(x.mean((2, 3), keepdim=True)))
        factors: Tensor = self.fc2(weights).sigmoid()
        return x * factors


class SEBottleneck(nn.Module):
    """1x1, 3x3, 1x1 and squeeze-excitation around a shortcut.

    (B,C,H,W) -> (B,4*width,H/stride,W/stride).

    Args:
        inputs: channels.
        width: channels of the stage, a quarter of the block's outputs.
        stride: of the block.
        groups: 1 for SE-ResNet, whose stride is in the first convolution; else ResNeXt's number
            of groups, whose stride is in the 3x3 convolution.
        group_width: channels of a group in a stage of width 64.

    Source: SENet (arXiv:1709.01507), fig. 3; ResNeXt (arXiv:1611.05431), fig. 3c.
    """

    expansion = 4

    def __init__(
        self, inputs: int, width: int, stride: int, groups: int = 1, group_width: int = 64
    ) -> None:
        super().__init__()
        inner, outputs = width * group_width // 64 * groups, width * self.expansion
        first, second = (stride, 1) if groups == 1 else (1, stride)
        self.conv1 = nn.Conv2d(inputs, inner, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, second, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.se_module = SqueezeExcitation(outputs)
        self.downsample = projection(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output, rectified."""
        out = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        out = functional.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.se_module(self.bn3(self.conv3(out))) + self.downsample(x)
        return functional.relu(out, inplace=True)


class SENet(nn.Module):
    """Residual backbone with squeeze-excitation: (B,3,H,W) -> [C2, C3, C4, C5], strides 4 to 32.

    Its parts have the names of Cadene's `pretrainedmodels` (`se_resnet101`, `se_resnext101_32x4d`)
    and timm's `legacy_seresnet101` and the like, so that weights for ImageNet load once the
    classifier is left out.

    Args:
        depths: blocks in each of the four stages.
        groups: of the 3x3 convolutions; 1: SE-ResNet.
        group_width: channels of a group in the first stage.

    Source: SENet (arXiv:1709.01507), table 1 and sec. 6.
    Differs: as in the authors' Caffe files, the stem's pooling has no padding and rounds up.
    """

    def __init__(self, depths: Sequence[int], *, groups: int = 1, group_width: int = 64) -> None:
        super().__init__()
        self.widths = tuple(width * SEBottleneck.expansion for width in (64, 128, 256, 512))
        self.layer0 = nn.Sequential()
        self.layer0.add_module("conv1", nn.Conv2d(3, 64, 7, 2, 3, bias=False))
        self.layer0.add_module("bn1", nn.BatchNorm2d(64))
        self.layer0.add_module("relu1", nn.ReLU(inplace=True))
        self.layer0.add_module("pool", nn.MaxPool2d(3, 2, ceil_mode=True))
        inputs = 64
        for number, (depth, outputs) in enumerate(zip(depths, self.widths, strict=True), 1):
            blocks = []
            for index in range(depth):
                stride = 2 if number > 1 and index == 0 else 1
                blocks.append(SEBottleneck(inputs, outputs // 4, stride, groups, group_width))
                inputs = outputs
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        initialize(self)
        for module in self.modules():
            if isinstance(module, SEBottleneck):
                nn.init.zeros_(module.bn3.weight)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps C2..C5 of a normalized image `x` (B,3,H,W)."""
        stages = (self.get_submodule(f"layer{number}") for number in range(1, 5))
        return stage_maps(self.layer0(x), *stages)
