"""Context modules: neck map -> map of the same size that sees more of the image around."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facefind.nn.layers import Conv3x3, conv3x3, conv_relu, relu


class ContextModule(nn.Module):
    """Three views of a map side by side: (B,width,H,W) -> (B,width,H,W), rectified.

    Half of the channels see 3x3 pixels, a quarter 5x5 and a quarter 7x7; the larger views are
    stacks of 3x3 convolutions that share their first.

    Args:
        width: channels, a multiple of 4.
        conv: makes the convolutions.
        slope: of the ReLUs within on their negative side; the last has none.

    Source: SSH (arXiv:1708.03979), sec. 3.3; RetinaFace, sec. 4.2 (Context Module).
    """

    def __init__(self, width: int, *, conv: Conv3x3 = conv3x3, slope: float = 0.0) -> None:
        super().__init__()
        if width % 4:
            raise ValueError(f"a context module expected a multiple of 4 channels, got {width}")
        quarter = width // 4

        def block(inputs: int, outputs: int, *, act: bool) -> nn.Sequential:
            layers = [conv(inputs, outputs), nn.BatchNorm2d(outputs), *([relu(slope)] * act)]
            return nn.Sequential(*layers)

        self.conv3 = block(width, width // 2, act=False)
        self.conv5_1 = block(width, quarter, act=True)
        self.conv5_2 = block(quarter, quarter, act=False)
        self.conv7_2 = block(quarter, quarter, act=True)
        self.conv7_3 = block(quarter, quarter, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """The three views of `x` (B,width,H,W)."""
        wider = self.conv5_1(x)
        views = [self.conv3(x), self.conv5_2(wider), self.conv7_3(self.conv7_2(wider))]
        return torch.cat(views, dim=1).relu()


class DilatedBranches(nn.Module):
    """The second half of DSFD's feature enhance module: (B,width,H,W) -> (B,width,H,W).

    Three branches of one, two and three dilated 3x3 convolutions see ever more around; each gives a
    third of the channels. The first half, the product with the coarser map, is `ProductPyramid`.

    Args:
        width: channels; what three does not divide goes to the last branch.
        dilation: of all convolutions.
        norm: batch normalization after them.

    Source: DSFD, eq. 1 and fig. 3.
    Differs: the text splits the map "to three parts", which leaves open whether a branch is given a
    third of the channels or makes one; here, as in the figure and the known codes, each sees all
    channels and makes a third of them.
    """

    def __init__(self, width: int, *, dilation: int = 3, norm: bool = False) -> None:
        super().__init__()
        thirds = (width // 3, width // 3, width - 2 * (width // 3))
        self.branches = nn.ModuleList(
            nn.Sequential(
                *(
                    conv_relu(third if index else width, third, 3, norm=norm, dilation=dilation)
                    for index in range(depth)
                )
            )
            for depth, third in enumerate(thirds, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The three branches side by side."""
        return torch.cat([branch(x) for branch in self.branches], 1)


class ReceptiveFields(nn.Module):
    """Receptive field enhancement: (B,width,H,W) -> (B,width,H,W).

    Four branches of a quarter of the channels, each a 1x1 convolution, one of 1x3, 3x1, 1x5 or 5x1,
    and another 1x1, side by side; the input is added.

    Args:
        width: channels, a multiple of 4.

    Source: RefineFace (arXiv:1909.04376), after SRN (arXiv:1809.02693), sec. 3.4.
    Differs: batch normalization after every convolution, for which the papers do not say.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        if width % 4:
            raise ValueError(f"receptive fields expected a multiple of 4 channels, got {width}")
        quarter = width // 4

        def block(inputs: int, kernel: tuple[int, int]) -> nn.Sequential:
            padding = (kernel[0] // 2, kernel[1] // 2)
            conv = nn.Conv2d(inputs, quarter, kernel, padding=padding, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(quarter), nn.ReLU(inplace=True))

        self.branches = nn.ModuleList(
            nn.Sequential(block(width, (1, 1)), block(quarter, kernel), block(quarter, (1, 1)))
            for kernel in ((1, 3), (3, 1), (1, 5), (5, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """The four branches side by side, and `x`."""
        return torch.cat([branch(x) for branch in self.branches], 1) + x


class ReleasedContext(nn.Module):
    """The context module of DSFD's released code: (B,C,H,W) -> (B,512,H,W).

    Three views that share their first convolutions: 256 channels of one 3x3 convolution, 128 of two
    and 128 of three, some of them dilated by 2.

    Source: Tencent/FaceDetection-DSFD; after PyramidBox (arXiv:1803.07737), sec. 3.2.
    """

    width = 512

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.first = conv_relu(inputs, 256, 3, norm=False)
        self.wide = conv_relu(inputs, 256, 3, norm=False, dilation=2)
        self.second = conv_relu(256, 128, 3, norm=False)
        self.wider = conv_relu(256, 128, 3, norm=False, dilation=2)
        self.third = conv_relu(128, 128, 3, norm=False)

    def forward(self, x: Tensor) -> Tensor:
        """The three views of `x`."""
        wide = self.wide(x)
        return torch.cat([self.first(x), self.second(wide), self.third(self.wider(wide))], 1)
