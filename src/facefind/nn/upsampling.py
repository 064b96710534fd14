"""Upsampling: nothing of it is learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class FixedBilinear(nn.Module):
    """Twice the size by a transposed convolution of fixed bilinear weights: (B,C,H,W) -> 2H, 2W.

    Inside the map this is `nn.Upsample(scale_factor=2, mode="bilinear")`. At the rim that repeats
    the outermost pixels, while here the map goes on in zeros, so the rim gets darker: by a quarter
    at the sides, by 7/16 in the corners. Caffe's networks were trained so. Nothing is learned, and
    the weights are no part of the state.

    Source: the released code of SmallHardFace (a frozen deconvolution with Caffe's bilinear
    filler); the paper says "bilinear upsampling" (fig. 2).
    """

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor([0.25, 0.75, 0.75, 0.25])
        self.register_buffer("kernel", torch.outer(taps, taps)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`x` at twice its height and width."""
        channels = x.shape[1]
        kernel = self.kernel.to(x.dtype).expand(channels, 1, 4, 4)
        return functional.conv_transpose2d(x, kernel, stride=2, padding=1, groups=channels)


def enlarged(x: Tensor, like: Tensor, align_corners: bool = True) -> Tensor:
    """`x` (B,C,H,W) bilinearly at the height and width of `like`; by default corners on corners."""
    size = like.shape[-2:]
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)
