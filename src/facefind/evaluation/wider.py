"""The WIDER FACE protocol: average precision on easy, medium and hard faces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from facefind.boxes import iou as pairwise_iou
from facefind.errors import DataError, ProtocolError
from facefind.evaluation.curves import average_precision, average_precision_above
from facefind.evaluation.detections import Detections, known_end, pair
from facefind.evaluation.wider_labels import (
    GroundTruth,
    from_samples,
    ground_truth,
    image_files,
    read_ground_truth,
)

__all__ = [
    "Curve",
    "GroundTruth",
    "Mode",
    "Tally",
    "WiderResult",
    "evaluate",
    "from_samples",
    "ground_truth",
    "image_files",
    "read_ground_truth",
    "tally",
]

Mode = Literal["official", "strict"]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

THRESHOLDS: Floats = 1 - np.arange(1, 1001) / 1000
MAP_IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


@dataclass(frozen=True, eq=False)
class Curve:
    """Precision and recall (1000,) at score thresholds .999 down to 0 of the normalized scores."""

    precision: Floats
    recall: Floats


@dataclass(frozen=True)
class WiderResult:
    """Average precision (0 to 1) per subset, with what it was measured on.

    `ap_98` is the average precision above 98 % precision (SCRFD, Table 1); `mean_ap` the mean
    over IoU .5:.05:.95 (RetinaFace, Table 3), strict mode only.
    """

    protocol: str
    mode: Mode
    image_set: str
    digest: str
    images: int
    missing: tuple[str, ...]
    faces: dict[str, int]
    detections: int
    ap: dict[str, float]
    ap_98: dict[str, float]
    mean_ap: dict[str, float] | None
    curves: dict[str, Curve] = field(repr=False)

    def to_dict(self, *, curves: bool = False) -> dict[str, Any]:
        """The result in plain types, ready for JSON; with the curves where `curves` is true."""
        plain: dict[str, Any] = {
            "protocol": self.protocol,
            "mode": self.mode,
            "image_set": self.image_set,
            "digest": self.digest,
            "images": self.images,
            "images_without_detections": list(self.missing),
            "faces": self.faces,
            "detections": self.detections,
            "ap": self.ap,
            "ap_98": self.ap_98,
            "mean_ap": self.mean_ap,
        }
        if curves:
            plain["curves"] = {
                subset: {"precision": curve.precision.tolist(), "recall": curve.recall.tolist()}
                for subset, curve in self.curves.items()
            }
        return plain


def evaluate(
    detections: Detections,
    ground_truth: GroundTruth,
    mode: Mode = "official",
    subset: Iterable[str] | None = None,
    iou: float = 0.5,
) -> WiderResult:
    """Average precision of detections under the WIDER FACE protocol.

    Scores are stretched to 0..1 over the whole set. In each picture, by falling score, a
    detection looks at one face only: if that face is not of the subset the detection is taken
    out of the count; the first hit of a face of the subset is a recall, a further one a false
    alarm. Precision and recall are read at 1000 thresholds.

    Modes differ in the face looked at. `official` does what the MATLAB toolbox does because its
    labels are integers: coordinates are rounded, and the overlap too, to 0 or 1, so that it is
    the first labeled face with IoU of at least one half. `strict` takes the face with the best
    IoU, unrounded; most published figures come from ports that do this. Both count pixels
    inclusively (width is right - left + 1). Detections need not be sorted; clip them to the
    picture beforehand, as detectors commonly do.

    Args:
        detections: picture name (`event/name.jpg`, suffix optional, leading folders allowed)
            to faces, or to (boxes xyxy, scores).
        ground_truth: from `read_ground_truth` or `from_samples`.
        mode: "official" or "strict".
        subset: names of the only pictures to count; detections in others are passed over.
        iou: overlap that makes a hit; other values than .5 only in strict mode.

    Returns:
        A WiderResult; pictures without an entry in `detections` are listed in its `missing`,
        and their faces count as missed.

    Raises:
        DataError: where a detection's picture is not in the ground truth.
        ProtocolError: on an unknown mode, or an IoU that the mode does not know.
    """
    if mode not in ("official", "strict"):
        raise ProtocolError(f"expected mode 'official' or 'strict', got {mode!r}")
    if not 0 < iou <= 1 or (mode == "official" and iou != 0.5):
        raise ProtocolError(
            f"iou is {iou} in mode {mode!r}: official rounds overlaps to 0 or 1 and knows only "
            ".5, strict takes any above 0 up to 1"
        )
    truth = ground_truth if subset is None else ground_truth.only(subset)
    found = _by_name(detections, ground_truth)
    matches = _match(found, truth, mode)
    faces = {name: int(sum(map(np.sum, keep))) for name, keep in truth.subsets.items()}
    kept = {
        name: np.concatenate([*keep, np.zeros(1, bool)]) for name, keep in truth.subsets.items()
    }
    curves = {name: _curve(matches, kept[name], faces[name], iou) for name in kept}
    mean_ap = None
    if mode == "strict":
        mean_ap = {
            name: float(
                np.mean([_ap(_curve(matches, kept[name], faces[name], t)) for t in MAP_IOUS])
            )
            for name in kept
        }
    return WiderResult(
        protocol=f"WIDER FACE, {mode}, IoU {iou:g}",
        mode=mode,
        image_set=truth.title if subset is None else f"{len(truth.names)} of {truth.title}",
        digest=truth.digest(),
        images=len(truth.names),
        missing=tuple(name for name in truth.names if name not in found),
        faces=faces,
        detections=len(matches.scores),
        ap={name: _ap(curve) for name, curve in curves.items()},
        ap_98={
            name: average_precision_above(curve.recall, curve.precision)
            for name, curve in curves.items()
        },
        mean_ap=mean_ap,
        curves=curves,
    )


@dataclass(frozen=True, eq=False)
class Tally:
    """Counts of one subset for each picture at each threshold, to resample pictures.

    proposals, recalled: (I, 1000); faces: (I,). The scores are stretched over the whole set.
    """

    proposals: Floats
    recalled: Floats
    faces: Floats

    def ap(self, weights: npt.NDArray[np.int64]) -> Floats:
        """(R,) average precision where picture i counts `weights[r, i]` times; weights (R, I)."""
        table = np.asarray(weights, np.float64)
        proposals, recalled = table @ self.proposals, table @ self.recalled
        faces = table @ self.faces
        return np.array(
            [
                average_precision(hits / count, hits / np.maximum(shown, 1)) if count else 0.0
                for hits, shown, count in zip(recalled, proposals, faces, strict=True)
            ]
        )


def tally(detections: Detections, truth: GroundTruth, mode: Mode = "strict") -> dict[str, Tally]:
    """A Tally a subset, for resampling; `evaluate` says what counts."""
    matches = _match(_by_name(detections, truth), truth, mode)
    # the first threshold that a score reaches; one column more for none
    column = np.searchsorted(-THRESHOLDS, -matches.scores, side="left")
    result = {}
    for name, keep in truth.subsets.items():
        counted = np.concatenate([*keep, np.zeros(1, bool)])
        tables = []
        for rows in _useful(matches, counted, 0.5):
            table = np.zeros((len(truth.names), len(THRESHOLDS) + 1))
            np.add.at(table, (matches.image[rows], column[rows]), 1)
            tables.append(np.cumsum(table[:, :-1], axis=1))
        faces = np.array([flags.sum() for flags in keep], np.float64)
        result[name] = Tally(tables[0], tables[1], faces)
    return result


@dataclass(frozen=True, eq=False)
class _Matches:
    """All detections in a row, sorted within each picture."""

    scores: Floats  # normalized
    face: npt.NDArray[np.int64]  # which face of the whole set the detection looks at
    iou: Floats  # its overlap with it
    image: npt.NDArray[np.int64]


def _by_name(detections: Detections, truth: GroundTruth) -> dict[str, tuple[Floats, ...]]:
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
        found[name] = pair(given, faces)
    return found


def _match(found: Mapping[str, tuple[Floats, ...]], truth: GroundTruth, mode: Mode) -> _Matches:
    scores, face, iou = [np.zeros(0)], [np.zeros(0, np.int64)], [np.zeros(0)]
    image = [np.zeros(0, np.int64)]
    first = 0
    last = sum(map(len, truth.boxes))
    look = _look_official if mode == "official" else _look_strict
    for number, (name, faces) in enumerate(zip(truth.names, truth.boxes, strict=True)):
        boxes, confidence = found.get(name, (np.zeros((0, 4)), np.zeros(0)))
        if len(boxes):
            scores.append(confidence)
            image.append(np.full(len(boxes), number, np.int64))
            if len(faces):
                at, overlap = look(boxes, faces)
                face.append(at + first)
                iou.append(overlap)
            else:
                face.append(np.full(len(boxes), last, np.int64))
                iou.append(np.zeros(len(boxes)))
        first += len(faces)
    raw = np.concatenate(scores)
    low, high = (float(raw.min()), float(raw.max())) if len(raw) else (0.0, 0.0)
    normal = (raw - low) / (high - low) if high > low else np.ones_like(raw)
    return _Matches(normal, np.concatenate(face), np.concatenate(iou), np.concatenate(image))


def _look_strict(boxes: Floats, faces: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """For each box the face of best IoU (the first of equals) and that IoU."""
    overlap = pairwise_iou(boxes, faces, plus_one=True)
    best = np.argmax(overlap, axis=1)
    return best, np.asarray(overlap[np.arange(len(boxes)), best], np.float64)


def _look_official(boxes: Floats, faces: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """For each box the first face whose rounded IoU is 1, and 1; or any face and 0.

    MATLAB's arithmetic between an int32 and a double gives an int32, rounded half away from 0:
    corners are rounded where they meet a face's, the box's own area is not, its sum with the
    face's area is, and so is the quotient.
    """
    rounded = _round(boxes)
    sides = np.minimum(rounded[:, None, 2:], faces[None, :, 2:])
    sides -= np.maximum(rounded[:, None, :2], faces[None, :, :2])
    sides = np.maximum(sides + 1, 0)
    shared = sides[..., 0] * sides[..., 1]
    own, other = (np.prod(b[:, 2:] - b[:, :2] + 1, axis=1) for b in (boxes, faces))
    union = _round(own[:, None] + other[None, :]) - shared
    hit = (shared > 0) & (union >= 0) & (2 * shared >= union)
    best = np.argmax(hit, axis=1)
    return best, hit[np.arange(len(boxes)), best].astype(np.float64)


def _round(values: Floats) -> Floats:
    return np.copysign(np.floor(np.abs(values) + 0.5), values)


def _curve(matches: _Matches, counted: Bools, faces: int, iou: float) -> Curve:
    kept, first = _useful(matches, counted, iou)
    proposals = _count_at_least(matches.scores[kept])
    recalled = _count_at_least(matches.scores[first])
    with np.errstate(invalid="ignore"):
        precision = recalled / proposals
    return Curve(precision, recalled / faces if faces else np.zeros(len(THRESHOLDS)))


def _useful(
    matches: _Matches, counted: Bools, iou: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of the detections that count, and of those that are the first on a counted face."""
    hit = matches.iou >= iou
    on_counted = counted[matches.face]
    useful = np.flatnonzero(hit & on_counted)
    _, first = np.unique(matches.face[useful], return_index=True)
    return np.flatnonzero(~hit | on_counted), useful[first]


def _count_at_least(scores: Floats) -> Floats:
    """How many scores reach each of the thresholds."""
    ordered = np.sort(scores)
    return (len(ordered) - np.searchsorted(ordered, THRESHOLDS, side="left")).astype(np.float64)


def _ap(curve: Curve) -> float:
    return average_precision(curve.recall, curve.precision)
