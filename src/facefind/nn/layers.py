"""The small convolution blocks that every network here is made of.

Legend: B batch, C channels, H W feature-map height and width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

Norm = Callable[[int], nn.Module]
"""Makes the normalization for a number of channels: `nn.BatchNorm2d`, `group_norm(16)`, ..."""


def group_norm(groups: int) -> Norm:
    """A `Norm` that makes `GroupNorm` layers with a fixed number of groups."""

    def make(channels: int) -> nn.Module:
        if channels % groups:
            raise ValueError(
                f"group_norm({groups}) expected a multiple of {groups} channels, got {channels}"
            )
        return nn.GroupNorm(groups, channels)

    return make


Conv3x3 = Callable[[int, int], nn.Module]
"""Makes a 3x3 convolution without bias, (B,C,H,W) -> (B,out,H,W), for two numbers of channels:
`conv3x3`, `DeformConv2d`, ..."""


def conv3x3(inputs: int, outputs: int) -> nn.Module:
    """The plain `Conv3x3`."""
    return nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)


def relu(slope: float = 0.0) -> nn.Module:
    """A ReLU, or a leaky one where what is negative is multiplied by a slope instead of 0."""
    return nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)


class ConvNormAct(nn.Sequential):
    """Convolution without bias, normalization, ReLU: (B,C,H,W) -> (B,out,H/stride,W/stride)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        norm: Norm = nn.BatchNorm2d,
        slope: float = 0.0,
    ) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            norm(outputs),
            relu(slope),
        )


class BiasedConv(nn.Sequential):
    """Convolution with bias, normalization, ReLU: (B,C,H,W) -> (B,out,H/stride,W/stride)."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class DepthwiseSeparable(nn.Sequential):
    """Depthwise 3x3 then pointwise 1x1, each normalized and rectified.

    (B,C,H,W) -> (B,out,H/stride,W/stride).

    Source: MobileNets (arXiv:1704.04861), sec. 3.1; the mobile SCRFDs use it in backbone and head.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int = 1,
        norm: Norm = nn.BatchNorm2d,
        slope: float = 0.0,
    ) -> None:
        super().__init__(
            *ConvNormAct(inputs, inputs, 3, stride, groups=inputs, norm=norm, slope=slope),
            *ConvNormAct(inputs, outputs, 1, norm=norm, slope=slope),
        )


class Scale(nn.Module):
    """A learned scalar that multiplies one level's regression output (FCOS, sec. 3.2)."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(value))

    def forward(self, x: Tensor) -> Tensor:
        """`x` times the scalar, same shape."""
        return x * self.scale


class WeightedSum(nn.Module):
    """The sum of maps (B,C,H,W) times shares that are learned and add up to 1.

    Args:
        weight: (N,) numbers to begin with, one a map; a softmax makes them shares.
        positive: divide what of them is above 0 by its sum, instead of the softmax.

    Source: ASFD's released code (softmax); EfficientDet (arXiv:1911.09070), sec. 3.3.
    """

    _LEAST = 1e-4

    def __init__(self, weight: Tensor, *, positive: bool = False) -> None:
        super().__init__()
        self.weight, self.positive = nn.Parameter(weight), positive

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The sum of N maps of one shape."""
        first, *rest = (s * x for s, x in zip(self.shares(), maps, strict=True))
        total: Tensor = sum(rest, first)
        return total

    def shares(self) -> Tensor:
        """(N,) what the maps are multiplied by."""
        if not self.positive:
            return self.weight.softmax(0)
        above = self.weight.relu()
        return above / (above.sum() + self._LEAST)

    def weight_of(self, shares: Tensor) -> Tensor:
        """(N,) a weight that gives these shares."""
        if not self.positive:
            return shares.log()
        return shares * (self._LEAST / (1 - shares.sum()).clamp(min=1e-7))


@contextmanager
def evaluating(network: nn.Module, hooks: Iterable[RemovableHandle] = ()) -> Iterator[None]:
    """The network in eval mode; after it, each module in the mode of before, and no more hooks."""
    training = [module for module in network.modules() if module.training]
    try:
        network.eval()
        yield
    finally:
        for module in training:
            module.training = True
        for hook in hooks:
            hook.remove()


def conv_relu(
    inputs: int, outputs: int, kernel: int, *, norm: bool, dilation: int = 1
) -> nn.Sequential:
    """Convolution and ReLU, with batch normalization between them or a bias."""
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(inputs, outputs, kernel, 1, padding, dilation, bias=not norm)
    between = [nn.BatchNorm2d(outputs)] if norm else []
    return nn.Sequential(conv, *between, nn.ReLU(inplace=True))


def initialize_convs(*parts: nn.Module) -> None:
    """Fresh weights for all convolutions: those with a bias as outputs, the others for a ReLU.

    Normal(0, 0.01) and zero bias where there is one; He's for what a normalization follows.
    """
    for part in parts:
        for module in part.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def xavier(*parts: nn.Module) -> None:
    """Fresh weights for all convolutions: Xavier's uniform ones and zero biases.

    Each group of a convolution counts by itself: a depthwise one, whose outputs see one channel,
    would otherwise begin so small that what follows hardly sees anything.

    Source: Glorot and Bengio (2010), eq. 16; DSFD, sec. 4.1.
    """
    for part in parts:
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                inputs, kernel = module.weight.shape[1], module.weight[0, 0].numel()
                fans = kernel * (inputs + module.out_channels // module.groups)
                bound = math.sqrt(6 / fans)
                nn.init.uniform_(module.weight, -bound, bound)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


class L2Norm(nn.Module):
    """Each cell's channels brought to a length that is learned channel by channel: same shape.

    Args:
        channels: of the map.
        scale: the length at first.

    Source: ParseNet (arXiv:1506.04579), sec. 3.2; S3FD (arXiv:1708.05237), sec. 3.1.
    """

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """The normalized map."""
        return functional.normalize(x, eps=1e-10) * self.weight[:, None, None]


class CosineConv(nn.Conv2d):
    """Cosines between each cell and learned directions, times a scale: (B,C,H,W) -> (B,out,H,W).

    Args:
        inputs: channels C.
        outputs: number of directions.
        scale: what cosines are multiplied by, so that a softmax of them can come near 0 and 1.

    Source: CosFace (arXiv:1801.09414), sec. 3.1: normalized features and weights, s.
    """

    def __init__(self, inputs: int, outputs: int, scale: float) -> None:
        super().__init__(inputs, outputs, 1, bias=False)
        self.logit_scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """The scaled cosines."""
        directions = functional.normalize(self.weight, dim=1)
        return self.logit_scale * functional.conv2d(functional.normalize(x), directions)
