"""The WIDER FACE protocol: average precision on easy, medium and hard faces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from facefind.errors import ProtocolError
from facefind.evaluation.curves import average_precision, average_precision_above
from facefind.evaluation.detections import Detections, listed
from facefind.evaluation.wider_labels import (
    GroundTruth,
    from_samples,
    ground_truth,
    image_files,
    read_ground_truth,
)
from facefind.evaluation.wider_matching import THRESHOLDS, Matches, Mode, at_least, by_name, match

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

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

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
        plain = listed(self, "curves")
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
    found = by_name(detections, ground_truth)
    matches = match(found, truth, mode, min(iou, *MAP_IOUS))
    counted = {name: _in_a_row(flags) for name, flags in truth.subsets.items()}
    shown = at_least(matches.threshold)
    curves = _curves(matches, shown, counted, iou)
    mean_ap = None
    if mode == "strict":
        each = [_curves(matches, shown, counted, least) for least in MAP_IOUS]
        mean_ap = {name: float(np.mean([_ap(one[name]) for one in each])) for name in counted}
    return WiderResult(
        protocol=f"WIDER FACE, {mode}, IoU {iou:g}",
        mode=mode,
        image_set=truth.title if subset is None else f"{len(truth.names)} of {truth.title}",
        digest=truth.digest(),
        images=len(truth.names),
        missing=tuple(name for name in truth.names if name not in found),
        faces={name: int(flags.sum()) for name, flags in counted.items()},
        detections=len(matches.image),
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
    matches = match(by_name(detections, truth), truth, mode, least=0.5)
    every = _table(matches, slice(None), len(truth.names))
    hits, face, first = matches.at(0.5)
    result = {}
    for name, flags in truth.subsets.items():
        counted = _in_a_row(flags)[face]
        passed_over = _table(matches, hits[~counted], len(truth.names))
        recalled = _table(matches, hits[first & counted], len(truth.names))
        faces = np.array([own.sum() for own in flags], np.float64)
        result[name] = Tally(every - passed_over, recalled, faces)
    return result


def _table(matches: Matches, which: Any, pictures: int) -> Floats:
    """(pictures, 1000) how many of these detections reach each threshold."""
    width = len(THRESHOLDS) + 1
    places = matches.image[which] * width + matches.threshold[which]
    counts = np.bincount(places, minlength=pictures * width).reshape(pictures, width)
    return np.cumsum(counts[:, :-1], axis=1, dtype=np.float64)


def _curves(
    matches: Matches, shown: Ints, counted: Mapping[str, Bools], iou: float
) -> dict[str, Curve]:
    """The curve of each subset.

    Args:
        matches: of all detections.
        shown: (1000,) how many of them reach each threshold.
        counted: which faces (F,) are in each subset.
        iou: overlap that makes a hit.
    """
    hits, face, first = matches.at(iou)
    reached = matches.threshold[hits]
    curves = {}
    for name, flags in counted.items():
        on_counted = flags[face]
        proposals = shown - at_least(reached[~on_counted])
        recalled = at_least(reached[first & on_counted])
        faces = int(flags.sum())
        with np.errstate(invalid="ignore"):
            precision = recalled / proposals
        curves[name] = Curve(precision, recalled / faces if faces else np.zeros(len(THRESHOLDS)))
    return curves


def _in_a_row(flags: Sequence[Bools]) -> Bools:
    return np.concatenate([np.zeros(0, bool), *flags])


def _ap(curve: Curve) -> float:
    return average_precision(curve.recall, curve.precision)
