"""What a labeled set holds, in one figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facefind.datasets.statistics import Geometry
from facefind.errors import DataError
from facefind.plots.figure import new_figure, save

__all__ = ["draw_faces"]


def draw_faces(path: str | Path, geometry: Geometry) -> Path:
    """Write face sizes, faces an image, positions and shapes to an image file; return its path.

    Raises:
        DataError: if there is no face.
    """
    if not len(geometry.boxes):
        raise DataError("no labeled face to draw")
    width, height = (geometry.boxes[:, 2:] - geometry.boxes[:, :2]).T
    side = geometry.sides
    sheet = new_figure(11, 7.5)
    sheet.suptitle(f"{len(geometry.counts):,} images, {len(geometry.boxes):,} faces")
    grid = sheet.subplots(2, 2)
    edges = 2.0 ** np.arange(0, np.ceil(np.log2(max(side.max(), 2))) + 0.25, 0.25)
    grid[0, 0].hist(np.maximum(side, 1), bins=edges.tolist())
    grid[0, 0].set_xscale("log", base=2)
    grid[0, 0].xaxis.set_major_formatter("{x:g}")
    grid[0, 0].set(title="size of faces", xlabel="root of box area, pixels", ylabel="faces")
    counts = geometry.counts
    most = int(counts.max())
    steps = np.unique(np.round(np.geomspace(1, most + 1, min(most + 1, 30)))) - 0.5
    grid[0, 1].hist(counts, bins=[-0.5, *steps.tolist()])
    grid[0, 1].set_xscale("symlog", linthresh=1)
    grid[0, 1].xaxis.set_major_formatter("{x:g}")
    grid[0, 1].set(title="faces an image", xlabel="faces", ylabel="images", xlim=(-0.5, None))
    whole = np.repeat(geometry.image_sizes, counts, axis=0)
    centers = (
        np.stack([geometry.boxes[:, 0] + width / 2, geometry.boxes[:, 1] + height / 2], axis=1)
        / whole[:, ::-1]
    )
    centers = centers[np.isfinite(centers).all(axis=1)]
    places = grid[1, 0].hist2d(
        centers[:, 0], centers[:, 1], bins=40, range=[[0, 1], [0, 1]], cmap="viridis"
    )
    sheet.colorbar(places[3], ax=grid[1, 0], label="faces")
    grid[1, 0].invert_yaxis()
    grid[1, 0].set(title="where faces are", xlabel="part of the width", ylabel="of the height")
    good = (width > 0) & (height > 0)
    shapes = np.clip(width[good] / height[good], 0.25, 2)
    grid[1, 1].hist(shapes, bins=np.linspace(0.25, 2, 71).tolist())
    grid[1, 1].set(title="shape of faces", xlabel="width / height", ylabel="faces")
    for axes in (grid[0, 0], grid[0, 1], grid[1, 1]):
        axes.grid(alpha=0.3)
    return save(sheet, path)
