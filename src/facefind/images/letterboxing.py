"""Bringing an image onto the canvas that a network reads, and results back to the original."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facefind import forking
from facefind.errors import ImageError
from facefind.images.resizing import opencv, resize

__all__ = ["Placement", "fit", "letterbox", "pyramid", "to_nchw"]

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image lies on a canvas: enough to take boxes and points back to its own pixels."""

    scale_x: float
    """Canvas pixels for one pixel of the original, across."""
    scale_y: float
    """Canvas pixels for one pixel of the original, down."""
    image_size: tuple[int, int]
    """(h, w) of the original."""
    canvas: tuple[int, int]
    """(H, W) of the canvas."""
    offset_x: float = 0.0
    """Where the canvas starts in the original, across: more than 0 for tiles."""
    offset_y: float = 0.0
    """Where the canvas starts in the original, down."""

    def boxes(self, boxes: ArrayLike) -> FloatArray:
        """Boxes xyxy on the canvas as boxes in the original, (...,4); not cut at its edges."""
        return self._back(boxes, 4)

    def points(self, points: ArrayLike) -> FloatArray:
        """Points x, y on the canvas as points in the original, (...,2)."""
        return self._back(points, 2)

    def _back(self, values: ArrayLike, last: int) -> FloatArray:
        array = np.asarray(values)
        if array.ndim == 0 or array.shape[-1] != last:
            raise ValueError(f"expected an array (..., {last}), got {array.shape}")
        if array.dtype.kind != "f":
            array = array.astype(np.float64)
        scale = np.array([self.scale_x, self.scale_y] * (last // 2), array.dtype)
        moved: FloatArray = array / scale
        if self.offset_x or self.offset_y:
            moved += np.array([self.offset_x, self.offset_y] * (last // 2), array.dtype)
        return moved


def fit(
    image_size: tuple[int, int], target: int | tuple[int, int] | None = None
) -> tuple[int, int]:
    """The size (h, w) to which an image is resized, its sides kept in proportion.

    Sides are rounded to the nearest pixel and are at least 1.

    Args:
        image_size: (h, w) of the image.
        target: The length of the longer side; or (h, w) into which the image just fits; or None
            for the image's own size.

    Raises:
        ImageError: A side of the image or of the target is less than 1.
    """
    height, width = image_size
    if height < 1 or width < 1:
        raise ImageError(f"the image has no pixels: (h, w) = {image_size}")
    if target is None:
        return height, width
    sides = (target, target) if isinstance(target, (int, np.integer)) else tuple(target)
    if len(sides) != 2 or min(sides) < 1:
        raise ImageError(f"target must be a side or (h, w) of at least 1 pixel, got {target!r}")
    factor = min(sides[0] / height, sides[1] / width)
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))


def letterbox(
    image: NDArray[np.uint8],
    size: tuple[int, int] | None = None,
    canvas: tuple[int, int] | None = None,
    *,
    multiple: int = 32,
    fill: int = 127,
) -> tuple[NDArray[np.uint8], Placement]:
    """The image resized and padded right and below, (H,W,3) uint8, and where it lies there.

    An image that already has both sizes is returned itself, not copied.

    Args:
        image: (h,w,3) uint8.
        size: (h, w) to which the image is resized, usually of `fit`; None leaves it as it is.
        canvas: (H, W) of the result; None takes the least multiples of `multiple` that hold it.
        multiple: What H and W are multiples of where no canvas is given.
        fill: Value of the padding, 0..255.

    Raises:
        ImageError: If the resized image does not fit on the canvas.
    """
    image_size = (image.shape[0], image.shape[1])
    height, width = size or image_size
    resized = resize(image, (height, width))
    if canvas is None:
        if multiple < 1:
            raise ImageError(f"multiple must be at least 1, got {multiple}")
        canvas = (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
    if height > canvas[0] or width > canvas[1]:
        raise ImageError(f"an image of (h, w) = {(height, width)} does not fit on {canvas}")
    placement = Placement(width / image_size[1], height / image_size[0], image_size, canvas)
    if canvas == (height, width):
        return np.ascontiguousarray(resized), placement
    out = np.empty((*canvas, 3), np.uint8)
    out[:height, :width] = resized
    out[:height, width:] = fill
    out[height:] = fill
    return out, placement


def pyramid(
    image: NDArray[np.uint8],
    long_sides: Iterable[int | tuple[int, int] | None],
    *,
    multiple: int = 32,
    fill: int = 127,
) -> list[tuple[NDArray[np.uint8], Placement]]:
    """The image letterboxed at several sizes, one canvas and placement for each.

    Args:
        image: (h,w,3) uint8.
        long_sides: Targets as `fit` takes them.
        multiple: What the canvases' sides are multiples of.
        fill: Value of the padding, 0..255.
    """
    image_size = (image.shape[0], image.shape[1])
    return [
        letterbox(image, fit(image_size, target), multiple=multiple, fill=fill)
        for target in long_sides
    ]


def to_nchw(canvases: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Canvases of one size as a contiguous batch of color planes, (B,3,H,W) uint8.

    Raises:
        ImageError: If there is none, or they are not (H,W,3) uint8 of one size.
    """
    if len(canvases) == 0:
        raise ImageError("expected at least one canvas, got none")
    height, width = canvases[0].shape[:2]
    out = np.empty((len(canvases), 3, height, width), np.uint8)
    cv2 = opencv()
    for planes, canvas in zip(out, canvases, strict=True):
        if canvas.shape != (height, width, 3) or canvas.dtype != np.uint8:
            raise ImageError(
                f"canvases must all be {(height, width, 3)} uint8, "
                f"got {canvas.shape} {canvas.dtype}"
            )
        if cv2 is not None:
            with forking.whole():
                split = cv2.split(canvas, list(planes))
            for plane, made in zip(planes, split, strict=True):
                if not np.may_share_memory(plane, made):  # it may return others
                    plane[:] = made
        else:
            planes[:] = canvas.transpose(2, 0, 1)
    return out
