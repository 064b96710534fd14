"""The tracks of a video, each a face through its frames, and how they are made without gaps."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from facefind import boxes as box_math
from facefind.faces import Faces
from facefind.video.packed import Frame, Packed

__all__ = ["Frame", "Track", "Tracks", "filled", "joined", "numbered", "tracks_of"]

Floats = NDArray[np.float64]

FIT = 0.4
"""Seconds of a track that say how fast it is at its end."""
_LEAST = 5  # detections that say it, where there are as many
_DOUBT = (0.05 / 2) ** 2  # how far boxes are off, over how fast faces are, in sides: seconds
_RATIO = 1.5  # of the sides of what can be one face


@dataclass(frozen=True, eq=False)
class Track:
    """One face in the frames in which it is known, F of them in rising order."""

    id: int
    frames: NDArray[np.int64]
    """(F,) indices."""
    times: Floats
    """(F,) seconds."""
    boxes: Floats
    """(F,4) xyxy."""
    scores: Floats
    """(F,); where the face was not detected, the lowest of the detections next to it."""
    landmarks: Floats | None
    """(F,5,2); None if any detection had none."""
    detected: NDArray[np.bool_]
    """(F,) whether the face was detected there, or filled in."""

    def __len__(self) -> int:
        """In how many frames the face is known."""
        return len(self.frames)


@dataclass(frozen=True, eq=False)
class Tracks:
    """The tracks of a video by rising id, and all its frames, those without a face too."""

    tracks: tuple[Track, ...]
    frames: NDArray[np.int64]
    """(F,) index of each frame, in rising order."""
    times: Floats
    """(F,) seconds, never falling."""
    image_size: tuple[int, int]
    """(height, width) of the frames."""
    cuts: tuple[int, ...] = ()
    """Frames that begin a new scene."""

    def __len__(self) -> int:
        """How many tracks there are."""
        return len(self.tracks)

    def __iter__(self) -> Iterator[Track]:
        """Each track in turn."""
        return iter(self.tracks)

    def at(self, frame: int) -> Faces:
        """The faces of a frame with their ids, detected and filled in."""
        frames, which, rows = self._places
        low, high = np.searchsorted(frames, [frame, frame + 1])
        found = [(self.tracks[which[at]], rows[at]) for at in range(low, high)]
        points = [one.landmarks[row] for one, row in found if one.landmarks is not None]
        return Faces(
            [one.boxes[row] for one, row in found],
            [one.scores[row] for one, row in found],
            points if found and len(points) == len(found) else None,
            ids=np.array([one.id for one, _ in found], np.int64),
            image_size=self.image_size,
        )

    def faces(self) -> Iterator[Frame]:
        """Index, time and faces of every frame."""
        for frame, time in zip(self.frames.tolist(), self.times.tolist(), strict=True):
            yield frame, time, self.at(frame)

    @cached_property
    def _places(self) -> tuple[NDArray[np.int64], ...]:
        """Frame, track and row in the track of each face, by frame."""
        none = np.empty(0, np.int64)
        frames = np.concatenate([none, *(one.frames for one in self.tracks)])
        which = np.repeat(np.arange(len(self)), [len(one) for one in self.tracks])
        rows = np.concatenate([none, *(np.arange(len(one)) for one in self.tracks)])
        order = np.argsort(frames, kind="stable")
        return frames[order], which[order], rows[order]


def tracks_of(
    frames: Iterable[Frame], *, min_detections: int = 1, cuts: Collection[int] = ()
) -> Tracks:
    """The tracks of frames whose faces have ids, as `Tracker.update` returns them.

    Args:
        frames: All frames of a video in their order, those without a face too.
        min_detections: Tracks that were detected in fewer frames are left out.
        cuts: Indices of frames that begin a new scene.

    Raises:
        ValueError: Faces have no ids, or not all one image size; frames are not in their order.
    """
    packed, numbers = Packed(), array("q")
    for frame, time, faces in frames:
        if faces.ids is None and len(faces):
            raise ValueError(f"the faces of frame {frame} have no ids: Tracker.update gives them")
        packed.append(frame, time, faces)
        numbers.extend([] if faces.ids is None else faces.ids.tolist())
    ids = np.array(numbers, np.int64)
    return numbered(packed, ids, min_detections=min_detections, cuts=cuts)


def numbered(
    packed: Packed, ids: NDArray[np.int64], *, min_detections: int = 1, cuts: Collection[int] = ()
) -> Tracks:
    """As `tracks_of`, by the ids (D,) of all faces; those of 0 belong to no track."""
    order = np.argsort(ids, kind="stable")
    order = order[np.searchsorted(ids[order], 1) :]
    starts = np.flatnonzero(np.diff(ids[order])) + 1
    frames, times, places = packed.frames, packed.times, packed.places
    boxes, scores, points = packed.boxes, packed.scores, packed.landmarks
    tracks = [
        Track(
            int(ids[rows[0]]),
            frames[places[rows]],
            times[places[rows]],
            boxes[rows].astype(np.float64),
            scores[rows].astype(np.float64),
            None if points is None or np.isnan(points[rows]).any() else points[rows].astype(float),
            np.ones(len(rows), bool),
        )
        for rows in (np.split(order, starts) if len(order) else [])
        if len(rows) >= min_detections
    ]
    return Tracks(tuple(tracks), frames, times, packed.image_size or (0, 0), tuple(sorted(cuts)))


def joined(tracks: Tracks, *, most_gap: float = 2.0, reach: float = 1.0) -> Tracks:
    """The tracks, with those made one that look like one face which was lost and found again.

    A track goes on in another that begins at most `most_gap` seconds after its end, in the same
    scene, if their faces are of about one size (a ratio of at most 1.5), and if, in the middle of
    the gap, the two places to which they lead by their speed are at most `reach` sides of the face
    apart. The closest pairs are joined first. The joined track has the lower id.
    """
    after = followers(tracks, most_gap=most_gap, reach=reach)
    by_id = {one.id: one for one in tracks}
    merged = []
    for first in sorted(by_id.keys() - after.values()):
        chain = [by_id[first]]
        while chain[-1].id in after:
            chain.append(by_id[after[chain[-1].id]])
        merged.append(_chained(chain))
    return replace(tracks, tracks=tuple(sorted(merged, key=lambda one: one.id)))


def followers(tracks: Tracks, *, most_gap: float, reach: float = 1.0) -> dict[int, int]:
    """For the id of each track that goes on in another, by the rules of `joined`, that one's id."""
    begins = sorted(tracks, key=lambda one: float(one.times[0]))
    starts = [float(one.times[0]) for one in begins]
    pairs = []
    for one in tracks:
        end = float(one.times[-1])
        for other in begins[bisect_left(starts, end) : bisect_right(starts, end + most_gap)]:
            in_scene = not any(one.frames[-1] < cut <= other.frames[0] for cut in tracks.cuts)
            if one.frames[-1] < other.frames[0] and in_scene:
                far = _apart(one, other)
                if far <= reach:
                    pairs.append((far, one.id, other.id))
    after: dict[int, int] = {}
    for _, first, second in sorted(pairs):
        if first not in after and second not in after.values():
            after[first] = second
    return after


