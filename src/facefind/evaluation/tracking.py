"""MOTA, IDF1 and HOTA of tracked faces, against labeled tracks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facefind import boxes as box_math
from facefind.errors import DataError
from facefind.evaluation.mot import Trajectories

__all__ = ["ALPHAS", "TrackingResult", "evaluate", "exposed"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ALPHAS = np.arange(1, 20) / 20
"""IoU from which a face is found, of which HOTA takes the mean: .05, .10 ... .95."""
_EPS = 1e-9  # an IoU that is a threshold but for rounding is not below it


@dataclass(frozen=True)
class TrackingResult:
    """Figures of tracked faces, over all videos together."""

    mota: float
    """CLEAR MOT's accuracy: 1 - (missed + false + switches) / faces; it may be negative."""
    motp: float
    """Mean IoU of the faces that are found, at CLEAR MOT's matching."""
    idf1: float
    """F1 of the faces that have the number that stands for their person."""
    idp: float
    idr: float
    hota: float
    """Root of detection times association accuracy, mean over `ALPHAS`."""
    deta: float
    assa: float
    loca: float
    """Mean IoU of the faces that are found, mean over `ALPHAS`."""
    faces: int
    """Labeled faces in all frames together."""
    predictions: int
    missed: int
    false: int
    switches: int
    """How often a person's number changed."""
    persons: int
    """Labeled tracks."""
    tracks: int
    """Predicted tracks."""
    frames: int
    """Frames in which there is a labeled or predicted face."""
    min_iou: float
    """IoU from which a face is found, of MOTA and IDF1."""

    @property
    def protocol(self) -> str:
        """What these figures are, in a line."""
        return f"CLEAR MOT and IDF1 at IoU >= {self.min_iou:g}, HOTA at .05 to .95"

    def to_dict(self) -> dict[str, Any]:
        """The figures by name, and the protocol."""
        return {"protocol": self.protocol} | asdict(self)


@dataclass(frozen=True)
class _Frame:
    """Rows of the table of persons and tracks (G,), (P,) that a frame has, and IoU (G,P)."""

    truth: Ints
    found: Ints
    iou: Floats


def evaluate(
    found: Trajectories | Mapping[str, Trajectories],
    truth: Trajectories | Mapping[str, Trajectories],
    *,
    min_iou: float = 0.5,
) -> TrackingResult:
    """Figures of the tracks found in a video, or in several by name, against the labeled ones.

    Labels of score 0 need not be found: they are left out, and with them what was found at their
    place (at `min_iou`), as MOTChallenge does.

    Source: Bernardin and Stiefelhagen 2008, sec. 2 (CLEAR MOT); Ristani et al.,
    arXiv:1609.01775, sec. 3 (IDF1); Luiten et al., arXiv:2009.07736, sec. 5 to 7 (HOTA).
    Differs: HOTA's matching is to make HOTA greatest. As the authors' code does, faces of a frame
    are matched by IoU times how well their tracks agree over the video, counted softly, once for
    all thresholds.

    Raises:
        DataError: Videos by name are not the same ones, or none has a label that counts.
        ValueError: `min_iou` does not lie in 0..1, or is 0.
    """
    found = found if isinstance(found, Mapping) else {"": found}
    truth = truth if isinstance(truth, Mapping) else {"": truth}
    if found.keys() != truth.keys():
        raise DataError(f"labels are of {sorted(truth)}, predictions of {sorted(found)}")
    if not 0 < min_iou <= 1:
        raise ValueError(f"min_iou must lie in 0..1 and be above 0, got {min_iou}")
    videos = [_frames(found[name], truth[name], min_iou) for name in sorted(truth)]
    faces = sum(len(frame.truth) for video in videos for frame in video.frames)
    predictions = sum(len(frame.found) for video in videos for frame in video.frames)
    if not faces:
        raise DataError("there is no labeled face that counts")
    clear = sum((_clear(video, min_iou) for video in videos), np.zeros(3))
    hits, switches, overlap = clear
    same = sum(_identity(video, min_iou) for video in videos)
    hota = sum((_hota(video) for video in videos), np.zeros((3, len(ALPHAS))))
    matched, associated, located = hota
    detection = matched / (faces + predictions - matched)
    association = associated / np.maximum(matched, 1)
    return TrackingResult(
        mota=float(1 - (faces - hits + predictions - hits + switches) / faces),
        motp=float(overlap / hits) if hits else float("nan"),
        idf1=2 * same / (faces + predictions),
        idp=same / predictions if predictions else float("nan"),
        idr=same / faces,
        hota=float(np.sqrt(detection * association).mean()),
        deta=float(detection.mean()),
        assa=float(association.mean()),
        loca=float(np.where(matched > 0, located / np.maximum(matched, 1), 1).mean()),
        faces=faces,
        predictions=predictions,
        missed=int(faces - hits),
        false=int(predictions - hits),
        switches=int(switches),
        persons=sum(video.persons for video in videos),
        tracks=sum(video.tracks for video in videos),
        frames=sum(len(video.frames) for video in videos),
        min_iou=min_iou,
    )


