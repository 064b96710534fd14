"""Where faces go that slip behind something."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facefind.video.motion import Motion

__all__ = ["WholeMotion"]

Floats = NDArray[np.float64]

_PART = 0.9  # of a face's width or height: a box below it shows a part
_LONGEST = 1.0  # seconds for which that is believed; after it, the face is taken to be so small
_SHRINK = 0.3  # a second, by which faces that go away grow smaller


class WholeMotion:
    """The motion of N faces, by those of their boxes that show all of them.

    Of a face that slips behind something, what is still seen is found: slower and smaller from
    frame to frame, until it would stand still as a line at the edge. Here such boxes are left out
    for a second: the face goes on as it went before, and is as large as it was.
    """

    def __init__(self) -> None:
        self._motion = Motion()
        self._sides = np.empty((0, 2))  # the greatest width and height of late
        self._found = np.empty(0)  # seconds since any box was found
        self._whole = np.empty(0)  # seconds since all of it was

    def add(self, boxes: NDArray[np.float32]) -> None:
        """Begin with boxes (M,4) xyxy that are new, behind those that are there."""
        self._motion.add(boxes)
        self._sides = np.concatenate([self._sides, _sides(boxes)])
        self._found = np.concatenate([self._found, np.zeros(len(boxes))])
        self._whole = np.concatenate([self._whole, np.zeros(len(boxes))])

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Forget all faces but those of a mask (N,)."""
        self._motion.keep(rows)
        self._sides, self._found, self._whole = (
            array[rows] for array in (self._sides, self._found, self._whole)
        )

    def advance(self, seconds: float) -> None:
        """Let time pass without a look at the faces."""
        self._motion.advance(seconds)
        self._found, self._whole = self._found + seconds, self._whole + seconds

    def boxes(self) -> Floats:
        """Boxes (N,4) xyxy that are expected now."""
        now = self._motion.after(0.0)
        centers = (now[:, :2] + now[:, 2:]) / 2
        return np.concatenate([centers - self._sides / 2, centers + self._sides / 2], axis=1)

    def correct(self, rows: NDArray[np.intp], boxes: NDArray[np.float32], motion: Motion) -> None:
        """Take in where some faces (M,) were found now, (M,4) xyxy.

        Args:
            rows: Of the faces.
            boxes: What was found of them.
            motion: Of the same N faces, by all boxes; those that stay small go on with it.
        """
        sides = _sides(boxes)
        small = (sides < _PART * self._sides[rows]).any(axis=1)
        late = self._whole[rows] > _LONGEST
        grown = late & small
        self._motion.take(rows[grown], motion)
        self._sides[rows[grown]] = 0
        whole = late | ~small
        self._motion.correct(rows[whole], boxes[whole])
        held = self._sides[rows] * np.exp(-_SHRINK * self._found[rows])[:, None]
        self._sides[rows] = np.maximum(held, sides)
        self._found[rows], self._whole[rows[whole]] = 0, 0

    def lead(self, rows: NDArray[np.intp], motion: Motion) -> None:
        """Have a motion of the same N faces go on as this one, for some of them (M,)."""
        motion.take(rows, self._motion, self.boxes()[rows])


def _sides(boxes: NDArray[np.float32]) -> Floats:
    return (boxes[:, 2:] - boxes[:, :2]).astype(np.float64)
