"""Which labeled face each detection hits under the WIDER FACE protocol, for all pictures at once.

Shapes: D detections and F faces of all pictures in a row, K hits, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from facefind.errors import DataError
from facefind.evaluation.detections import Detections, checked, known_end
from facefind.evaluation.wider_labels import GroundTruth

__all__ = ["THRESHOLDS", "Matches", "Mode", "at_least", "by_name", "match"]

Mode = Literal["official", "strict"]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

THRESHOLDS: Floats = 1 - np.arange(1, 1001) / 1000

_PAIRS = 1 << 14  # whose overlaps are computed at a time, so that they fit a processor's cache
_SLACK = 2  # pixels between boxes that may overlap once they are rounded and counted inclusively


@dataclass(frozen=True, eq=False)
class Matches:
    """All detections in a row, and those of them that hit a face, by falling score.

    Attributes:
        image: (D,) the picture's number.
        threshold: (D,) the first of THRESHOLDS that the score reaches, stretched to 0..1 over all
            pictures; 1000 where it reaches none.
        hits: (K,) which detections hit a face; of equal scores the earlier one goes first.
        faces: (K,) the face, counted over all pictures.
        ious: (K,) the overlap with it.
    """

    image: Ints
    threshold: Ints
    hits: Ints
    faces: Ints
    ious: Floats

    def at(self, iou: float) -> tuple[Ints, Ints, Bools]:
        """Detection, face and whether it is the face's first hit, of the hits of at least `iou`."""
        enough = self.ious >= iou
        faces = self.faces[enough]
        order = np.arange(len(faces))
        first = np.zeros(faces.max(initial=-1) + 1, np.int64)
        first[faces[::-1]] = order[::-1]  # of several values for a place the last one stays
        return self.hits[enough], faces, first[faces] == order


def at_least(thresholds: Ints) -> Ints:
    """(1000,) how many scores reach each threshold, of the first threshold that each reaches."""
    return np.cumsum(np.bincount(thresholds, minlength=len(THRESHOLDS) + 1)[:-1])


def by_name(detections: Detections, truth: GroundTruth) -> dict[str, tuple[Floats, ...]]:
    """Boxes (N, 4) and scores (N,) of each picture by its name in the ground truth.

    Raises:
        DataError: where a picture is unknown or there twice, or its arrays are not such.
    """
    known = set(truth.names)
    found: dict[str, tuple[Floats, ...]] = {}
    for given, faces in detections.items():
        name = known_end(given, known)
        if name is None:
            raise DataError(
                f"detections for {given!r}, which is not in {truth.title}; names look like "
                f"{truth.names[0] + '.jpg' if truth.names else 'event/name.jpg'!r}"
            )
        if name in found:
            raise DataError(f"two sets of detections for {name!r}")
        found[name] = checked(given, faces)
    return found


def match(
    found: Mapping[str, tuple[Floats, ...]], truth: GroundTruth, mode: Mode, least: float
) -> Matches:
    """What the detections of a ground truth's pictures hit, at overlaps of at least `least`.

    A detection looks at one face: that of the largest overlap, of equals the first. `official`
    knows overlaps of 0 and 1 alone.
    """
    nothing = np.zeros((0, 4)), np.zeros(0)
    pictures = [found.get(name, nothing) for name in truth.names]
    boxes = _columns([boxes for boxes, _ in pictures])
    faces = _columns(truth.boxes)
    scores = np.concatenate([np.zeros(0), *(scores for _, scores in pictures)])
    counts = [len(scores) for _, scores in pictures]
    each = zip(_slices(counts), _slices([len(known) for known in truth.boxes]), strict=True)
    one, other = _near(boxes, faces, each)
    one, other, ious = _overlapping(boxes, faces, one, other, mode, least)
    best = np.lexsort((other, -ious, one))
    best = best[np.flatnonzero(np.diff(one[best], prepend=-1))]
    best = best[np.argsort(-scores[one[best]], kind="stable")]
    low, high = scores.min(initial=np.inf), scores.max(initial=-np.inf)
    normal = (scores - low) / (high - low) if high > low else np.ones_like(scores)
    return Matches(
        np.repeat(np.arange(len(counts)), counts),
        np.searchsorted(-THRESHOLDS, -normal, side="left"),
        one[best],
        other[best],
        ious[best],
    )


def _columns(boxes: Sequence[Floats]) -> Floats:
    return np.concatenate([np.zeros((0, 4)), *boxes]).T.copy()


def _slices(counts: Sequence[int]) -> list[slice]:
    ends = np.cumsum([0, *counts]).tolist()
    return [slice(start, end) for start, end in pairwise(ends)]


def _near(
    boxes: Floats, faces: Floats, pictures: Iterable[tuple[slice, slice]]
) -> tuple[Ints, Ints]:
    """Detection and face, (P,) each, of all pairs that may overlap: few of those in a picture.

    Args:
        boxes: (4, D).
        faces: (4, F).
        pictures: those of each picture among them.
    """
    x1, y1, x2, y2 = boxes
    left, top = (faces[:2] - _SLACK)[:, :, None]
    right, bottom = (faces[2:] + _SLACK)[:, :, None]
    ones, others = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for own, known in pictures:
        near = x1[own] <= right[known]
        near &= x2[own] >= left[known]
        near &= y1[own] <= bottom[known]
        near &= y2[own] >= top[known]
        # faster than nonzero on a table
        other, one = np.divmod(np.flatnonzero(near), max(near.shape[1], 1))
        ones.append(one + own.start)
        others.append(other + known.start)
    return np.concatenate(ones), np.concatenate(others)


def _overlapping(
    boxes: Floats, faces: Floats, one: Ints, other: Ints, mode: Mode, least: float
) -> tuple[Ints, Ints, Floats]:
    """Those pairs of boxes (4, D) and faces (4, F) that overlap enough, and their overlaps.

    In strict mode these are the IoU, as `boxes.iou` has it; in official mode the IoU rounded to 0
    or 1. MATLAB's arithmetic between an int32 and a double gives an int32, rounded half away from
    0: corners are rounded where they meet a face's, the box's own area is not, its sum with the
    face's area is, and so is the quotient.
    """
    strict = mode == "strict"
    sizes, known = (
        np.prod(np.maximum(sides, 0) if strict else sides, axis=0)
        for sides in (boxes[2:] - boxes[:2] + 1, faces[2:] - faces[:2] + 1)
    )
    corners = boxes if strict else _round(boxes)
    overlaps = np.zeros(len(one))
    for start in range(0, len(one), _PAIRS):
        some = slice(start, start + _PAIRS)
        box, face = corners.take(one[some], axis=1), faces.take(other[some], axis=1)
        sides = np.minimum(box[2:], face[2:]) - np.maximum(box[:2], face[:2]) + 1
        width, height = np.maximum(sides, 0)
        shared = width * height
        union = sizes[one[some]] + known[other[some]]
        if strict:
            union -= shared
            np.divide(shared, union, out=overlaps[some], where=union > 0)
        else:
            union = _round(union) - shared
            overlaps[some] = (shared > 0) & (union >= 0) & (2 * shared >= union)
    enough = overlaps >= least
    return one[enough], other[enough], overlaps[enough]


def _round(values: Floats) -> Floats:
    return np.copysign(np.floor(np.abs(values) + 0.5), values)
