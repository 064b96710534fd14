"""Images with the faces hidden: blurred, pixelated or filled; the given image is never changed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from facefind import boxes as box_math
from facefind.faces import Faces
from facefind.images import Source

__all__ = ["blur", "fill", "pixelate"]


def blur(
    image: Source, faces: Faces, *, margin: float = 0.15, strength: float = 0.15
) -> NDArray[np.uint8]:
    """A copy of the image with an ellipse around each face blurred past recognition.

    Args:
        image: The image in which the faces were found, as `images.read` takes it.
        faces: The faces to hide.
        margin: Added on each side, as a fraction of the box's width and height.
        strength: Radius of the blur as a fraction of the face's longer side.

    Raises:
        ImageError: If the image cannot be read, or is not of the faces' `image_size`.
    """
    from PIL import Image, ImageDraw, ImageFilter

    pixels = faces.read_image(image)
    out = pixels.copy()
    for x1, y1, x2, y2 in _regions(faces, margin):
        region = pixels[y1:y2, x1:x2]
        soft = Image.fromarray(region).filter(
            ImageFilter.GaussianBlur(max(1.0, strength * max(region.shape[:2])))
        )
        shape = Image.new("L", (x2 - x1, y2 - y1), 0)
        ImageDraw.Draw(shape).ellipse((0, 0, x2 - x1 - 1, y2 - y1 - 1), fill=255)
        inside = np.asarray(shape)[..., None] > 0
        out[y1:y2, x1:x2] = np.where(inside, np.asarray(soft), out[y1:y2, x1:x2])
    return out


def pixelate(
    image: Source, faces: Faces, *, margin: float = 0.1, blocks: int = 8
) -> NDArray[np.uint8]:
    """A copy of the image with each face in coarse blocks of its mean colors.

    Args:
        image: The image in which the faces were found, as `images.read` takes it.
        faces: The faces to hide.
        margin: Added on each side, as a fraction of the box's width and height.
        blocks: Blocks along the face's longer side.

    Raises:
        ImageError: If the image cannot be read, or is not of the faces' `image_size`.
    """
    from PIL import Image

    if blocks < 1:
        raise ValueError(f"blocks must be at least 1, got {blocks}")
    pixels = faces.read_image(image)
    out = pixels.copy()
    for x1, y1, x2, y2 in _regions(faces, margin):
        width, height = x2 - x1, y2 - y1
        step = max(1.0, max(width, height) / blocks)
        coarse = (max(1, round(width / step)), max(1, round(height / step)))
        small = Image.fromarray(pixels[y1:y2, x1:x2]).resize(coarse, Image.Resampling.BOX)
        large = small.resize((width, height), Image.Resampling.NEAREST)
        out[y1:y2, x1:x2] = np.asarray(large)
    return out


def fill(
    image: Source,
    faces: Faces,
    *,
    margin: float = 0.1,
    color: tuple[int, int, int] = (0, 0, 0),
) -> NDArray[np.uint8]:
    """A copy of the image with a rectangle of one color over each face: nothing of it is left.

    Args:
        image: The image in which the faces were found, as `images.read` takes it.
        faces: The faces to hide.
        margin: Added on each side, as a fraction of the box's width and height.
        color: The three channels of the rectangles, 0..255, in the image's channel order.

    Raises:
        ImageError: If the image cannot be read, or is not of the faces' `image_size`.
    """
    out = faces.read_image(image).copy()
    for x1, y1, x2, y2 in _regions(faces, margin):
        out[y1:y2, x1:x2] = color
    return out


def _regions(faces: Faces, margin: float) -> Iterator[tuple[int, int, int, int]]:
    """Corners of the whole-pixel regions that hold the faces, those without pixels skipped."""
    grown = box_math.to_pixels(box_math.expand(faces.boxes, margin), faces.image_size)
    for x1, y1, x2, y2 in grown.tolist():
        if x2 > x1 and y2 > y1:
            yield x1, y1, x2, y2
