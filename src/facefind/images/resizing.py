"""`resize`: bilinear with half-pixel centers, the same with OpenCV and with Pillow alone.

Pixels differ by rounding, and so do the faces that are found: with the SCRFD models that ship by at
most 0.02 of a face's longer side and 0.01 in score. One near the threshold may come or go.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facefind import forking
from facefind.errors import ImageError

__all__ = ["opencv", "resize"]


@functools.cache
def opencv() -> Any:
    """The module cv2, or None where it is not installed or cannot be loaded."""
    try:
        import cv2
    except ImportError:
        return None
    return cv2


def resize(
    image: NDArray[np.uint8],
    size: tuple[int, int],
    extent: tuple[float, float] | None = None,
) -> NDArray[np.uint8]:
    """The image at size (h, w), (h,w,3) uint8; the image itself where it has that size.

    Bilinear between the four nearest pixels, without smoothing, as detectors are trained. Only
    where a side shrinks to a half or less are whole blocks of pixels averaged first (2, 3, ... to
    a block, as many as fit). Output pixel centers `i + 0.5` come from `(i + 0.5) * H / h` exactly,
    whether or not blocks divide the side.

    Args:
        image: (H,W,3) uint8.
        size: (h, w) of the result.
        extent: (height, width) of the part from the top left that is resized, in pixels of
            `image`, fractions allowed: what an original of other sides spans on an image that
            `read_reduced` made. None: all of it.

    Raises:
        ImageError: If the image is not (H,W,3) uint8, a side is less than 1, or the image is
            smaller than the extent.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ImageError(f"image must be (H,W,3) uint8, got {image.shape} {image.dtype}")
    height, width = size
    if height < 1 or width < 1:
        raise ImageError(f"size must be at least (1, 1), got {size}")
    high, wide = extent or (image.shape[0], image.shape[1])
    if not (0 < high <= image.shape[0] and 0 < wide <= image.shape[1]):
        raise ImageError(f"an extent of {extent} must lie within the image's {image.shape[:2]}")
    if image.shape[:2] == (height, width) == (high, wide):
        return image
    block_y, block_x = max(1, int(high // height)), max(1, int(wide // width))
    steps = high / height / block_y, wide / width / block_x
    if block_y > 1 or block_x > 1:
        image = _average(image, block_y, block_x)
    if image.shape[:2] == (height, width) and steps == (1, 1):
        return image
    return _bilinear(image, (height, width), steps)


def _average(image: NDArray[np.uint8], block_y: int, block_x: int) -> NDArray[np.uint8]:
    """Means of whole blocks; where some pixels are left over, the last row or column repeats."""
    rows, columns = image.shape[0] // block_y, image.shape[1] // block_x
    whole = image[: rows * block_y, : columns * block_x]
    if (cv2 := opencv()) is not None:
        with forking.whole():
            means = cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)
    else:
        from PIL import Image

        means = np.asarray(Image.fromarray(whole).reduce((block_x, block_y)))
    rest_y, rest_x = image.shape[0] > rows * block_y, image.shape[1] > columns * block_x
    if not (rest_y or rest_x):
        return np.ascontiguousarray(means)
    out = np.empty((rows + rest_y, columns + rest_x, 3), np.uint8)
    out[:rows, :columns] = means
    out[rows:, :columns] = means[-1:]
    out[:, columns:] = out[:, columns - 1 : columns]
    return out


def _bilinear(
    image: NDArray[np.uint8], size: tuple[int, int], steps: tuple[float, float]
) -> NDArray[np.uint8]:
    """Output pixel (i, j) taken at `((i + 0.5) * step_y, (j + 0.5) * step_x)`, edges repeated."""
    height, width = size
    step_y, step_x = steps
    if (cv2 := opencv()) is not None:
        # Given factors and no size, OpenCV keeps to the factors exactly. It may add a row or a
        # column for the left-over pixels, which is cut off here; and where it finds that the size
        # stays, it copies whatever the factors are, so that this rare case is left to Pillow.
        scales = {"fx": 1 / step_x, "fy": 1 / step_y}
        with forking.whole():
            out = cv2.resize(image, None, **scales, interpolation=cv2.INTER_LINEAR)
        if out.shape != image.shape:
            return np.ascontiguousarray(out[:height, :width])
    from PIL import Image

    moved = Image.fromarray(image).transform(
        (width, height),
        Image.Transform.AFFINE,
        (step_x, 0, 0, 0, step_y, 0),
        Image.Resampling.BILINEAR,
    )
    return np.array(moved)
