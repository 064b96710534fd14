"""How a video's frames are turned before they are shown, and back."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["UPRIGHT", "Turn"]


class Turn(NamedTuple):
    """One of the eight ways to lay a stored frame upright; the default leaves it as it is."""

    swap: bool = False
    """Whether rows become columns, before all else."""
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def of_matrix(cls, matrix: ArrayLike) -> Turn:
        """The turn of a display matrix (9,) of int32, as MP4 files and FFmpeg have it.

        Angles between quarter turns, which no camera writes, count as none.
        """
        a, b, _, c, d = np.asarray(matrix).reshape(9)[:5].tolist()
        if a == d == 0 and b and c:
            return cls(True, c < 0, b < 0)
        if b == c == 0 and a and d:
            return cls(False, a < 0, d < 0)
        return cls()

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The upright (h, w) of a stored one, and the other way round."""
        return (size[1], size[0]) if self.swap else size

    def upright(self, stored: NDArray[Any]) -> NDArray[Any]:
        """A stored image (H,W,...) upright, contiguous; the same one where nothing is turned."""
        out = stored.swapaxes(0, 1) if self.swap else stored
        return np.ascontiguousarray(self._flipped(out))

    def stored(self, upright: NDArray[Any]) -> NDArray[Any]:
        """An upright image (H,W,...) as it is stored, contiguous."""
        out = self._flipped(upright)
        return np.ascontiguousarray(out.swapaxes(0, 1) if self.swap else out)

    def stored_boxes(self, boxes: ArrayLike, size: tuple[int, int]) -> NDArray[np.float64]:
        """Boxes xyxy (N,4) of the upright image of (h, w) as boxes of the stored one."""
        x1, y1, x2, y2 = np.asarray(boxes, np.float64).reshape(-1, 4).T
        if self.flip_x:
            x1, x2 = size[1] - x2, size[1] - x1
        if self.flip_y:
            y1, y2 = size[0] - y2, size[0] - y1
        return np.stack([y1, x1, y2, x2] if self.swap else [x1, y1, x2, y2], axis=1)

    def _flipped(self, image: NDArray[Any]) -> NDArray[Any]:
        return image[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


UPRIGHT = Turn()
