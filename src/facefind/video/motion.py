"""Where boxes go: a Kalman filter of constant velocity for each coordinate of each box."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facefind import boxes as box_math

__all__ = ["Motion"]

Floats = NDArray[np.float64]

# Standard deviations in sides of the face (the root of its area), for center x, center y, width,
# height. On the simulated scenes of `benchmarks/tracking.py`, three times more or less of the first
# or of the last give more switches, or a lower IDF1.
_MEASURED = np.array([0.06, 0.06, 0.08, 0.08])  # of a detected box
_VELOCITY = np.array([3.0, 3.0, 1.0, 1.0])  # a second: of a face that is new
_CHANGE = np.array([4.0, 4.0, 0.5, 0.5])  # a second, by a second: how velocities change


class Motion:
    """The motion of N boxes, estimated from where they were seen.

    Center, width and height move at a velocity of their own each, so the filter of a coordinate
    has two states, and all of them are updated together. Sizes of the noise follow the size of the
    face: a face twice as near moves twice as many pixels.

    Differs: ByteTrack filters aspect ratio and height, in steps of one frame; here steps have the
    length of the time between frames, so that frames may be missing or come at any rate.

    Source: ByteTrack (arXiv:2110.06864), sec. 3, after SORT (arXiv:1602.00763), sec. 3.2.
    """

    def __init__(self) -> None:
        self._place = np.empty((0, 4))
        self._speed = np.empty((0, 4))
        self._spread = np.empty((3, 0, 4))  # variances of place, of both, of speed

    def __len__(self) -> int:
        """How many boxes there are."""
        return len(self._place)

    def add(self, boxes: ArrayLike) -> None:
        """Begin with boxes (M,4) xyxy that are new, behind those that are there."""
        place = _cxcywh(boxes)
        side = _side(place)
        spread = np.stack(
            [(_MEASURED * side) ** 2, np.zeros_like(place), (_VELOCITY * side) ** 2],
        )
        self._place = np.concatenate([self._place, place])
        self._speed = np.concatenate([self._speed, np.zeros_like(place)])
        self._spread = np.concatenate([self._spread, spread], axis=1)

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Forget all boxes but those of a mask (N,)."""
        self._place, self._speed = self._place[rows], self._speed[rows]
        self._spread = self._spread[:, rows]

    def take(
        self, rows: NDArray[np.intp], other: Motion, boxes: NDArray[np.float64] | None = None
    ) -> None:
        """Go on, for some rows (M,), as another motion has them; at boxes (M,4) of steady size."""
        self._place[rows], self._speed[rows] = other._place[rows], other._speed[rows]
        self._spread[:, rows] = other._spread[:, rows]
        if boxes is not None:
            self._place[rows], self._speed[rows, 2:] = _cxcywh(boxes), 0

    def after(self, seconds: float) -> Floats:
        """Boxes (N,4) xyxy expected so much later; sides are at least a hundredth of a pixel."""
        place = self._place + seconds * self._speed
        place[:, 2:] = np.maximum(place[:, 2:], 0.01)
        return np.asarray(box_math.from_cxcywh(place), np.float64)

    def advance(self, seconds: float) -> None:
        """Let time pass without a look at the boxes."""
        change = (_CHANGE * _side(self._place)) ** 2
        place, both, speed = self._spread
        self._place = _cxcywh(self.after(seconds))
        self._spread = np.stack(
            [
                place + seconds * (2 * both + seconds * (speed + change * seconds / 3)),
                both + seconds * (speed + change * seconds / 2),
                speed + change * seconds,
            ]
        )

    def correct(self, rows: NDArray[np.intp], boxes: ArrayLike) -> None:
        """Take in where the boxes of some rows (M,) were seen now, (M,4) xyxy."""
        seen = _cxcywh(boxes)
        place, both, speed = self._spread[:, rows]
        total = place + (_MEASURED * _side(seen)) ** 2
        off = seen - self._place[rows]
        self._place[rows] += place / total * off
        self._speed[rows] += both / total * off
        self._spread[:, rows] = np.stack(
            [place - place**2 / total, both - place * both / total, speed - both**2 / total]
        )


def _cxcywh(boxes: ArrayLike) -> Floats:
    return np.asarray(box_math.to_cxcywh(np.asarray(boxes, np.float64)), np.float64)


def _side(cxcywh: Floats) -> Floats:
    return np.sqrt(np.maximum(cxcywh[:, 2:3] * cxcywh[:, 3:4], 1e-4))
