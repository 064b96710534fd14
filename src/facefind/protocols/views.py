"""One run of a model over an image: what of it lies on the canvas, at which size, and where."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facefind.images import Placement, Window, letterbox, resize

__all__ = ["View"]


class View(NamedTuple):
    """What the model is run on at one time: the image or a part of it, at a size."""

    size: tuple[int, int]
    """(height, width) to which the image, or the window, is resized."""
    turns: int = 0
    """Quarter turns to the left by which the image, or the window, is turned: 0 to 3."""
    mirrored: bool = False
    """Whether it is then mirrored, left to right."""
    shift: tuple[int, int] = (0, 0)
    """Pixels of the resized image by which it is shifted (down, right)."""
    window: Window | None = None
    """The part of the image; None for all of it."""
    min_size: float | None = None
    """As of Pass."""
    max_size: float | None = None
    """As of Pass."""
    tile_max_size: float | None = None
    """Keep only faces whose longer side is at most so many of the image's pixels, and only where
    the window's edges that lie inside the image are at least half as far from the center."""
    square: bool = False
    """As of Pass."""

    def render(
        self, image: NDArray[np.uint8], canvas: tuple[int, int] | None, multiple: int
    ) -> tuple[NDArray[np.uint8], Placement]:
        """The canvas (H, W, 3) with what the view shows of an image, and where that lies.

        The placement's x and y are those of the part as it is seen, for `restored` to take to the
        image where that is turned or mirrored.

        Args:
            image: (h, w, 3) uint8.
            canvas: (H, W) of the canvas; None takes the least multiples that hold the view, or the
                least square of them.
            multiple: What H and W are multiples of where no canvas is given.
        """
        height, width = self._as_seen(self.size)
        down, right = self.shift
        if canvas is None and self.square:
            longer = max(height + down, width + right)
            canvas = (-(-longer // multiple) * multiple,) * 2
        if self.window is None and self.is_unchanged and self.shift == (0, 0):
            return letterbox(image, self.size, canvas, multiple=multiple)
        part = image if self.window is None else self.window.cut(image)
        pixels = np.rot90(resize(part, self.size), self.turns)
        if self.mirrored:
            pixels = pixels[:, ::-1]
        if down or right:
            pixels = np.pad(pixels, ((down, 0), (right, 0), (0, 0)), constant_values=127)
        drawn, _ = letterbox(pixels, canvas=canvas, multiple=multiple)
        part_height, part_width = self._as_seen(part.shape)
        scale_y, scale_x = height / part_height, width / part_width
        x1, y1 = self.window[:2] if self.window is not None and self.is_unchanged else (0, 0)
        return drawn, Placement(
            scale_x,
            scale_y,
            (image.shape[0], image.shape[1]),
            (drawn.shape[0], drawn.shape[1]),
            x1 - right / scale_x,
            y1 - down / scale_y,
        )

    @property
    def is_unchanged(self) -> bool:
        """Whether the image is neither turned nor mirrored."""
        return not (self.turns or self.mirrored)

    def restored(self, points: NDArray[Any], image_size: tuple[int, int]) -> NDArray[Any]:
        """Points (...,2) x, y in pixels of the image.

        Args:
            points: as the placement gives them.
            image_size: (height, width) of the image.
        """
        if self.is_unchanged:
            return points
        x1, y1, x2, y2 = self.window or Window(0, 0, image_size[1], image_size[0])
        x, y = points[..., 0], points[..., 1]
        if self.mirrored:
            x = self._as_seen((y2 - y1, x2 - x1))[1] - x
        x, y = ((x1 + x, y1 + y), (x2 - y, y1 + x), (x2 - x, y2 - y), (x1 + y, y2 - x))[self.turns]
        return np.stack([x, y], -1)

    def _as_seen(self, size: tuple[int, ...]) -> tuple[int, int]:
        """The (height, width) of a part of a size (height, width, ...), once it is turned."""
        return (size[1], size[0]) if self.turns % 2 else (size[0], size[1])