def filled(
    tracks: Tracks, *, lead: float = 1.0, most_gap: float = 2.0, grow: float = 0.5
) -> Tracks:
    """The tracks, joined, with a box in every frame between the first and last, and beyond.

    What a redaction needs that hides a face before it is found, while it is missed, and after it
    is lost. Tracks are made one by `joined`. Where a face is detected, its box holds also where the
    detections just before and after would have it: of a face that is half hidden only a part may
    be found. Gaps get boxes and landmarks on a line between the detections beside them. Before the
    first and after the last detection a face goes on at its speed there, for `lead` seconds, or
    until the scene ends or it has left the image.

    Args:
        tracks: What `track` or `tracks_of` returned.
        lead: Seconds that are added before each track and after it, and on both sides of a gap
            that is too long to be filled.
        most_gap: Longest time between two detections of a face, in seconds, that is filled.
        grow: By how much of its sides a box grows on each side for each second between it and the
            nearest detection, as the face may have moved otherwise.

    Raises:
        ValueError: A setting is below 0.
    """
    for name, value in {"lead": lead, "most_gap": most_gap, "grow": grow}.items():
        if not value >= 0:
            raise ValueError(f"{name} must be at least 0, got {value}")
    tracks = joined(tracks, most_gap=most_gap)
    return replace(
        tracks, tracks=tuple(_filled(one, tracks, lead, most_gap, grow) for one in tracks)
    )


def _chained(tracks: Sequence[Track]) -> Track:
    """Tracks that follow each other, as one with the first one's lowest id."""
    if len(tracks) == 1:
        return tracks[0]
    points = [one.landmarks for one in tracks if one.landmarks is not None]
    return Track(
        min(one.id for one in tracks),
        np.concatenate([one.frames for one in tracks]),
        np.concatenate([one.times for one in tracks]),
        np.concatenate([one.boxes for one in tracks]),
        np.concatenate([one.scores for one in tracks]),
        np.concatenate(points) if len(points) == len(tracks) else None,
        np.concatenate([one.detected for one in tracks]),
    )


