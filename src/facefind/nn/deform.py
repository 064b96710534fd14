"""Modulated deformable convolution, of plain torch operations.

It needs no kernel of its own, trains in channels-last and under autocast, and exports to ONNX's
GridSample, which onnxruntime and OpenVINO run.

Legend: B batch, C channels, K taps of the kernel, H W input, Ho Wo output.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_TAPS = 9  # of a 3x3 kernel


def deform_conv(
    x: Tensor,
    offsets: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 1,
) -> Tensor:
    """A convolution (B,out,Ho,Wo) whose taps move and weigh by place; zero beyond the edges.

    Args:
        x: (B,C,H,W).
        offsets: (B,2K,Ho,Wo) how far each tap moves, in pixels: y and x of the first, y and x of
            the second, ...; taps in the kernel's order, row by row.
        mask: (B,K,Ho,Wo) what each tap's value is multiplied by.
        weight: (out,C,h,w) with h * w = K.
        bias: (out,), or None.
        stride: pixels between neighboring outputs.
        padding: zeros around the input.

    Memory: the C * K * Ho * Wo samples are in memory at once, as in a convolution by im2col.

    Source: Deformable ConvNets v2 (arXiv:1811.11168), eq. 1.
    """
    batch, channels, height, width = x.shape
    rows, columns = offsets.shape[-2:]
    taps = weight.shape[2] * weight.shape[3]
    exact = torch.promote_types(x.dtype, torch.float32)  # a coordinate needs more than bf16 has

    def count(end: int) -> Tensor:
        return torch.arange(end, dtype=exact, device=x.device)

    tap_y = count(weight.shape[2]).repeat_interleave(weight.shape[3])
    tap_x = count(weight.shape[3]).repeat(weight.shape[2])
    out_y = count(rows)[:, None] * stride - padding
    out_x = count(columns) * stride - padding
    moved = offsets.to(exact).reshape(batch, taps, 2, rows, columns)
    at_y = moved[:, :, 0] + (tap_y[:, None, None] + out_y)
    at_x = moved[:, :, 1] + (tap_x[:, None, None] + out_x)
    # The image spans -1..1: the center of pixel i of n lies at (2 i + 1) / n - 1.
    places = torch.stack([(2 * at_x + 1) / width - 1, (2 * at_y + 1) / height - 1], dim=-1)
    places = places.reshape(batch, taps * rows, columns, 2)
    samples = functional.grid_sample(x.to(exact), places, align_corners=False).to(x.dtype)
    samples = samples.reshape(batch, channels, taps, rows, columns) * mask[:, None].to(x.dtype)
    # Channel by channel, tap by tap, as the weights lie: a 1x1 convolution of C * K channels.
    columned = samples.reshape(batch, channels * taps, rows, columns)
    return functional.conv2d(columned, weight.flatten(1)[..., None, None], bias)


class DeformConv2d(nn.Conv2d):
    """A 3x3 convolution that learns where its taps look: (B,C,H,W) -> (B,out,H/stride,W/stride).

    A plain convolution, which begins with zeros, gives the taps' moves and weights, the latter
    between 0 and 2. So the layer begins as the plain convolution of its weights.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        stride: pixels between neighboring outputs.

    Source: Deformable ConvNets v2 (arXiv:1811.11168), sec. 3; RetinaFace, sec. 4.2 (Context
    Module).
    Differs: there the taps' weights are a sigmoid, which begins at 1/2; here and in RetinaFace's
    released code twice that.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride, 1, bias=False)
        self.offsets = nn.Conv2d(inputs, 3 * _TAPS, 3, stride, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights as a plain convolution has them; no moves, and tap weights of 1."""
        super().reset_parameters()
        if "offsets" in self._modules:  # the base class calls this before there are any
            nn.init.zeros_(self.offsets.weight)
            nn.init.zeros_(self.offsets.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of `x` (B,C,H,W)."""
        moves, weights = self.offsets(x).split([2 * _TAPS, _TAPS], dim=1)
        stride = self.stride[0]
        return deform_conv(x, moves, 2 * weights.sigmoid(), self.weight, self.bias, stride)
