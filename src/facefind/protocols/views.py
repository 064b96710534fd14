"""One run of a model over an image: what of it lies on the canvas, at which size, and where."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facefind.images import Placement, Window, letterbox, resize

__all__ = ["View"]


class View(NamedTuple):
    """What the model is run on at one time: the image or a part of it, at a size."""

    size: tuple[int, int]
    """(height, width) to which the image, or the window, is resized."""
    mirrored: bool = False
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

        Of a mirrored view the placement is that of the mirrored window: x counts from its right.

        Args:
            image: (h, w, 3) uint8.
            canvas: (H, W) of the canvas; None takes the least multiples that hold the view, or the
                least square of them.
            multiple: What H and W are multiples of where no canvas is given.
        """
        if canvas is None and self.square:
            longer = max(self.size[0] + self.shift[0], self.size[1] + self.shift[1])
            canvas = (-(-longer // multiple) * multiple,) * 2
        if self.window is None and not self.mirrored and self.shift == (0, 0):
            return letterbox(image, self.size, canvas, multiple=multiple)
        part = image if self.window is None else self.window.cut(image)
        pixels = resize(part, self.size)
        if self.mirrored:
            pixels = pixels[:, ::-1]
        down, right = self.shift
        if down or right:
            pixels = np.pad(pixels, ((down, 0), (right, 0), (0, 0)), constant_values=127)
        drawn, _ = letterbox(pixels, canvas=canvas, multiple=multiple)
        scale_y, scale_x = self.size[0] / part.shape[0], self.size[1] / part.shape[1]
        x1, y1 = (0, 0) if self.window is None else self.window[:2]
        return drawn, Placement(
            scale_x,
            scale_y,
            (image.shape[0], image.shape[1]),
            (drawn.shape[0], drawn.shape[1]),
            x1 - right / scale_x,
            y1 - down / scale_y,
        )
