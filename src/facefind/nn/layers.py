"""The small convolution blocks that every network here is made of.

Legend: B batch, C channels, H W feature-map height and width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]
"""Makes the normalisation for a number of channels: `nn.BatchNorm2d`, `group_norm(16)`, ..."""


def group_norm(groups: int) -> Norm:
    """A `Norm` that makes `GroupNorm` layers with a fixed number of groups."""

    def make(channels: int) -> nn.Module:
        if channels % groups:
            raise ValueError(
                f"group_norm({groups}) was given {channels} channels; wanted a multiple"
            )
        return nn.GroupNorm(groups, channels)

    return make


class ConvNormAct(nn.Sequential):
    """Convolution without bias, normalisation, ReLU: (B,C,H,W) -> (B,out,H/stride,W/stride)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            norm(outputs),
            nn.ReLU(inplace=True),
        )


class DepthwiseSeparable(nn.Sequential):
    """Depthwise 3x3 then pointwise 1x1, each normalised and rectified.

    (B,C,H,W) -> (B,out,H/stride,W/stride).

    Source: MobileNets (arXiv:1704.04861), sec. 3.1; the mobile SCRFDs use it in backbone and head.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int = 1, norm: Norm = nn.BatchNorm2d
    ) -> None:
        super().__init__(
            *ConvNormAct(inputs, inputs, 3, stride, groups=inputs, norm=norm),
            *ConvNormAct(inputs, outputs, 1, norm=norm),
        )


class Scale(nn.Module):
    """A learnt scalar that multiplies one level's regression output (FCOS, sec. 3.2)."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(value))

    def forward(self, x: Tensor) -> Tensor:
        """`x` times the scalar, same shape."""
        return x * self.scale
