"""Necks: backbone maps -> maps of one width that have seen finer and coarser levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from facefind.nn.cells import operation
from facefind.nn.layers import Conv3x3, ConvNormAct, WeightedSum, conv3x3, conv_relu, relu, xavier
from facefind.nn.upsampling import enlarged


class PAFPN(nn.Module):
    """Path-aggregation pyramid: maps (B,C_l,H_l,W_l) -> maps (B,width,H_l,W_l), fine to coarse.

    Coarse context flows down by nearest up-sampling and addition, fine detail flows up again by
    stride-2 convolutions. No normalization and no activation anywhere.

    Source: PANet (arXiv:1803.01534), sec. 3.1; SCRFD, sec. 4.2.
    """

    def __init__(self, inputs: Sequence[int], width: int) -> None:
        super().__init__()
        levels = len(inputs)
        self.width = width
        self.lateral_convs = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in inputs)
        self.fpn_convs = nn.ModuleList(_conv3x3(width) for _ in range(levels))
        self.downsample_convs = nn.ModuleList(_conv3x3(width, 2) for _ in range(levels - 1))
        self.pafpn_convs = nn.ModuleList(_conv3x3(width) for _ in range(levels - 1))
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One map a level, all of `width` channels."""
        down = [conv(x) for conv, x in zip(self.lateral_convs, maps, strict=True)]
        for level in range(len(down) - 1, 0, -1):
            size = down[level - 1].shape[-2:]
            down[level - 1] = down[level - 1] + functional.interpolate(down[level], size=size)
        up = [conv(x) for conv, x in zip(self.fpn_convs, down, strict=True)]
        for level, conv in enumerate(self.downsample_convs):
            up[level + 1] = up[level + 1] + conv(up[level])
        return [up[0], *(conv(x) for conv, x in zip(self.pafpn_convs, up[1:], strict=True))]


class FPN(nn.Module):
    """Feature pyramid: maps (B,C_l,H_l,W_l) -> maps (B,width,H_l,W_l), fine to coarse.

    Each map is brought to one width by a 1x1 convolution. From the coarsest down, a map is doubled
    in size (nearest) and added to the finer one, which a 3x3 convolution then smooths. Every
    convolution is normalized and rectified.

    Args:
        inputs: channels of each map.
        width: channels of the outputs.
        conv: makes the smoothing convolutions.
        slope: of all ReLUs on their negative side.
        coarser: whether one more map is made, by a 3x3 stride-2 convolution of the coarsest input.

    Source: FPN (arXiv:1612.03144), sec. 3; RetinaFace, sec. 4.2 (Feature Pyramid).
    Differs: FPN smooths beside the way down; here, as in RetinaFace's released code, the smoothed
    map goes on down, and the coarsest one is not smoothed.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        width: int,
        *,
        conv: Conv3x3 = conv3x3,
        slope: float = 0.0,
        coarser: bool = False,
    ) -> None:
        super().__init__()
        self.width = width
        self.laterals = nn.ModuleList(
            ConvNormAct(channels, width, 1, slope=slope) for channels in inputs
        )
        self.smooths = nn.ModuleList(
            nn.Sequential(conv(width, width), nn.BatchNorm2d(width), relu(slope))
            for _ in inputs[:-1]
        )
        self.coarser = None
        if coarser:
            self.coarser = ConvNormAct(inputs[-1], width, 3, 2, slope=slope)
            nn.init.xavier_uniform_(self.coarser[0].weight)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One map a level, all of `width` channels."""
        out = [conv(x) for conv, x in zip(self.laterals, maps, strict=True)]
        for level in range(len(out) - 2, -1, -1):
            up = functional.interpolate(out[level + 1], size=out[level].shape[-2:])
            out[level] = self.smooths[level](out[level] + up)
        return out if self.coarser is None else [*out, self.coarser(maps[-1])]


