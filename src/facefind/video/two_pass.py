"""The tracks of a whole video, looked through forward and backward."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from facefind.video.packed import Frame, Packed
from facefind.video.tracking import Tracker, TrackerConfig
from facefind.video.tracks import Tracks, numbered

__all__ = ["track"]

Ids = NDArray[np.int64]


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
    packed = frames if isinstance(frames, Packed) else Packed(frames)
    forward = _ids(packed, config, set(cuts))
    # Going backward, a scene begins with the frame before the one that begins it going forward.
    ends = {one for one, other in pairwise(packed.frames.tolist()) if other in set(cuts)}
    _extend(forward, _ids(packed, config, ends, backward=True), packed.places)
    return numbered(packed, forward, min_detections=config.hits, cuts=cuts)


def _ids(
    packed: Packed, config: TrackerConfig, cuts: Collection[int], *, backward: bool = False
) -> Ids:
    """The ids (D,) that a tracker gives to all faces."""
    tracker = Tracker(replace(config, hits=1))
    places = packed.places
    ids = np.zeros(len(places), np.int64)
    for at in reversed(range(len(packed))) if backward else range(len(packed)):
        frame, time, faces = packed[at]
        time = -time if backward else time
        ids[packed.rows(at)] = tracker.assign(faces, time=time, cut=frame in cuts)
    return ids


def _extend(forward: Ids, backward: Ids, places: Ids) -> None:
    """Give the faces that belong to no track going forward to the track they come before.

    Args:
        forward: (D,) ids of all faces, changed in place; 0 where there is none.
        backward: (D,) going backward.
        places: (D,) of their frames.
    """
    order = np.argsort(backward, kind="stable")  # by track going backward, and then by frame
    numbers, firsts = np.unique(forward, return_index=True)
    for number, first in zip(numbers.tolist(), firsts.tolist(), strict=True):
        other = backward[first]
        if not number or not other:
            continue
        low, high = np.searchsorted(backward, [other, other + 1], sorter=order)
        rows = order[low:high]
        for row in reversed(rows[places[rows] < places[first]].tolist()):
            if forward[row]:
                break
            forward[row] = number
