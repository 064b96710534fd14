"""Anchors: where on the image each output of a dense detector stands.

Legend: A anchors over all levels, H_l W_l the size of level l.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Anchors:
    """Square anchors of all levels, fine to coarse, cells row by row, small before large.

    Attributes:
        centers: (A,2) x, y in input pixels.
        strides: (A,) stride of each anchor's level, in input pixels.
        sizes: (A,) side of each anchor's square, in input pixels.
        per_level: number of anchors on each level; they add up to A.
    """

    centers: Tensor
    strides: Tensor
    sizes: Tensor
    per_level: tuple[int, ...]

    @property
    def boxes(self) -> Tensor:
        """(A,4) xyxy corners of the anchors, in input pixels; some reach beyond the image."""
        return self.corners()

    def corners(self, *, plus_one: bool = False) -> Tensor:
        """(A,4) xyxy corners; with `plus_one` those of the first and last pixel that are covered.

        An anchor of side 16 around (7.5, 7.5) is then (0, 0, 15, 15), as older detectors write it.
        """
        half = (self.sizes[:, None] - float(plus_one)) / 2
        return torch.cat([self.centers - half, self.centers + half], dim=1)


def square_anchors(
    map_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    sizes: Sequence[Sequence[float]],
    device: torch.device | None = None,
    offset: float | Sequence[float] = 0.0,
) -> Anchors:
    """Anchors for feature maps of the given (H_l, W_l), float32.

    Args:
        map_sizes: height and width of each level's map.
        strides: stride of each level in input pixels.
        sizes: sides of the anchors on one cell of each level, in input pixels.
        device: where the tensors are made.
        offset: pixels from a cell's top left corner to its anchors' center, right and down alike:
            one number, or one a level.

    Source: SCRFD, sec. 4 ({16,32}, {64,128}, {256,512} at strides 8, 16, 32).
    Differs: the text does not place the anchors; the authors' code puts them on the cell's top
    left corner (j*stride, i*stride) with no half-cell offset, and so do we by default.
    """
    centers, all_strides, all_sizes, per_level = [], [], [], []
    offsets = [offset] * len(strides) if isinstance(offset, int | float) else offset
    for (height, width), stride, sides, shift in zip(
        map_sizes, strides, sizes, offsets, strict=True
    ):
        ys = torch.arange(height, device=device, dtype=torch.float32) * stride + shift
        xs = torch.arange(width, device=device, dtype=torch.float32) * stride + shift
        grid = torch.stack(
            [xs[None, :].expand(height, width), ys[:, None].expand(height, width)], dim=-1
        )
        cells = grid.reshape(-1, 1, 2).expand(-1, len(sides), 2).reshape(-1, 2)
        side = torch.tensor(sides, device=device, dtype=torch.float32)
        centers.append(cells)
        all_strides.append(torch.full_like(cells[:, 0], stride))
        all_sizes.append(side.repeat(height * width))
        per_level.append(height * width * len(sides))
    return Anchors(
        torch.cat(centers), torch.cat(all_strides), torch.cat(all_sizes), tuple(per_level)
    )