def exposed(
    hidden: Trajectories, truth: Trajectories, *, grow: float = 0.1, covered: float = 0.75
) -> NDArray[np.bool_]:
    """Whether each labeled face (N,) is exposed: less than a part of it is under a hidden box.

    Args:
        hidden: Boxes that are hidden in each frame.
        truth: Labeled faces.
        grow: How much hidden boxes grow on each side, in sides of the box.
        covered: The part of a face's area that one of them must cover.
    """
    bare = np.ones(len(truth), bool)
    for rows, others in _by_frame(truth, hidden):
        over, faces = box_math.expand(hidden.boxes[others], grow), truth.boxes[rows]
        if len(rows) and len(over):
            part = box_math.intersection(faces, over) / box_math.area(faces)[:, None]
            bare[rows] = part.max(axis=1) < covered
    return bare


@dataclass(frozen=True)
class _Video:
    frames: list[_Frame]
    persons: int
    tracks: int
    counts: tuple[Ints, Ints]
    """Frames of each person, and of each track."""


def _frames(found: Trajectories, truth: Trajectories, min_iou: float) -> _Video:
    raw = [
        (ours, theirs, np.asarray(box_math.iou(truth.boxes[ours], found.boxes[theirs]), np.float64))
        for ours, theirs in _by_frame(truth, found)
    ]
    keep_truth, keep_found = truth.scores > 0, np.ones(len(found), bool)
    for ours, theirs, iou in raw:
        rows, columns = _match(np.where(iou >= min_iou - _EPS, iou, 0))
        keep_found[theirs[columns[~keep_truth[ours[rows]]]]] = False
    persons, person = np.unique(truth.ids[keep_truth], return_inverse=True)
    tracks, number = np.unique(found.ids[keep_found], return_inverse=True)
    row_of, column_of = np.full(len(truth), -1), np.full(len(found), -1)
    row_of[keep_truth], column_of[keep_found] = person, number
    frames = []
    for ours, theirs, iou in raw:
        some, others = keep_truth[ours], keep_found[theirs]
        if some.any() or others.any():
            part = iou[some][:, others]
            frames.append(_Frame(row_of[ours[some]], column_of[theirs[others]], part))
    counts = (
        np.bincount(person, minlength=len(persons)),
        np.bincount(number, minlength=len(tracks)),
    )
    return _Video(frames, len(persons), len(tracks), counts)


def _by_frame(one: Trajectories, other: Trajectories) -> Iterator[tuple[Ints, Ints]]:
    """Rows of both in each frame that either has, in rising order."""
    frames = np.union1d(one.frames, other.frames)
    parts = []
    for which in (one, other):
        order = np.argsort(which.frames, kind="stable")
        starts = np.searchsorted(which.frames[order], frames)
        parts.append(np.split(order, starts[1:]))
    return zip(*parts, strict=True)


def _match(table: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the pairs of greatest sum; pairs of 0 are none."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(table, maximize=True)
    some = table[rows, columns] > 0
    return rows[some], columns[some]


def _clear(video: _Video, min_iou: float) -> Floats:
    """Faces found, switches, and the sum of IoU; a match holds as long as it can."""
    hits = switches = overlap = 0.0
    now = np.full(video.persons, -1)  # the track that each person has in the last frame
    last = now.copy()  # and had at last
    for frame in video.frames:
        near = frame.iou >= min_iou - _EPS
        holds = near & (now[frame.truth][:, None] == frame.found)
        # One that holds outweighs all others: two of them never compete.
        rows, columns = _match(np.where(near, frame.iou, 0) + holds * 1000.0)
        persons, tracks = frame.truth[rows], frame.found[columns]
        switches += np.count_nonzero((last[persons] >= 0) & (last[persons] != tracks))
        hits += len(rows)
        overlap += float(frame.iou[rows, columns].sum())
        now[:] = -1
        now[persons] = last[persons] = tracks
    return np.array([hits, switches, overlap])


def _identity(video: _Video, min_iou: float) -> int:
    """Faces that have the number of their person, at the best choice of a track for each."""
    together = np.zeros((video.persons, video.tracks))
    for frame in video.frames:
        rows, columns = np.nonzero(frame.iou >= min_iou - _EPS)
        together[frame.truth[rows], frame.found[columns]] += 1
    rows, columns = _match(together)
    return int(together[rows, columns].sum())


def _hota(video: _Video) -> Floats:
    """Matches, the sum of how well theirs are associated, and the sum of IoU: (3, ALPHAS)."""
    ours, theirs = video.counts
    total = ours[:, None] + theirs[None, :]
    soft = np.zeros((video.persons, video.tracks))
    for frame in video.frames:
        either = frame.iou.sum(0)[None, :] + frame.iou.sum(1)[:, None] - frame.iou
        soft[np.ix_(frame.truth, frame.found)] += np.divide(
            frame.iou, either, out=np.zeros_like(frame.iou), where=either > 0
        )
    agreement = soft / (total - soft)
    counts = np.zeros((len(ALPHAS), video.persons, video.tracks))
    located = np.zeros(len(ALPHAS))
    for frame in video.frames:
        rows, columns = _match(agreement[np.ix_(frame.truth, frame.found)] * frame.iou)
        iou = frame.iou[rows, columns]
        passes = iou >= ALPHAS[:, None] - _EPS
        counts[:, frame.truth[rows], frame.found[columns]] += passes
        located += (iou * passes).sum(axis=1)
    associated = (counts * counts / (total - counts)).sum(axis=(1, 2))
    return np.stack([counts.sum(axis=(1, 2)), associated, located])
