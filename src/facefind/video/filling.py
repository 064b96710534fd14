"""Tracks without gaps while a video comes in, a fixed time later."""

from __future__ import annotations

from collections import deque

import numpy as np

from facefind.faces import Faces
from facefind.video.tracking import with_ids
from facefind.video.tracks import FIT, Frame, filled, followers, tracks_of

__all__ = ["Filler"]


class Filler:
    """Gives the frames of a stream back `delay` seconds later, with gaps filled as by `filled`.

    >>> filler = Filler(delay=1.0)
    >>> for index, time, faces in filler.push(index, time, tracker.update(faces, image, time)):
    ...     ...
    >>> for index, time, faces in filler.flush():
    ...     ...

    All frames come back, once and in their order; the caller keeps their pictures. What is known
    of a frame when it comes back is what was found up to `delay` seconds after it, so gaps of at
    most `delay` seconds are filled, and leads are at most as long.

    Args:
        delay: Seconds.
        lead: Seconds that are added before each track and after it.
    """

    def __init__(self, *, delay: float = 1.0, lead: float = 0.5) -> None:
        if not 0 <= lead <= delay:
            raise ValueError(f"lead must lie in 0..delay {delay}, got {lead}")
        self.delay, self.lead = delay, lead
        self._known: deque[Frame] = deque()  # frames that have come back, and those that wait
        self._waiting: deque[tuple[int, float]] = deque()
        self._cuts: deque[int] = deque()
        self._same: dict[int, int] = {}  # the lower id of faces that were found to be one

    def push(self, index: int, time: float, faces: Faces, *, cut: bool = False) -> list[Frame]:
        """The frames that come back now that this one has come, with `Tracker.update`'s faces.

        Args:
            index: Of the frame, above the last one's.
            time: Of the frame in seconds, at least the last one's.
            faces: With ids.
            cut: Whether the frame begins a new scene.

        Raises:
            ValueError: As `tracks_of`.
        """
        if self._known and self._known[-1][2].image_size != faces.image_size:
            done = self.flush()  # pictures of another size have nothing in common with these
            return done + self.push(index, time, faces, cut=True)
        self._known.append((index, time, self._renamed(faces)))
        self._waiting.append((index, time))
        if cut:
            self._cuts.append(index)
        return self._ready(time - self.delay)

    def flush(self) -> list[Frame]:
        """All frames that have not come back yet: at the end of the stream."""
        done = self._ready(np.inf)
        self._known.clear()
        self._cuts.clear()
        self._same.clear()
        return done

    def _ready(self, until: float) -> list[Frame]:
        if not self._waiting or self._waiting[0][1] > until:
            return []
        tracks = tracks_of(self._known, cuts=self._cuts)
        after = followers(tracks, most_gap=self.delay)
        for first, second in sorted(after.items()):
            self._same[second] = self._same.get(first, first)
        if after:
            self._known = deque((i, t, self._renamed(faces)) for i, t, faces in self._known)
            tracks = tracks_of(self._known, cuts=self._cuts)
        full = filled(tracks, lead=self.lead, most_gap=self.delay)
        done = []
        while self._waiting and self._waiting[0][1] <= until:
            index, time = self._waiting.popleft()
            done.append((index, time, full.at(index)))
        self._forget(done[-1][1] - self.delay - FIT)
        return done

    def _renamed(self, faces: Faces) -> Faces:
        if faces.ids is None or not any(number in self._same for number in faces.ids.tolist()):
            return faces
        return with_ids(faces, np.array([self._same.get(one, one) for one in faces.ids.tolist()]))

    def _forget(self, before: float) -> None:
        while len(self._known) > 1 and self._known[0][1] < before:
            self._known.popleft()
        while self._cuts and self._cuts[0] < self._known[0][0]:
            self._cuts.popleft()
