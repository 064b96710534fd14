"""DPN: dual path networks, whose blocks add to one part of a map and lengthen the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from facefind.nn.backbones.resnet import initialize

_EPS = 1e-3


class NormActConv(nn.Module):
    """Normalization, ReLU, convolution without bias: (B,C,H,W) -> (B,out,H/stride,W/stride)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(inputs, eps=_EPS)
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """The convolution's output."""
        out: Tensor = self.conv(self.bn(x).relu())
        return out


class DualPathBlock(nn.Module):
    """1x1, grouped 3x3, 1x1: (B,C,H,W) -> (B,C',H/stride,W/stride).

    Of its outputs the first `residual` channels are added to those of the input (or of its
    projection), the others are put behind what the input has there.

    Args:
        inputs: channels.
        inner: channels of the 3x3 convolution.
        residual: channels that are added to.
        step: channels that each block adds.
        groups: of the 3x3 convolution.
        projection: stride of the input's 1x1 projection, with which a stage begins; None: none.

    Source: DPN (arXiv:1707.01629), fig. 2d and 2e.
    """

    def __init__(
        self,
        inputs: int,
        inner: int,
        residual: int,
        step: int,
        groups: int,
        projection: int | None = None,
    ) -> None:
        super().__init__()
        self.residual, stride = residual, projection or 1
        self.shortcut = "" if projection is None else f"c1x1_w_s{projection}"
        if projection is not None:
            project = NormActConv(inputs, residual + 2 * step, 1, stride)
            self.add_module(self.shortcut, project)
        self.c1x1_a = NormActConv(inputs, inner)
        self.c3x3_b = NormActConv(inner, inner, 3, stride, groups)
        self.c1x1_c = NormActConv(inner, residual + step)
        start = inputs if projection is None else residual + 2 * step
        self.outputs = start + step

    def forward(self, x: Tensor) -> Tensor:
        """Both paths side by side."""
        kept = self.get_submodule(self.shortcut)(x) if self.shortcut else x
        new = self.c1x1_c(self.c3x3_b(self.c1x1_a(x)))
        added = kept[:, : self.residual] + new[:, : self.residual]
        return torch.cat([added, kept[:, self.residual :], new[:, self.residual :]], 1)


class DPN(nn.Module):
    """Dual path backbone: (B,3,H,W) -> maps at strides 4, 8, 16, 32, both paths side by side.

    Its parts have the names of timm's and of Cadene's `pretrainedmodels`, so that weights for
    ImageNet load once the classifier is left out. The last map is normalized and rectified, as
    before the classifier; the others are as the blocks leave them.

    Args:
        stem: channels of the first convolution.
        depths: blocks in each of the four stages.
        steps: channels that a block adds, by stage.
        inner: channels of the first stage's 3x3 convolutions; each stage has twice as many.
        groups: of the 3x3 convolutions.

    The default is DPN-98. Source: DPN (arXiv:1707.01629), table 1.
    """

    def __init__(
        self,
        stem: int = 96,
        depths: Sequence[int] = (3, 6, 20, 3),
        steps: Sequence[int] = (16, 32, 32, 128),
        inner: int = 160,
        groups: int = 40,
    ) -> None:
        super().__init__()
        first = nn.Sequential()
        first.add_module("conv", nn.Conv2d(3, stem, 7, 2, 3, bias=False))
        first.add_module("bn", nn.BatchNorm2d(stem, eps=_EPS))
        self.features = nn.Sequential()
        self.features.add_module("conv1_1", first)
        self.pool = nn.MaxPool2d(3, 2, 1)
        inputs, widths, names = stem, [], []
        for stage, (depth, step) in enumerate(zip(depths, steps, strict=True)):
            for index in range(depth):
                begins = (2 if stage else 1) if index == 0 else None
                block = DualPathBlock(
                    inputs, inner << stage, 256 << stage, step, groups, projection=begins
                )
                names.append((stage, f"conv{stage + 2}_{index + 1}"))
                self.features.add_module(names[-1][1], block)
                inputs = block.outputs
            widths.append(inputs)
        last = nn.Sequential()
        last.add_module("bn", nn.BatchNorm2d(inputs, eps=_EPS))
        self.features.add_module("conv5_bn_ac", last)
        self.widths = tuple(widths)
        self._names = names
        initialize(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The map of each stage of a normalized image `x` (B,3,H,W)."""
        x = self.pool(self.features.get_submodule("conv1_1")(x).relu())
        maps = []
        for (stage, name), (after, _) in pairwise([*self._names, (-1, "")]):
            x = self.features.get_submodule(name)(x)
            if stage != after:
                maps.append(x)
        maps[-1] = self.features.get_submodule("conv5_bn_ac")(maps[-1]).relu()
        return maps
