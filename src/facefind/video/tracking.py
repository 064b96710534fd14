"""Faces followed from frame to frame: `Tracker` gives each its number."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from facefind import boxes as box_math
from facefind.faces import Faces
from facefind.video.cuts import CutDetector
from facefind.video.hidden import WholeMotion
from facefind.video.motion import Motion

__all__ = ["Tracker", "TrackerConfig", "with_ids"]

_RATIO = 1.6  # of the sides of what can be one face: the one behind it is smaller


@dataclass(frozen=True, kw_only=True)
class TrackerConfig:
    """Settings of a `Tracker`; chosen on the scenes of `benchmarks/tracking.py`."""

    min_score: float = 0.5
    """Score from which a face begins a track: the detector's own threshold."""
    low_score: float = 0.15
    """Score from which a face can go on with a track, where no better one does."""
    min_iou: float = 0.1
    """IoU of the expected and the detected box from which they can be one face, both grown."""
    low_min_iou: float = 0.5
    """The same for faces below `min_score`, many of which are none."""
    reach: float = 0.4
    """How much both boxes grow before they are compared, on each side, in sides of the box: faces
    are small, and move by more than their size between the frames of a slow video."""
    keep: float = 2.0
    """Seconds for which a face that is not found can be found again under its number. However long
    frames take, it is looked for in two of them."""
    hits: int = 1
    """Frames in which a face must have been found before `Tracker.update` returns it."""
    frame_rate: float = 25.0
    """Frames a second where `Tracker.update` is given no times."""

    def __post_init__(self) -> None:
        for name in ("min_score", "low_score", "min_iou", "low_min_iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {getattr(self, name)}")
        if self.low_score > self.min_score:
            raise ValueError(
                f"low_score must be at most min_score {self.min_score}, got {self.low_score}"
            )
        for name in ("reach", "keep"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.hits < 1:
            raise ValueError(f"hits must be at least 1, got {self.hits}")
        if not self.frame_rate > 0:
            raise ValueError(f"frame_rate must be above 0, got {self.frame_rate}")


@dataclass
class _Tracks:
    """What is known of N tracks beside their motion, an array for each property."""

    ids: NDArray[np.int64]
    """Numbers; 0 for a track that has not been found often enough."""
    hits: NDArray[np.int64]
    seen: NDArray[np.float64]
    """When they were last found."""
    missed: NDArray[np.int64]
    """In how many frames they have not been found since."""
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64]
    landmarks: NDArray[np.float64]
    """Of the last detection, as are scores and boxes; NaN where it had none."""

    @classmethod
    def new(cls, faces: Faces, time: float) -> _Tracks:
        count = len(faces)
        zeros = np.zeros(count, np.int64)
        points = np.full((count, 5, 2), np.nan)
        none = cls(zeros, zeros + 0, np.full(count, time), zeros + 0, np.zeros(count),
                   np.zeros((count, 4)), points)  # fmt: skip
        none.found(np.arange(count), faces, time)
        return none

    def found(self, rows: NDArray[np.intp], faces: Faces, time: float) -> None:
        """Take in the faces (M) that go on with some rows (M,)."""
        self.hits[rows] += 1
        self.seen[rows], self.missed[rows] = time, 0
        self.scores[rows], self.boxes[rows] = faces.scores, faces.boxes
        self.landmarks[rows] = np.nan if faces.landmarks is None else faces.landmarks

    def select(self, rows: NDArray[np.bool_]) -> _Tracks:
        return _Tracks(*(getattr(self, field.name)[rows] for field in fields(self)))

    def and_(self, others: _Tracks) -> _Tracks:
        pairs = ((getattr(self, f.name), getattr(others, f.name)) for f in fields(self))
        return _Tracks(*(np.concatenate(pair) for pair in pairs))


