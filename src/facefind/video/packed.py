"""The faces of all frames of a video, in little memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from facefind.faces import Faces

__all__ = ["Frame", "Packed"]

Frame = tuple[int, float, Faces]
"""Index of a frame, its time in seconds, and its faces."""


class Packed:
    """Frames with their faces, in their order: 20 bytes a face, 60 with landmarks, 32 a frame.

    Faces come back as they were appended, but for meshes and ids, which are not kept.

    Args:
        frames: To begin with.

    Raises:
        ValueError: Faces are not all of one image size; frames are not in their order.
    """

    def __init__(self, frames: Iterable[Frame] = ()) -> None:
        self.image_size: tuple[int, int] | None = None
        """(height, width) of all frames; None where there is none."""
        self._frames, self._times = array("q"), array("d")
        self._ends, self._point_ends = array("q", [0]), array("q", [0])
        self._boxes, self._scores, self._points = array("f"), array("f"), array("f")
        for frame, time, faces in frames:
            self.append(frame, time, faces)

    def append(self, frame: int, time: float, faces: Faces) -> None:
        """Add a frame behind the others.

        Raises:
            ValueError: The frame is not later than the last one, or has another size.
        """
        if len(self) and (frame <= self._frames[-1] or time < self._times[-1]):
            raise ValueError(
                f"frames must be in their order, got frame {frame} at {time} s after frame "
                f"{self._frames[-1]} at {self._times[-1]} s"
            )
        if self.image_size not in (None, faces.image_size):
            raise ValueError(
                f"frames must all be of one (height, width), got {faces.image_size} at frame "
                f"{frame} after {self.image_size}"
            )
        self.image_size = faces.image_size
        self._frames.append(frame)
        self._times.append(time)
        self._boxes.frombytes(faces.boxes.tobytes())
        self._scores.frombytes(faces.scores.tobytes())
        if faces.landmarks is not None:
            self._points.frombytes(faces.landmarks.tobytes())
        self._ends.append(len(self._scores))
        self._point_ends.append(len(self._points) // 10)

    def __len__(self) -> int:
        """How many frames there are."""
        return len(self._frames)

    def __iter__(self) -> Iterator[Frame]:
        """Each frame in turn."""
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, at: int) -> Frame:
        """The frame at a place among them."""
        assert self.image_size is not None
        rows = self.rows(at)
        first, last = self._point_ends[at : at + 2]
        points = self._points[10 * first : 10 * last] if last > first else None
        faces = Faces(
            np.array(self._boxes[4 * rows.start : 4 * rows.stop]).reshape(-1, 4),
            self._scores[rows],
            None if points is None else np.array(points).reshape(-1, 5, 2),
            image_size=self.image_size,
        )
        return self._frames[at], self._times[at], faces

    def rows(self, at: int) -> slice:
        """Which faces of all are those of the frame at a place, the first of them of best score."""
        return slice(self._ends[at], self._ends[at + 1])

    @property
    def frames(self) -> NDArray[np.int64]:
        """(F,) index of each frame."""
        return np.array(self._frames, np.int64)

    @property
    def times(self) -> NDArray[np.float64]:
        """(F,) seconds."""
        return np.array(self._times, np.float64)

    @property
    def places(self) -> NDArray[np.int64]:
        """(D,) place of each face's frame."""
        return np.repeat(np.arange(len(self)), np.diff(self._ends))

    @property
    def boxes(self) -> NDArray[np.float32]:
        """(D,4) xyxy of all faces."""
        return np.array(self._boxes, np.float32).reshape(-1, 4)

    @property
    def scores(self) -> NDArray[np.float32]:
        """(D,) of all faces."""
        return np.array(self._scores, np.float32)

    @property
    def landmarks(self) -> NDArray[np.float32] | None:
        """(D,5,2) of all faces, NaN of those that have none; None if no face has any."""
        if not self._points:
            return None
        counts = np.diff(self._ends)
        known = np.repeat(np.diff(self._point_ends) > 0, counts)
        points = np.full((len(known), 5, 2), np.nan, np.float32)
        points[known] = np.array(self._points).reshape(-1, 5, 2)
        return points