class FusedMap(nn.Module):
    """Maps at stride 8 and 16 -> one map at stride 8 that knows both.

    Each is brought to `reduced` channels, the coarser one enlarged, and both together, the coarser
    first, go through a 3x3 convolution.

    Args:
        inputs: channels of the two maps.
        reduced: channels after the 1x1 convolutions.
        fused: channels of the result.
        upsample: enlarges a map twice.
        norm: batch normalization after every convolution.
        pyramid: whether the stride 16 map itself and its max-pooled half come after the fused one,
            for Baseline-Three.

    Source: SmallHardFace, sec. 3.1, fig. 2; the pyramid: SSH (arXiv:1708.03979), sec. 3.1.
    """

    def __init__(
        self,
        inputs: tuple[int, int],
        reduced: int,
        fused: int,
        upsample: nn.Module,
        *,
        norm: bool = False,
        pyramid: bool = False,
    ) -> None:
        super().__init__()
        self.fine = conv_relu(inputs[0], reduced, 1, norm=norm)
        self.coarse = conv_relu(inputs[1], reduced, 1, norm=norm)
        self.upsample = upsample
        self.fuse = conv_relu(2 * reduced, fused, 3, norm=norm)
        self.pyramid = pyramid
        self.widths = (fused, inputs[1], inputs[1]) if pyramid else (fused,)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The fused map (B,fused,H,W), alone or with the two coarser ones."""
        fine, coarse = maps
        both = torch.cat([self.upsample(self.coarse(coarse)), self.fine(fine)], 1)
        found = [self.fuse(both)]
        if self.pyramid:
            found += [coarse, functional.max_pool2d(coarse, 2, ceil_mode=True)]
        return found


class ProductPyramid(nn.Module):
    """The first half of DSFD's feature enhance module: maps -> as many maps of the same sizes.

    From the coarsest down, each map is brought by a 1x1 convolution to its own width and multiplied
    by the next coarser result, which another 1x1 convolution has brought there too and which is
    enlarged bilinearly.

    Args:
        inputs: channels of each map.
        widths: channels of the results.
        merged: how many of the finest maps are multiplied; what is coarser passes as it is, the
            coarsest of all through its 1x1 convolution where all are merged.
        rectified: ReLUs after the convolutions and the product, as in the paper, or none, as in the
            released code.
        product: whether maps are multiplied at all; without it each passes through its own
            convolution alone.
        chained: whether the coarser factor is a result itself; else it is the map that was given.
        align_corners: how maps are enlarged: by their corner pixels' centers, as torch 0.3 did.
        normalized: how many of the finest maps have batch normalization after their convolutions.
            If any, all factors are about 1 at first: a product of six random maps is next to
            nothing, and would be long in learning anything from scratch.

    Source: DSFD, eq. 1 and fig. 3.
    Differs: where ReLUs go is a port's and the released code's; the paper does not say. Eq. 1
    multiplies by the coarser map of the backbone (`chained` off); the known codes by its result.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        widths: Sequence[int],
        *,
        merged: int,
        rectified: bool = True,
        product: bool = True,
        chained: bool = True,
        align_corners: bool = False,
        normalized: int = 0,
    ) -> None:
        super().__init__()
        self.widths, self.rectified = tuple(widths), rectified
        self.chained, self.align_corners = chained, align_corners
        coarser = widths if chained else inputs
        own = len(inputs) if merged == len(inputs) - 1 else merged
        self.own = nn.ModuleList(
            _conv1x1(inputs[level], widths[level], level < normalized) for level in range(own)
        )
        self.down = nn.ModuleList(
            _conv1x1(coarser[level + 1], widths[level], level + 1 < normalized)
            for level in range(merged * product)
        )
        xavier(self)
        if normalized:
            for part in self.down:
                last: Any = [*part.modules()][-1]
                nn.init.ones_(last.bias)
                if isinstance(last, nn.BatchNorm2d):
                    nn.init.constant_(last.weight, 0.1)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One map a level, of `widths` channels."""
        found = list(maps)
        for level in range(len(self.own) - 1, -1, -1):
            x = self.own[level](maps[level])
            if level < len(self.down):
                given = found if self.chained else maps
                coarser = self._act(self.down[level](given[level + 1]))
                x = x * enlarged(coarser, x, self.align_corners)
            found[level] = self._act(x)
        return found

    def _act(self, x: Tensor) -> Tensor:
        return x.relu() if self.rectified else x


class SmoothedProduct(nn.Module):
    """The neck of lightDSFD: maps (B,C_l,H_l,W_l) -> maps (B,width,H_l,W_l), fine to coarse.

    All maps are brought to one width by 1x1 convolutions. From a level down, each is multiplied by
    the next coarser result, enlarged, and goes through another 1x1 convolution. No ReLU.

    Args:
        inputs: channels of each map.
        width: channels of the results.
        merged: how many of the finest maps are multiplied.

    Source: the released code of lightDSFD.
    """

    def __init__(self, inputs: Sequence[int], width: int, *, merged: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in inputs)
        self.smooths = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(merged))
        xavier(self)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One map a level, all of `width` channels."""
        found = [conv(x) for conv, x in zip(self.laterals, maps, strict=True)]
        for level in range(len(self.smooths) - 1, -1, -1):
            up = enlarged(found[level + 1], found[level], align_corners=True)
            found[level] = self.smooths[level](up * found[level])
        return found


class BiFPN(nn.Module):
    """Weighted pyramid in two directions: maps (B,C,H_l,W_l) -> the same shapes, fine to coarse.

    Each map is added to the next coarser result, enlarged (nearest); then, the finest excepted, the
    map, what came of it and the next finer result, max-pooled, are added. Sums have learned weights
    that are not negative and are divided by their sum; a separable 3x3 convolution follows each,
    behind a ReLU and before a normalization.

    Args:
        levels: number of maps.
        width: channels C.

    Source: EfficientDet (arXiv:1911.09070), sec. 3.2 and 3.3.
    Differs: ReLU instead of swish, as in the other necks here.
    """

    def __init__(self, levels: int, width: int) -> None:
        super().__init__()
        last = levels - 1
        self.down = nn.ModuleList(operation("sep_conv_3x3", width) for _ in range(last))
        self.up = nn.ModuleList(operation("sep_conv_3x3", width) for _ in range(last))
        self.down_sums = nn.ModuleList(
            WeightedSum(torch.ones(2), positive=True) for _ in range(last)
        )
        # The coarsest map has nothing coming down: only itself and what comes up.
        self.up_sums = nn.ModuleList(
            WeightedSum(torch.ones(2 if level == last else 3), positive=True)
            for level in range(1, levels)
        )
        xavier(self)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One map a level."""
        found = list(maps)
        for level in range(len(maps) - 2, -1, -1):
            coarser = functional.interpolate(found[level + 1], size=maps[level].shape[-2:])
            found[level] = self.down[level](self.down_sums[level]([maps[level], coarser]))
        for level in range(1, len(maps)):
            terms = [maps[level], found[level], functional.max_pool2d(found[level - 1], 3, 2, 1)]
            if level == len(maps) - 1:
                del terms[1]
            found[level] = self.up[level - 1](self.up_sums[level - 1](terms))
        return found


def _conv1x1(inputs: int, outputs: int, norm: bool) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, 1, bias=not norm)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs)) if norm else conv


def _conv3x3(width: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width, width, 3, stride, 1)
