"""The tracks of a whole video, looked through forward and backward."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from facefind.video.tracking import Tracker, TrackerConfig, with_ids
from facefind.video.tracks import Frame, Tracks, tracks_of

__all__ = ["track"]

Ids = list[NDArray[np.int64]]


def track(
    frames: Iterable[Frame], config: TrackerConfig | None = None, cuts: Collection[int] = ()
) -> Tracks:
    """The tracks of a whole video, from what was detected in each frame, with or without ids.

    Going backward finds the faces of low score that came before a track began: a face that turns
    toward the camera, or comes near. A track has its first frames, whatever `config.hits`; tracks
    that were detected in fewer frames than that are left out.

    Args:
        frames: All frames in their order, with all faces from `config.low_score`.
        config: Settings of the tracker.
        cuts: Indices of frames that begin a new scene.

    Raises:
        ValueError: As `tracks_of`.
    """
    config = config or TrackerConfig()
    given = [*frames]
    forward = _ids(given, config, set(cuts))
    # Going backward, a scene begins with the frame before the one that begins it going forward.
    ends = {one[0] for one, other in pairwise(given) if other[0] in set(cuts)}
    mirrored = [(frame, -time, faces) for frame, time, faces in reversed(given)]
    _extend(forward, _ids(mirrored, config, ends)[::-1])
    numbered = (
        (frame, time, with_ids(faces, ids))
        for (frame, time, faces), ids in zip(given, forward, strict=True)
    )
    return tracks_of(numbered, min_detections=config.hits, cuts=cuts)


def _ids(frames: Sequence[Frame], config: TrackerConfig, cuts: Collection[int]) -> Ids:
    tracker = Tracker(replace(config, hits=1))
    return [tracker.assign(faces, time=time, cut=frame in cuts) for frame, time, faces in frames]


def _extend(forward: Ids, backward: Ids) -> None:
    """Give the faces that belong to no track going forward to the track they come before."""
    places: dict[int, list[tuple[int, int]]] = {}  # of each track going backward
    for at, ids in enumerate(backward):
        for row, number in enumerate(ids.tolist()):
            places.setdefault(number, []).append((at, row))
    begun = set()
    for at, ids in enumerate(forward):
        for row in range(len(ids)):
            number, other = int(ids[row]), int(backward[at][row])
            if number == 0 or number in begun:
                continue
            begun.add(number)
            earlier = [place for place in places[other] if place[0] < at] if other else []
            for before, place in reversed(earlier):
                if forward[before][place]:
                    break
                forward[before][place] = number
