"""A differentiable rasterizer in plain torch.

Which triangle a pixel shows is found without gradients, by a z-buffer over the pixels within each
triangle's bounds. What the pixel shows is then computed anew from that triangle's three corners,
perspective-correct, and so has gradients to their places, depths and attributes. As in the
renderer that the paper names (Genova et al., CVPR 2018), there is none from a pixel's change of
triangle, at outlines and where one part hides another.

Shapes: B batch, V vertices, T triangles, C attributes, P covered pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Fragments(NamedTuple):
    """The covered pixels of a batch, each with the triangle that it shows."""

    image: Tensor
    """(P,) int64."""
    y: Tensor
    """(P,) int64."""
    x: Tensor
    """(P,) int64."""
    triangle: Tensor
    """(P,) int64."""


@torch.no_grad()
def rasterize(
    screen: Tensor, triangles: Tensor, size: tuple[int, int], cull: bool = True
) -> Fragments:
    """The triangle nearest to the camera at each pixel's center that one covers.

    Args:
        screen: (B,V,3): x and y in pixels, where pixel 0 has its center at 0.5, and the distance
            from the camera, all greater than 0.
        triangles: (T,3) indices of vertices.
        size: (height, width) of the images.
        cull: leave out triangles seen from behind: those clockwise on the screen, whose y runs
            down. (Counter-clockwise triangles of a mesh with y up are seen from the front.)
    """
    height, width = size
    corners = screen[:, triangles]  # (B,T,3,3)
    low = (corners[..., :2].amin(2) - 0.5).ceil()
    high = (corners[..., :2].amax(2) - 0.5).floor()
    limit = torch.tensor([width - 1, height - 1], device=screen.device)
    low, high = low.clamp(min=0), torch.minimum(high, limit)
    sides = (high - low + 1).clamp(min=0)
    ax, ay = corners[:, :, 0, 0], corners[:, :, 0, 1]
    area = (corners[:, :, 1, 0] - ax) * (corners[:, :, 2, 1] - ay)
    area = area - (corners[:, :, 1, 1] - ay) * (corners[:, :, 2, 0] - ax)
    seen = (area < -1e-9) if cull else (area.abs() > 1e-9)
    counts = torch.where(seen & area.isfinite(), sides.prod(-1), 0).long().flatten()

    # One entry a pixel within a triangle's bounds.
    owner = torch.arange(len(counts), device=screen.device).repeat_interleave(counts)
    begin = counts.cumsum(0) - counts
    place = torch.arange(len(owner), device=screen.device) - begin[owner]
    columns = sides[..., 0].flatten().long()[owner]
    x = low[..., 0].flatten().long()[owner] + place % columns.clamp(min=1)
    y = low[..., 1].flatten().long()[owner] + place.div(columns.clamp(min=1), rounding_mode="floor")
    flat = corners.flatten(0, 1)[owner]
    weights = _edge_weights(flat[..., :2], x, y)
    inside = (weights >= 0).all(-1)
    owner, x, y, flat, weights = (t[inside] for t in (owner, x, y, flat, weights))
    near = (weights / flat[..., 2]).sum(-1)  # 1 / distance is linear on the screen

    image, triangle = owner.div(len(triangles), rounding_mode="floor"), owner % len(triangles)
    pixel = (image * height + y) * width + x
    pixels = screen.shape[0] * height * width
    nearest = near.new_full((pixels,), -torch.inf).scatter_reduce(0, pixel, near, "amax")
    first = near == nearest[pixel]
    none = len(triangles)
    shown = triangle.new_full((pixels,), none).scatter_reduce(
        0, pixel[first], triangle[first], "amin"
    )
    covered = (shown < none).nonzero().squeeze(1)
    row = covered.div(width, rounding_mode="floor")
    return Fragments(
        row.div(height, rounding_mode="floor"), row % height, covered % width, shown[covered]
    )


def barycentric(screen: Tensor, triangles: Tensor, fragments: Fragments) -> Tensor:
    """Perspective-correct weights (P,3) of the corners at each covered pixel; they sum to 1."""
    corners = screen[fragments.image[:, None], triangles[fragments.triangle]]
    weights = _edge_weights(corners[..., :2], fragments.x, fragments.y) / corners[..., 2]
    return weights / weights.sum(-1, keepdim=True)


def interpolate(
    attributes: Tensor, triangles: Tensor, fragments: Fragments, weights: Tensor
) -> Tensor:
    """Attributes (B,V,C) at each covered pixel: (P,C)."""
    corners = attributes[fragments.image[:, None], triangles[fragments.triangle]]
    return (weights[..., None] * corners).sum(1)


def render(
    screen: Tensor,
    attributes: Tensor,
    triangles: Tensor,
    size: tuple[int, int],
    background: Tensor | float = 0.0,
    cull: bool = True,
) -> tuple[Tensor, Tensor]:
    """Images (B,C,H,W) and where they are covered (B,H,W) bool.

    Args:
        screen: (B,V,3) as for `rasterize`.
        attributes: (B,V,C), colors for example.
        triangles: (T,3).
        size: (height, width).
        background: what the rest shows: a number, or anything that broadcasts to the images.
        cull: leave out triangles seen from behind.
    """
    fragments = rasterize(screen, triangles, size, cull)
    weights = barycentric(screen, triangles, fragments)
    values = interpolate(attributes, triangles, fragments, weights)
    image, y, x, _ = fragments
    shape = (len(screen), attributes.shape[2], *size)
    canvas = torch.as_tensor(background, dtype=values.dtype, device=values.device)
    canvas = canvas.expand(shape).permute(0, 2, 3, 1)
    pictures = canvas.index_put((image, y, x), values).permute(0, 3, 1, 2)
    covered = torch.zeros(len(screen), *size, dtype=torch.bool, device=screen.device)
    covered[image, y, x] = True
    return pictures, covered


def _edge_weights(corners: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Weights (P,3), linear on the screen, of corners (P,3,2) at the centers of pixels (P,)."""
    away = corners - torch.stack([x, y], -1)[:, None] - 0.5
    dx, dy = away.unbind(-1)
    # Each weight is the area between the pixel and the other two corners.
    areas = torch.roll(dx, -1, 1) * torch.roll(dy, -2, 1) - torch.roll(dx, -2, 1) * torch.roll(
        dy, -1, 1
    )
    total = areas.sum(-1, keepdim=True)
    return areas / torch.where(total.abs() > 1e-12, total, torch.ones_like(total))
