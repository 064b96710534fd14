"""What a data set holds: counts, sizes and shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from facefind.datasets.sample import Sample, digest, read_size
from facefind.errors import DataError

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True, eq=False)
class Geometry:
    """Faces and images of a set in arrays; ignored boxes are in none of them.

    Attributes:
        boxes: (G, 4) xyxy in pixels, image by image.
        counts: (I,) faces of each image.
        image_sizes: (I, 2) height and width, NaN where not known.
    """

    boxes: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    image_sizes: npt.NDArray[np.float64]

    @classmethod
    def from_samples(cls, samples: Sequence[Sample]) -> Geometry:
        """The geometry of samples; image headers are read where labels give no size."""
        counted = [sample[~sample.ignore] for sample in samples]
        return cls(
            np.concatenate([np.zeros((0, 4)), *(sample.boxes for sample in counted)]),
            np.array([len(sample) for sample in counted], np.int64),
            _sizes(counted),
        )

    @property
    def sides(self) -> npt.NDArray[np.float64]:
        """(G,) roots of the boxes' areas, in pixels."""
        return np.asarray(np.sqrt(np.maximum(self.boxes[:, 2:] - self.boxes[:, :2], 0).prod(1)))


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
    with_landmarks: int
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


def statistics(samples: Sequence[Sample]) -> Statistics:
    """Statistics of the samples; image headers are read where labels give no size."""
    counted = [sample[~sample.ignore] for sample in samples]
    geometry = Geometry.from_samples(samples)
    sizes, side = geometry.image_sizes, geometry.sides
    width, height = (geometry.boxes[:, 2:] - geometry.boxes[:, :2]).T
    area = np.repeat(np.sqrt(sizes.prod(axis=1)), geometry.counts)
    known = sizes[np.isfinite(sizes).all(axis=1)]
    return Statistics(
        digest=digest(samples),
        images=len(samples),
        empty_images=int((geometry.counts == 0).sum()),
        faces=len(geometry.boxes),
        ignored=sum(int(sample.ignore.sum()) for sample in samples),
        with_landmarks=sum(int(np.isfinite(s.landmarks).all(axis=(1, 2)).sum()) for s in counted),
        groups=len({sample.group for sample in samples}),
        faces_an_image=_quantiles(geometry.counts.astype(np.float64)),
        side=_quantiles(side),
        relative_side=_quantiles(side / area),
        aspect=_quantiles(width[height > 0] / height[height > 0]),
        image_width=_quantiles(known[:, 1]),
        image_height=_quantiles(known[:, 0]),
        attributes=_attributes(counted),
    )


def _sizes(samples: Sequence[Sample]) -> npt.NDArray[np.float64]:
    """(I, 2) height and width of each picture, NaN where not known."""
    rows: list[tuple[float, float]] = []
    for sample in samples:
        try:
            rows.append(sample.image_size or read_size(sample.path))
        except DataError:
            rows.append((np.nan, np.nan))
    return np.array(rows, np.float64).reshape(-1, 2)


def _quantiles(values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    good = values[np.isfinite(values)]
    if not len(good):
        return ()
    return tuple(round(float(value), 4) for value in np.quantile(good, QUANTILES))


def _attributes(samples: Sequence[Sample]) -> dict[str, dict[str, int]]:
    """How often each value of each attribute occurs; attributes of many values are left out."""
    found: dict[str, Counter[str]] = {}
    for sample in samples:
        for key, values in sample.attributes.items():
            if values.ndim == 1 and values.dtype.kind in "iubU":
                found.setdefault(key, Counter()).update(map(str, values.tolist()))
    return {key: dict(count.most_common()) for key, count in found.items() if len(count) <= 20}
