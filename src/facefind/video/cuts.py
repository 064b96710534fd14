"""Whether a picture begins a new scene of a video."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["CutDetector"]

_ROWS, _COLUMNS = 18, 32
_SAMPLES = 4  # along each side of a cell
_LEVELS = 4  # of each channel, in the histogram


class CutDetector:
    """Sees cuts between the pictures that it is shown one after the other.

    A cut changes both where light and dark lie (the correlation of two small gray pictures falls
    below `max_correlation`) and how much there is of each color (histograms share less than
    `max_shared`). A camera that turns fast changes the first alone, a flash or the automatic
    exposure the second alone. Dissolves and fades are not seen as cuts.
    """

    def __init__(self, max_correlation: float = 0.5, max_shared: float = 0.7) -> None:
        self.max_correlation, self.max_shared = max_correlation, max_shared
        self._last: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def is_cut(self, image: NDArray[np.uint8]) -> bool:
        """Whether the picture (H,W,3) uint8 begins a new scene; the first one does not."""
        sampled = _sampled(image)
        gray, colors = _thumbnail(sampled), _histogram(sampled)
        last, self._last = self._last, (gray, colors)
        if last is None:
            return False
        correlation = float((gray * last[0]).mean())
        shared = float(np.minimum(colors, last[1]).sum())
        return correlation < self.max_correlation and shared < self.max_shared


def _sampled(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels of an even grid, (72,128,3)."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            f"the picture must be (H,W,3) of uint8, got {image.shape} of {image.dtype}"
        )
    height, width = image.shape[:2]
    rows = (np.arange(_ROWS * _SAMPLES) + 0.5) * height / (_ROWS * _SAMPLES)
    columns = (np.arange(_COLUMNS * _SAMPLES) + 0.5) * width / (_COLUMNS * _SAMPLES)
    return np.asarray(image[rows.astype(int)[:, None], columns.astype(int)[None]], np.uint8)


def _thumbnail(sampled: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Gray means of cells (18,32), of mean 0 and variance 1 (of an even picture: 0)."""
    cells = sampled.reshape(_ROWS, _SAMPLES, _COLUMNS, _SAMPLES, 3)
    gray = cells.mean(axis=(1, 3, 4), dtype=np.float32)
    gray -= gray.mean()
    return np.asarray(gray / max(float(gray.std()), 1.0), np.float32)


def _histogram(sampled: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Parts of the pixels in each of 64 colors."""
    levels = sampled.reshape(-1, 3).astype(np.int64) * _LEVELS // 256
    index = levels @ np.array([_LEVELS**2, _LEVELS, 1])
    counts = np.bincount(index, minlength=_LEVELS**3)
    return np.asarray(counts / len(index), np.float32)
