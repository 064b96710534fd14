"""Each face cut out of its image: its box, a square around it, or the aligned face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facefind import boxes as box_math
from facefind import landmarks
from facefind.errors import DataError, check_whole
from facefind.faces import Faces, checked
from facefind.images import Source, resize

__all__ = ["CropOptions", "align", "crop"]

_LARGEST_SIZE = 4096


@dataclass(frozen=True, kw_only=True)
class CropOptions:
    """How the aligned faces of many images are cut out into files.

    Raises:
        DataError: a number is out of its range.
    """

    size: int = 112
    """Side of a crop in pixels; the landmarks of the 112-pixel template grow with it."""
    faces: Literal["all", "largest"] = "all"
    """All faces of an image, or the one with the largest box."""
    min_size: float = 0.0
    """Leave out faces whose box has a shorter side, in the image's pixels."""
    format: Literal["png", "jpg", "webp"] = "png"
    """png keeps the pixels as they are, jpg and webp are smaller."""
    quality: int = 95
    """Of jpg and webp, 1 to 100."""

    def __post_init__(self) -> None:
        if not 1 <= self.size <= _LARGEST_SIZE:
            raise DataError(f"size {self.size}: expected 1 to {_LARGEST_SIZE}")
        if not self.min_size >= 0:
            raise DataError(f"min_size {self.min_size}: expected at least 0")
        if not 1 <= self.quality <= 100:
            raise DataError(f"quality {self.quality}: expected 1 to 100")


def crop(
    image: Source,
    faces: Faces,
    margin: float = 0.0,
    *,
    square: bool = False,
    size: int | None = None,
    fill: tuple[int, int, int] = (0, 0, 0),
) -> list[NDArray[np.uint8]]:
    """A copy of each face's region of the image, whole pixels, (h,w,3) uint8.

    By default a crop ends at the image's edges, and a face wholly outside the image gives an array
    without pixels. With `square` each crop is as high as wide: its side is the box's longer one,
    its center the box's, and what lies outside the image is `fill`.

    Args:
        image: The image in which the faces were found, as `images.read` takes it.
        faces: The faces to cut out.
        margin: Added on each side, as a fraction of the box's width and height (of the longer of
            both for a square).
        square: Whether crops are squares, padded where they reach beyond the image.
        size: Side in pixels to which squares are resized; None leaves them as they are.
        fill: The three channels of padding, 0..255.

    Raises:
        ImageError: If the image cannot be read, or is not of the faces' `image_size`.
        ValueError: If `size` is less than 1, or given without `square`; if `margin` leaves nothing.
    """
    pixels = checked(faces).read_image(image)
    if size is not None and not square:
        raise ValueError(f"size={size} is the side of a square crop: pass square=True with it")
    check_whole(1, size=size)
    if margin <= -0.5:
        raise ValueError(f"margin must be above -0.5, of which nothing is left, got {margin}")
    if square:
        return [_square(pixels, box, margin, size, fill) for box in faces.boxes]
    grown = box_math.to_pixels(box_math.expand(faces.boxes, margin), faces.image_size)
    return [pixels[y1:y2, x1:x2].copy() for x1, y1, x2, y2 in grown.tolist()]


def align(image: Source, faces: Faces, size: int = 112) -> NDArray[np.uint8]:
    """Each face turned upright by its landmarks, (N,size,size,3) uint8, black outside the image.

    Args:
        image: The image in which the faces were found, as `images.read` takes it.
        faces: The faces to align.
        size: Side of the crops; the landmarks come to lie on `landmarks.template(size)`.

    Raises:
        ImageError: If the image cannot be read, or is not of the faces' `image_size`.
        ValueError: If these faces have no landmarks, or `size` is less than 1.
    """
    pixels = checked(faces).read_image(image)
    if faces.landmarks is None:
        raise ValueError("these faces have no landmarks: use a model that finds them, or crop")
    check_whole(1, size=size)
    out = np.empty((len(faces), size, size, 3), np.uint8)
    for i, five in enumerate(faces.landmarks):
        out[i] = landmarks.align(pixels, five, size)
    return out


def _square(
    pixels: NDArray[np.uint8],
    box: NDArray[np.float32],
    margin: float,
    size: int | None,
    fill: tuple[int, int, int],
) -> NDArray[np.uint8]:
    """The square around a box, of which what is over one image side beyond the edge is dropped."""
    height, width = pixels.shape[:2]
    reach = max(height, width)
    far = np.array([width, height, width, height]) + reach
    x1, y1, x2, y2 = np.clip(box.astype(np.float64), -reach, far).tolist()
    side = max(1, round(max(x2 - x1, y2 - y1) * (1 + 2 * margin)))
    left, top = round((x1 + x2 - side) / 2), round((y1 + y2 - side) / 2)
    out = np.empty((side, side, 3), np.uint8)
    out[:] = fill
    inside = pixels[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)]
    out[max(0, -top) :, max(0, -left) :][: inside.shape[0], : inside.shape[1]] = inside
    return out if size is None else resize(out, (size, size))
