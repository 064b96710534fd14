"""What a data set holds: counts, sizes and shapes, and a picture of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facefind.datasets.sample import Sample, digest, read_size
from facefind.errors import DataError

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Statistics:
    """Counts of a set. Quantiles are those of `QUANTILES`; ignored boxes are in none of them.

    `side` is the root of a box's area in pixels, `relative_side` that over the root of the
    picture's, `aspect` width over height.
    """

    digest: str
    images: int
    empty_images: int
    faces: int
    ignored: int
    with_points: int
    groups: int
    faces_an_image: tuple[float, ...]
    side: tuple[float, ...]
    relative_side: tuple[float, ...]
    aspect: tuple[float, ...]
    image_width: tuple[float, ...]
    image_height: tuple[float, ...]
    attributes: dict[str, dict[str, int]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self) | {"quantiles": list(QUANTILES)}


def statistics(samples: Sequence[Sample], *, files: bool = True) -> Statistics:
    """Statistics of the samples; `files` reads image headers where labels do not tell the size."""
    counted = [sample[~sample.ignore] for sample in samples]
    boxes = _boxes(counted)
    sizes = _sizes(counted, files)
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    side = np.sqrt(np.maximum(width, 0) * np.maximum(height, 0))
    area = np.repeat(np.sqrt(sizes.prod(axis=1)), [len(sample) for sample in counted])
    known = sizes[np.isfinite(sizes).all(axis=1)]
    return Statistics(
        digest=digest(samples),
        images=len(samples),
        empty_images=sum(len(sample) == 0 for sample in counted),
        faces=len(boxes),
        ignored=sum(int(sample.ignore.sum()) for sample in samples),
        with_points=sum(int(np.isfinite(s.landmarks).all(axis=(1, 2)).sum()) for s in counted),
        groups=len({sample.group for sample in samples}),
        faces_an_image=_quantiles(np.array([len(sample) for sample in counted], np.float64)),
        side=_quantiles(side),
        relative_side=_quantiles(side / area),
        aspect=_quantiles(width[height > 0] / height[height > 0]),
        image_width=_quantiles(known[:, 1]),
        image_height=_quantiles(known[:, 0]),
        attributes=_attributes(counted),
    )


def draw(samples: Sequence[Sample], path: str | Path, *, files: bool = True) -> None:
    """Write a picture of a set to an image file: face sizes, faces an image, places, shapes.

    Needs matplotlib.

    Raises:
        DataError: where there is no face to draw.
    """
    from matplotlib.figure import Figure

    counted = [sample[~sample.ignore] for sample in samples]
    boxes = _boxes(counted)
    if not len(boxes):
        raise DataError("no labeled face to draw")
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    side = np.sqrt(np.maximum(width, 0) * np.maximum(height, 0))
    sheet = Figure(figsize=(11, 7.5), layout="constrained")
    sheet.suptitle(f"{len(samples):,} images, {len(boxes):,} faces")
    grid = sheet.subplots(2, 2)
    edges = 2.0 ** np.arange(0, np.ceil(np.log2(max(side.max(), 2))) + 0.25, 0.25)
    grid[0, 0].hist(np.maximum(side, 1), bins=edges.tolist())
    grid[0, 0].set_xscale("log", base=2)
    grid[0, 0].xaxis.set_major_formatter("{x:g}")
    grid[0, 0].set(title="size of faces", xlabel="root of box area, pixels", ylabel="faces")
    counts = np.array([len(sample) for sample in counted])
    most = int(counts.max())
    steps = np.unique(np.round(np.geomspace(1, most + 1, min(most + 1, 30)))) - 0.5
    grid[0, 1].hist(counts, bins=[-0.5, *steps.tolist()])
    grid[0, 1].set_xscale("symlog", linthresh=1)
    grid[0, 1].xaxis.set_major_formatter("{x:g}")
    grid[0, 1].set(title="faces an image", xlabel="faces", ylabel="images", xlim=(-0.5, None))
    sizes = _sizes(counted, files)
    whole = np.repeat(sizes, [len(sample) for sample in counted], axis=0)
    centers = np.stack([boxes[:, 0] + width / 2, boxes[:, 1] + height / 2], axis=1) / whole[:, ::-1]
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
    sheet.savefig(path, dpi=110)


def _boxes(samples: Sequence[Sample]) -> npt.NDArray[np.float64]:
    return np.concatenate([np.zeros((0, 4)), *(sample.boxes for sample in samples)])


def _sizes(samples: Sequence[Sample], files: bool) -> npt.NDArray[np.float64]:
    """(I, 2) height and width of each picture, NaN where not known."""
    rows = []
    for sample in samples:
        size = sample.image_size
        if size is None and files:
            try:
                size = read_size(sample.path)
            except DataError:
                size = None
        rows.append((np.nan, np.nan) if size is None else size)
    return np.array(rows, np.float64).reshape(-1, 2)


def _quantiles(values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    good = values[np.isfinite(values)]
    if not len(good):
        return ()
    return tuple(round(float(value), 4) for value in np.quantile(good, QUANTILES))


def _attributes(samples: Sequence[Sample]) -> dict[str, dict[str, int]]:
    """How often each value of each attribute occurs; attributes of many values are left out."""
    told: dict[str, Counter[str]] = {}
    for sample in samples:
        for key, values in sample.attributes.items():
            if values.ndim == 1 and values.dtype.kind in "iubU":
                told.setdefault(key, Counter()).update(map(str, values.tolist()))
    return {key: dict(count.most_common()) for key, count in told.items() if len(count) <= 20}
