"""VGG: plain 3x3 convolutions, the backbone of SmallHardFace and of the first DSFD."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from facefind.nn.backbones.resnet import initialize


class VGG(nn.Module):
    """Convolutional backbone: (B,3,H,W) -> last maps of blocks 3, 4, 5 at strides 4, 8, 16.

    Blocks of 3x3 convolutions with bias and ReLU, each but the first behind a 2x2 max-pool; no
    normalization. Names are torchvision's, `features.N`, so that its ImageNet weights load once
    the classifier is left out; `convolutions` gives the names of the original Caffe layers.

    Args:
        depths: convolutions in each of the five blocks; the default is VGG16.
        widths: channels of the blocks.

    Source: VGG (arXiv:1409.1556), table 1, column D; SmallHardFace, sec. 3.1 (taps conv4_3 and
    conv5_3, after their ReLU).
    """

    def __init__(
        self,
        depths: Sequence[int] = (2, 2, 3, 3, 3),
        widths: Sequence[int] = (64, 128, 256, 512, 512),
    ) -> None:
        super().__init__()
        self.widths = tuple(widths[2:])
        self.convolutions: dict[str, str] = {}
        """Name of each module by that of its Caffe layer: `conv1_1` is `features.0`, ..."""
        self.blocks: list[range] = []
        """Places of each block's layers among `features`."""
        layers: list[nn.Module] = []
        inputs = 3
        for block, (depth, width) in enumerate(zip(depths, widths, strict=True), 1):
            start = len(layers)
            if block > 1:
                layers.append(nn.MaxPool2d(2, 2))
            for index in range(depth):
                self.convolutions[f"conv{block}_{index + 1}"] = f"features.{len(layers)}"
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(inplace=True)]
                inputs = width
            self.blocks.append(range(start, len(layers)))
        self.features = nn.Sequential(*layers)
        initialize(self)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps of blocks 3, 4 and 5 of a normalized image `x` (B,3,H,W)."""
        maps = []
        for block in self.blocks:
            for place in block:
                x = self.features[place](x)
            maps.append(x)
        return maps[2:]
