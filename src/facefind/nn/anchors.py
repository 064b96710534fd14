"""Anchors: the boxes that the outputs of a dense detector refer to.

Legend: A anchors over all levels, H_l W_l the size of level l's map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from facefind.nn.constants import constant

Side = float | tuple[float, float]
"""An anchor's size in input pixels: the side of a square, or (width, height)."""


@dataclass(frozen=True)
class Level:
    """The anchors of one level, as plain numbers: a grid of cells with the same sizes on each.

    Attributes:
        start: index of the level's first anchor.
        map_size: (H_l,W_l) cells.
        stride: pixels from cell to cell.
        offset: pixels from a cell's top left corner to its anchors' center, right and down alike.
        sizes: (width, height) of each anchor on a cell, in pixels.
    """

    start: int
    map_size: tuple[int, int]
    stride: int
    offset: float
    sizes: tuple[tuple[float, float], ...]

    @property
    def count(self) -> int:
        """Number of anchors on the level."""
        return self.map_size[0] * self.map_size[1] * len(self.sizes)


@dataclass(frozen=True)
class Anchors:
    """Anchors of all levels in one row: level by level, cells row by row, sizes in their order.

    Attributes:
        centers: (A,2) x, y in input pixels; some anchors reach beyond the image.
        sizes: (A,2) width and height in input pixels.
        strides: (A,) stride of each anchor's level, in input pixels.
        levels: the same as plain numbers, by level.
        name: what the anchors are for: `face`, `head`, `body`.
    """

    centers: Tensor
    sizes: Tensor
    strides: Tensor
    levels: tuple[Level, ...]
    name: str = "face"

    @property
    def boxes(self) -> Tensor:
        """(A,4) xyxy corners in input pixels."""
        half = self.sizes / 2
        return torch.cat([self.centers - half, self.centers + half], dim=1)

    @property
    def per_level(self) -> tuple[int, ...]:
        """Number of anchors on each level; they add up to A."""
        return tuple(level.count for level in self.levels)

    def __len__(self) -> int:
        """A."""
        return self.centers.shape[0]

    def take(self, index: Tensor) -> Anchors:
        """The anchors of some indices (N,), without the order of levels."""
        return Anchors(self.centers[index], self.sizes[index], self.strides[index], (), self.name)


@dataclass(frozen=True)
class AnchorGrid:
    """Makes anchors for feature maps of any size.

    Attributes:
        strides: stride of each level in input pixels.
        sizes: anchors on one cell of each level.
        offset: pixels from a cell's top left corner to its anchors' center; None: half a cell.
        name: what the anchors are for.

    Source: SCRFD, sec. 4 ({16,32}, {64,128}, {256,512} at strides 8, 16, 32).
    Differs: the text does not say where on a cell anchors are centered; the authors' code puts
    them on its top left corner, and so does the default.
    """

    strides: tuple[int, ...]
    sizes: tuple[tuple[Side, ...], ...]
    offset: float | None = 0.0
    name: str = "face"

    def __post_init__(self) -> None:
        if len(self.strides) != len(self.sizes):
            raise ValueError(
                f"expected anchor sizes for each of the strides {self.strides}, got {self.sizes}"
            )

    def halved(self) -> AnchorGrid:
        """The same grid with anchors of half the size, as for a detector's first shot."""
        return AnchorGrid(
            self.strides,
            tuple(tuple((w / 2, h / 2) for w, h in _pairs(sides)) for sides in self.sizes),
            self.offset,
            self.name,
        )

    def __call__(
        self, map_sizes: Sequence[tuple[int, int]], device: torch.device | None = None
    ) -> Anchors:
        """Anchors for maps of the given (H_l,W_l), float32."""
        if len(map_sizes) != len(self.strides):
            raise ValueError(f"expected {len(self.strides)} maps, got {len(map_sizes)}")
        centers, sizes, strides, levels, start = [], [], [], [], 0
        for (height, width), stride, sides in zip(map_sizes, self.strides, self.sizes, strict=True):
            offset = stride / 2 if self.offset is None else self.offset
            pairs = _pairs(sides)
            ys = torch.arange(height, device=device, dtype=torch.float32) * stride + offset
            xs = torch.arange(width, device=device, dtype=torch.float32) * stride + offset
            grid = torch.stack(
                [xs[None, :].expand(height, width), ys[:, None].expand(height, width)], dim=-1
            )
            cells = grid.reshape(-1, 1, 2).expand(-1, len(pairs), 2).reshape(-1, 2)
            size = constant(pairs, xs)
            centers.append(cells)
            sizes.append(size.repeat(height * width, 1))
            strides.append(torch.full_like(cells[:, 0], stride))
            levels.append(Level(start, (height, width), stride, offset, pairs))
            start += height * width * len(pairs)
        return Anchors(
            torch.cat(centers), torch.cat(sizes), torch.cat(strides), tuple(levels), self.name
        )


def _pairs(sides: Sequence[Side]) -> tuple[tuple[float, float], ...]:
    return tuple(
        (float(s), float(s)) if isinstance(s, int | float) else (float(s[0]), float(s[1]))
        for s in sides
    )
