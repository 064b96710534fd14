"""`tiles`: windows that cover a large image, so that small faces keep their pixels."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

from facefind.errors import ImageError

__all__ = ["Window", "tiles"]


class Window(NamedTuple):
    """A part of an image in whole pixels; `x2` and `y2` are the first pixels outside."""

    x1: int
    y1: int
    x2: int
    y2: int

    def cut(self, image: NDArray[Any]) -> NDArray[Any]:
        """The image's pixels inside the window, a view."""
        return image[self.y1 : self.y2, self.x1 : self.x2]


def tiles(
    image_size: tuple[int, int], size: int | tuple[int, int], overlap: int = 0
) -> list[Window]:
    """Windows of one size that together cover the image, row by row.

    Neighbors share at least `overlap` pixels, spread evenly; no window leaves the image. A side
    of the image that is shorter than the window's is covered by one window of that length.

    Args:
        image_size: (h, w) of the image.
        size: (h, w) of the windows, or the side of square ones.
        overlap: Least number of pixels that neighbors share: a face smaller than this is whole
            in one of them.

    Raises:
        ImageError: A side is less than 1, or `overlap` is not less than the window.
    """
    sides = (size, size) if isinstance(size, int) else size
    if min(image_size) < 1 or min(sides) < 1:
        raise ImageError(f"an image {image_size} cannot be cut into tiles {sides}: all must be > 0")
    if not 0 <= overlap < min(sides):
        raise ImageError(f"overlap must be 0 or more and less than the tile {sides}, got {overlap}")
    rows = _spans(image_size[0], sides[0], overlap)
    columns = _spans(image_size[1], sides[1], overlap)
    return [Window(x1, y1, x2, y2) for y1, y2 in rows for x1, x2 in columns]


def _spans(length: int, size: int, overlap: int) -> list[tuple[int, int]]:
    if length <= size:
        return [(0, length)]
    last = length - size  # where the last span starts
    steps = -(-last // (size - overlap))
    return [(start, start + size) for start in (last * i // steps for i in range(steps + 1))]
