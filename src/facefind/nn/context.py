"""Context modules: neck map -> map of the same size that sees more of the image around."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facefind.nn.layers import Conv3x3, conv3x3, relu


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