class Tracker:
    """Gives the faces of a video their numbers, frame after frame.

    >>> tracker = Tracker(TrackerConfig(min_score=detector.min_score))
    >>> faces = tracker.update(detector.detect(frame), frame, time)
    >>> faces.ids

    Each frame's faces are assigned to the tracks by how much they overlap the boxes that `Motion`
    expects: first the faces from `min_score`, then, to the tracks that are left, those from
    `low_score`: a face that turns away or is half hidden keeps its track, while what the detector
    doubts begins none. A detector that is to give these must have a `min_score` as low. Last come
    faces from `min_score` that are where a lost one would be had it gone on as `WholeMotion` says:
    those that pass behind something.

    The same input always gives the same numbers, 1 and up, in the order in which faces are found
    (in one frame: by falling score).

    Source: ByteTrack (arXiv:2110.06864), algorithm 1.
    Differs: boxes grow before they are compared, as in C-BIoU (arXiv:2211.14317); faces that were
    hidden have a third comparison; a track is confirmed by `hits` frames that need not follow each
    other; time is in seconds.
    """

    def __init__(self, config: TrackerConfig | None = None) -> None:
        self.config = config or TrackerConfig()
        self.time: float | None = None
        """Time of the last frame; None before the first one."""
        self.cut = False
        """Whether the last frame began a new scene."""
        self._image_size = (0, 0)
        self._next = 1
        self._cuts = CutDetector()
        self._motion, self._whole = Motion(), WholeMotion()
        self._tracks: _Tracks = _Tracks.new(Faces.empty((0, 0)), 0.0)

    def update(
        self,
        faces: Faces,
        image: NDArray[np.uint8] | None = None,
        time: float | None = None,
        *,
        cut: bool | None = None,
    ) -> Faces:
        """The faces of the next frame that belong to tracks, with their `ids`.

        These are all faces from `min_score` (once found in `hits` frames), and those of a score
        between `low_score` and it that go on with a track: as they were detected, with their own
        box and (low) score. Other faces of low score are left out.

        Args:
            faces: What was detected in the frame, down to `low_score`.
            image: The frame (H,W,3) uint8, in which cuts are seen; at a cut all tracks end.
            time: Of the frame, in seconds; None is one frame after the last, at `frame_rate`.
            cut: Whether the frame begins a new scene, if that is known; `image` is then not used.

        Raises:
            ValueError: `time` is before the last frame's, or not finite.
        """
        return with_ids(faces, self.assign(faces, image, time, cut=cut))

    def assign(
        self,
        faces: Faces,
        image: NDArray[np.uint8] | None = None,
        time: float | None = None,
        *,
        cut: bool | None = None,
    ) -> NDArray[np.int64]:
        """The ids (N,) of all faces of the next frame: 0 for those that `update` leaves out."""
        now = self._next_time(time)
        self._see_cut(image, cut)
        if faces.image_size != self._image_size:
            self._end_all()
            self._image_size = faces.image_size
        for motion in (self._motion, self._whole):
            motion.advance(0.0 if self.time is None else now - self.time)
        self.time = now
        high = faces.scores >= self.config.min_score
        low = ~high & (faces.scores >= self.config.low_score)
        rows = np.full(len(faces), -1, np.intp)  # the track of each face
        expected, whole = self._motion.after(0.0), self._whole.boxes()
        for mask, boxes, min_iou in (
            (high, expected, self.config.min_iou),
            (low, expected, self.config.low_min_iou),
            (high, whole, self.config.min_iou),
        ):
            some = np.flatnonzero(mask & (rows < 0))
            free = np.setdiff1d(np.arange(len(boxes)), rows)
            ours, theirs = self._match(boxes[free], faces.boxes[some], min_iou)
            rows[some[theirs]] = free[ours]
            if boxes is whole:
                self._whole.lead(free[ours], self._motion)
        self._tracks.missed += 1
        old = rows >= 0
        self._motion.correct(rows[old], faces.boxes[old])
        self._whole.correct(rows[old], faces.boxes[old], self._motion)
        self._tracks.found(rows[old], faces[old], now)
        new = high & ~old
        rows[new] = len(self._motion) + np.arange(new.sum())
        self._motion.add(faces.boxes[new])
        self._whole.add(faces.boxes[new])
        self._tracks = self._tracks.and_(_Tracks.new(faces[new], now))
        ids = self._numbers(rows)
        self._forget()
        return ids

    def predict(self, time: float, image: NDArray[np.uint8] | None = None) -> Faces:
        """Where the faces of the last frame are expected at a time, with ids and last scores.

        For frames in which no faces are detected. Faces that would lie outside the image are left
        out, meshes too. With `image`, cuts are seen as by `update`: after one there is no face.

        Raises:
            ValueError: `time` is before the last frame's, or not finite.
        """
        later = self._next_time(time) - (self.time or 0.0)
        if image is not None:
            self._see_cut(image, None)
        known = (self._tracks.missed == 0) & (self._tracks.ids > 0)
        boxes, tracks = self._motion.after(later)[known], self._tracks.select(known)
        inside = box_math.area(box_math.clip(boxes, self._image_size)) > 0
        boxes, tracks = boxes[inside], tracks.select(inside)
        landmarks = _moved(tracks.landmarks, tracks.boxes, boxes)
        points = landmarks if len(boxes) and np.isfinite(landmarks).all() else None
        return Faces(boxes, tracks.scores, points, None, tracks.ids, image_size=self._image_size)

    def _next_time(self, time: float | None) -> float:
        last = self.time
        if time is None:
            return 0.0 if last is None else last + 1 / self.config.frame_rate
        if not np.isfinite(time) or (last is not None and time < last):
            raise ValueError(f"time must be a number of seconds from {last} on, got {time}")
        return float(time)

    def _see_cut(self, image: NDArray[np.uint8] | None, cut: bool | None) -> None:
        if cut is None:
            cut = image is not None and self._cuts.is_cut(image)
        self.cut = cut
        if cut:
            self._end_all()

    def _end_all(self) -> None:
        self._motion, self._whole = Motion(), WholeMotion()
        self._tracks = _Tracks.new(Faces.empty(self._image_size), 0.0)

    def _match(
        self, expected: NDArray[np.float64], boxes: NDArray[np.float32], min_iou: float
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Pairs of a row of expected boxes (M,4) and one of boxes (N,4), of greatest IoU in all."""
        if not (len(expected) and len(boxes)):
            return np.empty(0, np.intp), np.empty(0, np.intp)
        from scipy.optimize import linear_sum_assignment

        reach = self.config.reach
        table = box_math.iou(box_math.expand(expected, reach), box_math.expand(boxes, reach))
        areas = np.maximum(box_math.area(expected), 1e-9)[:, None], box_math.area(boxes)
        like = np.maximum(areas[0], areas[1]) <= _RATIO**2 * np.minimum(areas[0], areas[1])
        table[~like | (table < max(min_iou, 1e-9))] = 0
        ours, theirs = linear_sum_assignment(table, maximize=True)
        some = table[ours, theirs] > 0
        return ours[some], theirs[some]

    def _numbers(self, rows: NDArray[np.intp]) -> NDArray[np.int64]:
        """The numbers of tracks, of row -1 and of those not found often enough yet: 0."""
        tracks = self._tracks
        known = rows >= 0
        known[known] = tracks.hits[rows[known]] >= self.config.hits
        for row in rows[known]:
            if not tracks.ids[row]:
                tracks.ids[row] = self._next
                self._next += 1
        ids = np.zeros(len(rows), np.int64)
        ids[known] = tracks.ids[rows[known]]
        return ids

    def _forget(self) -> None:
        assert self.time is not None
        tracks = self._tracks
        alive = (self.time - tracks.seen <= self.config.keep) | (tracks.missed <= 2)
        self._tracks = tracks.select(alive)
        self._motion.keep(alive)
        self._whole.keep(alive)


def with_ids(faces: Faces, ids: NDArray[np.int64]) -> Faces:
    """The faces whose id of `ids` (N,) is above 0, with these ids."""
    faces, ids = faces[ids > 0], ids[ids > 0]
    return Faces(
        faces.boxes, faces.scores, faces.landmarks, faces.mesh, ids, image_size=faces.image_size
    )


def _moved(
    landmarks: NDArray[np.float64], before: NDArray[np.float64], after: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Landmarks (N,5,2) carried from boxes (N,4) to others, in proportion."""
    size = np.maximum(before[:, None, 2:] - before[:, None, :2], 1e-9)
    return np.asarray(
        (landmarks - before[:, None, :2]) / size * (after[:, None, 2:] - after[:, None, :2])
        + after[:, None, :2]
    )
