"""Cells: the modules that genotypes are built as, and the operations on their edges.

A search puts nodes that choose among many operations in the place of these.

Legend: B batch, C channels, H_l W_l the size of level l's map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from facefind.nn.genotypes import OPERATIONS, Edge, PyramidGenotype
from facefind.nn.layers import WeightedSum, xavier
from facefind.nn.upsampling import enlarged


class Zero(nn.Module):
    """Zeros, which still carry a (zero) gradient: same shape."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` times 0."""
        return x * 0.0


def operation(name: str, width: int, *, norm: bool = True) -> nn.Module:
    """An operation of `OPERATIONS`: (B,width,H,W) -> (B,width,H,W).

    A ReLU, then the convolutions, and batch normalization after the last of them; without it, as
    while searching, convolutions have biases instead.

    Source: the released code of DSFDv2. Differs: there the 1xk and kx1 convolutions have biases
    even where normalization follows, to no effect.
    """
    spec = OPERATIONS[name]
    if spec.kind == "none":
        return Zero()
    if spec.kind == "skip":
        return nn.Identity()
    if spec.kind == "max":
        return nn.MaxPool2d(3, 1, 1)
    if spec.kind == "mean":
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    tall, wide = spec.kernel
    kernels = [(1, wide), (tall, 1)] if spec.kind == "crossed" else [spec.kernel]
    conv = partial(nn.Conv2d, width, width, dilation=spec.dilation, bias=not norm)
    found: list[nn.Module] = [nn.ReLU()]
    for kernel in kernels:
        padding = (spec.dilation * (kernel[0] // 2), spec.dilation * (kernel[1] // 2))
        groups = 1 if spec.kind == "full" else width
        found.append(conv(kernel_size=kernel, padding=padding, groups=groups))
    if spec.kind != "full":
        found.append(nn.Conv2d(width, width, 1, bias=not norm))
    return nn.Sequential(*found, *([nn.BatchNorm2d(width)] * norm))


class PyramidCell(nn.Module):
    """A searched pyramid: maps (B,C,H_l,W_l) -> maps of the same shapes, fine to coarse.

    On the way down each level's map is multiplied by the next coarser result, enlarged; on the way
    up by the next finer one, max-pooled. A level's results, and what it makes of its own map alone,
    are added with weights that are learned (`WeightedSum`), and a 1x1 convolution ends it.

    Args:
        genotype: the edges of each level.
        width: channels C.

    Source: ASFD, sec. 4.2 (what was found); the released code of DSFDv2 (everything else).
    """

    def __init__(self, genotype: PyramidGenotype, width: int) -> None:
        super().__init__()
        self.sources = tuple(tuple(source for _, source in node) for node in genotype.nodes)
        self.edges = nn.ModuleList(
            nn.ModuleList(operation(name, width) for name, _ in node) for node in genotype.nodes
        )
        self.sums = nn.ModuleList(
            WeightedSum(1e-3 * torch.randn(len(node))) for node in genotype.nodes
        )
        self.outputs = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in genotype.nodes)
        xavier(self)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One map a level."""
        down = self._pass(maps, range(len(maps) - 1, -1, -1), 1, enlarged)
        up = self._pass(maps, range(len(maps)), -1, _halved)
        found = []
        for level, sources in enumerate(self.sources):
            terms = [
                self._edge(level, place, maps[level])
                if source == level
                else (down if source > level else up)[level]
                for place, source in enumerate(sources)
            ]
            found.append(self.outputs[level](self.sums[level](terms)))
        return found

    def _pass(
        self,
        maps: Sequence[Tensor],
        order: range,
        step: int,
        fit: Callable[[Tensor, Tensor], Tensor],
    ) -> list[Tensor]:
        """Each level's result of its neighbor's on the way down (step 1) or up (-1)."""
        found = list(maps)
        for level in order:
            if level + step in self.sources[level]:
                place = self.sources[level].index(level + step)
                product = fit(found[level + step], maps[level]) * maps[level]
                found[level] = self._edge(level, place, product)
        return found

    def _edge(self, level: int, place: int, x: Tensor) -> Tensor:
        edges = self.edges[level]
        assert isinstance(edges, nn.ModuleList)
        result: Tensor = edges[place](x)
        return result


class ContextCell(nn.Module):
    """A searched context: (B,C,H,W) -> (B,C,H,W).

    Every node is an operation on the map of an earlier one. Those that are joined go through a 1x1
    convolution, normalization and ReLU, and the cell's input is added.

    Args:
        nodes: operation and source of each node; 0 is the cell's input.
        joined: numbers of the nodes that are joined (`ContextGenotype.joined`).
        width: channels C.

    Source: ASFD, sec. 4.1 and table 2, for nodes and leaves. How they are joined, and that the
    input is added, is ours: neither text nor code was released.
    """

    def __init__(
        self,
        nodes: Sequence[Edge],
        joined: Sequence[int],
        width: int,
    ) -> None:
        super().__init__()
        self.sources, self.joined = tuple(source for _, source in nodes), tuple(joined)
        self.nodes = nn.ModuleList(operation(name, width) for name, _ in nodes)
        self.join = nn.Sequential(
            nn.Conv2d(len(joined) * width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        xavier(self)

    def forward(self, x: Tensor) -> Tensor:
        """The cell's output."""
        found = [x]
        for source, node in zip(self.sources, self.nodes, strict=True):
            found.append(node(found[source]))
        joined: Tensor = self.join(torch.cat([found[node] for node in self.joined], 1))
        return joined + x


def _halved(x: Tensor, _: Tensor) -> Tensor:
    return functional.max_pool2d(x, 3, 2, 1)