def _filled(one: Track, tracks: Tracks, lead: float, most_gap: float, grow: float) -> Track:
    times = tracks.times
    known = np.searchsorted(tracks.frames, one.frames)  # places of its frames among all
    pieces = np.split(np.arange(len(one)), np.flatnonzero(np.diff(one.times) > most_gap) + 1)
    cuts = np.searchsorted(tracks.frames, tracks.cuts)
    at, boxes, scores, landmarks = [], [], [], []
    for number, rows in enumerate(pieces):
        piece = _part(one, rows)
        piece = replace(piece, boxes=_steadied(piece))
        first, last = known[rows[0]], known[rows[-1]]
        scene = np.searchsorted(cuts, first, side="right")
        low, high = (cuts[scene - 1] if scene else 0), np.append(cuts, len(times))[scene]
        low = max(low, np.searchsorted(times, piece.times[0] - lead - 1e-9))
        high = min(high, np.searchsorted(times, piece.times[-1] + lead + 1e-9))
        if number:  # between two pieces, each gets its half
            low = max(low, (known[rows[0] - 1] + first) // 2 + 1)
        if number + 1 < len(pieces):
            high = min(high, (known[rows[-1] + 1] + last) // 2 + 1)
        here = np.arange(min(low, first), max(high, last + 1))
        off = _drift(piece, times[here])
        box = _between(times[here], piece.times, piece.boxes) + np.tile(off, 2)
        near = _nearest(times[here], piece.times)[:, None]
        box += np.tile(grow * near * (box[:, 2:] - box[:, :2]), 2) * [-1, -1, 1, 1]
        inside = box_math.area(box_math.clip(box, tracks.image_size)) > 0
        inside |= (here >= first) & (here <= last)
        at.append(here[inside])
        boxes.append(box[inside])
        scores.append(_lowest(times[here][inside], piece))
        if piece.landmarks is not None:
            points = _between(times[here], piece.times, piece.landmarks.reshape(-1, 10))
            landmarks.append((points + np.tile(off, 5))[inside].reshape(-1, 5, 2))
    places = np.concatenate(at)
    return Track(
        one.id,
        tracks.frames[places],
        times[places],
        np.concatenate(boxes),
        np.concatenate(scores),
        np.concatenate(landmarks) if landmarks else None,
        np.isin(tracks.frames[places], one.frames[one.detected]),
    )


def _part(one: Track, rows: NDArray[np.intp]) -> Track:
    points = None if one.landmarks is None else one.landmarks[rows]
    return Track(
        one.id,
        one.frames[rows],
        one.times[rows],
        one.boxes[rows],
        one.scores[rows],
        points,
        one.detected[rows],
    )


def _steadied(one: Track) -> Floats:
    """Boxes (F,4) that hold each detection and its place on a line between those beside it."""
    boxes, times = one.boxes.copy(), one.times
    if len(one) > 2:
        whole = np.maximum(times[2:] - times[:-2], 1e-9)[:, None]
        line = one.boxes[:-2] + (times[1:-1] - times[:-2])[:, None] / whole * (
            one.boxes[2:] - one.boxes[:-2]
        )
        boxes[1:-1, :2] = np.minimum(boxes[1:-1, :2], line[:, :2])
        boxes[1:-1, 2:] = np.maximum(boxes[1:-1, 2:], line[:, 2:])
    return boxes


def _between(times: Floats, known: Floats, values: Floats) -> Floats:
    """Values (T,D) at times (T,) on lines between those (F,D) at known times (F,); held beyond."""
    return np.stack([np.interp(times, known, column) for column in values.T], axis=1)


def _nearest(times: Floats, known: Floats) -> Floats:
    """Seconds (T,) from each time (T,) to the nearest of the known ones (F,), in rising order."""
    after = np.minimum(np.searchsorted(known, times), len(known) - 1)
    before = np.maximum(after - 1, 0)
    return np.asarray(np.minimum(np.abs(times - known[before]), np.abs(times - known[after])))


def _lowest(times: Floats, one: Track) -> Floats:
    """The lower one of the scores that a track has before and after each time."""
    after = np.searchsorted(one.times, times)
    before = np.searchsorted(one.times, times, side="right") - 1
    last = len(one) - 1
    return np.asarray(np.minimum(one.scores[np.clip(after, 0, last)], one.scores[before.clip(0)]))


def _drift(one: Track, times: Floats) -> Floats:
    """How far (T,2) a track has moved beyond its first and last box at times (T,)."""
    early, late = np.minimum(times - one.times[0], 0), np.maximum(times - one.times[-1], 0)
    off = early[:, None] * _speed(one, first=True) + late[:, None] * _speed(one, first=False)
    return np.asarray(off)


def _speed(one: Track, *, first: bool) -> Floats:
    """Pixels a second (2,) of the center, by a line through a track's first or last boxes.

    A slow face is likelier than a fast one, so boxes that are off say little of a short time.
    """
    off = one.times - one.times[0] if first else one.times[-1] - one.times
    near = off <= max(FIT, np.sort(off)[:_LEAST][-1])
    times, centers = one.times[near], np.asarray(box_math.to_cxcywh(one.boxes[near]))[:, :2]
    times = times - times.mean()
    return np.asarray(times @ (centers - centers.mean(axis=0)) / ((times**2).sum() + _DOUBT))


def _apart(one: Track, other: Track) -> float:
    """Distance at half time between where two tracks lead, in sides of the face; or infinity."""
    half = (other.times[0] - one.times[-1]) / 2
    ends = np.asarray(box_math.to_cxcywh(np.stack([one.boxes[-1], other.boxes[0]])))
    sides = np.sqrt(np.maximum(ends[:, 2] * ends[:, 3], 1e-9))
    if sides.max() > _RATIO * sides.min():
        return float("inf")
    places = ends[:, :2] + half * np.stack([_speed(one, first=False), -_speed(other, first=True)])
    return float(np.linalg.norm(places[1] - places[0]) / sides.mean())
