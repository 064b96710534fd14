"""FDDB: discrete and continuous ROC curves over ellipses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facefind import files
from facefind.datasets.files import bad_line, face_blocks, read_text
from facefind.datasets.sample import Sample, digest, read_size
from facefind.errors import DataError, ProtocolError
from facefind.evaluation.detections import FacesLike, Pair, key, listed, pair
from facefind.evaluation.regions import Mode, overlaps

Floats = npt.NDArray[np.float64]
Regions = Mapping[str, FacesLike | Pair]
"""Picture name -> faces, or regions ((N, 4) xyxy or (N, 5) ellipses) with scores (N,)."""


@dataclass(frozen=True, eq=False)
class Roc:
    """Points by falling score threshold: false positives, true-positive rates (K,)."""

    thresholds: Floats
    false_positives: Floats
    discrete: Floats
    continuous: Floats

    def at(self, false_positives: int) -> tuple[float, float]:
        """(discrete, continuous) rate with the most false alarms that are still fewer than these.

        Both 0 where even the first point has more.
        """
        below = self.false_positives < false_positives
        if not below.any():
            return 0.0, 0.0
        most = self.false_positives[below].max()
        row = int(np.flatnonzero(below & (self.false_positives == most))[-1])
        return float(self.discrete[row]), float(self.continuous[row])


@dataclass(frozen=True)
class FddbResult:
    """True-positive rates at 1,000 and 2,000 false positives, with what they were measured on."""

    protocol: str
    mode: Mode
    digest: str
    images: int
    missing: tuple[str, ...]
    faces: int
    detections: int
    discrete: dict[int, float]
    continuous: dict[int, float]
    roc: Roc = field(repr=False)

    def to_dict(self, *, curves: bool = False) -> dict[str, Any]:
        """The result in plain types, ready for JSON; with the ROC curves where `curves` is true."""
        plain = listed(self, "roc")
        for name in ("discrete", "continuous"):
            plain[name] = {str(limit): rate for limit, rate in plain[name].items()}
        if curves:
            plain["roc"] = {name: values.tolist() for name, values in vars(self.roc).items()}
        return plain


def evaluate(detections: Regions, samples: Sequence[Sample], mode: Mode = "official") -> FddbResult:
    """Discrete and continuous ROC of all pictures pooled, as for detectors not trained on FDDB.

    At every score that occurs in a picture, its detections from that score up are assigned
    one-to-one to its faces so that the sum of overlaps is greatest. The discrete score counts
    pairs with IoU over one half, the continuous one adds up the IoU of all pairs; false
    positives are the detections without a discrete hit, for both.

    Args:
        detections: picture name (suffix optional) to faces, or to (regions, scores): rectangles
            (N, 4) xyxy or ellipses (N, 5) with radii, angle in radians and center.
        samples: from `datasets.fddb.read`.
        mode: how overlaps are taken, "official" (OpenCV's filled shapes) or "exact" (areas).

    Raises:
        DataError: where samples have no ellipses, or a detection's picture is unknown.
        ProtocolError: on an unknown mode.
    """
    found = _by_name(detections, samples, mode)
    rows: list[tuple[Floats, Floats]] = []
    for sample in samples:
        regions, scores = found.get(key(sample.name), (np.zeros((0, 4)), np.zeros(0)))
        if len(scores):
            shared = overlaps(regions, _ellipses(sample), _size(sample), mode)
            rows.append(_steps(shared, scores))
    faces = sum(map(len, samples))
    roc = _merge(rows, faces)
    rates = {limit: roc.at(limit) for limit in (1000, 2000)}
    return FddbResult(
        protocol=f"FDDB, unrestricted training, all folds pooled, {mode} overlap",
        mode=mode,
        digest=digest(samples),
        images=len(samples),
        missing=tuple(s.name for s in samples if key(s.name) not in found),
        faces=faces,
        detections=sum(len(scores) for _, scores in found.values()),
        discrete={limit: rate[0] for limit, rate in rates.items()},
        continuous={limit: rate[1] for limit, rate in rates.items()},
        roc=roc,
    )


def ellipses(boxes: npt.NDArray[np.floating[Any]]) -> Floats:
    """(N, 5) upright ellipses for face boxes (N, 4), in closed form.

    Radii .61 of the height and .55 of the width, center in the middle and .425 down: FDDB's
    ellipses reach from chin to the top of the head, boxes to the hair line only.
    Source: the means of the regressor that S3FD's authors fitted.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return np.stack(
        [
            0.61 * height,
            0.55 * width,
            np.full(len(boxes), np.pi / 2),
            boxes[:, 0] + 0.5 * width,
            boxes[:, 1] + 0.425 * height,
        ],
        axis=1,
    )


def refit(
    detections: Regions, samples: Sequence[Sample], mode: Mode = "official"
) -> dict[str, tuple[Floats, Floats]]:
    """The detections with each box turned into an ellipse by a linear rule fitted on other folds.

    For the pictures of each fold (`Sample.group`) the rule is the least-squares fit of the
    ellipse's five numbers on the box's x, y, width and height, over the discrete hits of all
    other folds: no face is in the fit that judges it. Angles are taken from the upright.

    Raises:
        ProtocolError: with fewer than two folds, or too few hits outside one to fit.
    Differs: S3FD's script fits on the hits of the pictures that it then scores.
    """
    found = _by_name(detections, samples, mode)
    folds = sorted({sample.group for sample in samples})
    if len(folds) < 2:
        raise ProtocolError(
            f"refitting leaves one fold out, but the samples are of {len(folds)} fold; "
            "use ellipses(boxes), which needs no fit"
        )
    pairs: dict[str, list[tuple[Floats, Floats]]] = {fold: [] for fold in folds}
    for sample in samples:
        boxes, _ = found.get(key(sample.name), (np.zeros((0, 4)), np.zeros(0)))
        if len(boxes) == 0 or len(sample) == 0:
            continue
        if boxes.shape[1] != 4:
            raise DataError(f"{sample.name}: refitting turns boxes (N, 4), given {boxes.shape}")
        truth = _ellipses(sample)
        shared = overlaps(boxes, truth, _size(sample), mode)
        for i, j in zip(*_assign(shared), strict=True):
            if shared[i, j] > 0.5:
                pairs[sample.group].append((boxes[i], truth[j]))
    rules = {fold: _fit([p for other in folds if other != fold for p in pairs[other]], fold)
             for fold in folds}  # fmt: skip
    turned = {}
    for sample in samples:
        if key(sample.name) in found:
            boxes, scores = found[key(sample.name)]
            result = _inputs(boxes) @ rules[sample.group]
            result[:, :2] = np.maximum(result[:, :2], 1)
            result[:, 2] += np.pi / 2
            turned[sample.name] = (result, scores)
    return turned


def read_detections(path: str | Path) -> dict[str, tuple[Floats, Floats]]:
    """Detections of a file in FDDB's format, by picture name: (regions, scores).

    A name, the number of faces, then `x y w h score` or `major minor angle cx cy score` a face.

    Raises:
        DataError: with file and line, where a line is not as the format demands.
    """
    source = Path(path)
    lines = read_text(source)
    form = "'x y w h score' or 'major minor angle cx cy score', one kind a picture"
    found: dict[str, tuple[Floats, Floats]] = {}
    for name, rows in face_blocks(source, lines, form, (5, 6)):
        columns = len(next(iter(rows.values()), range(5)))
        for place, row in rows.items():
            if len(row) != columns:
                raise bad_line(source, place + 1, lines[place], form)
        table = np.array(list(rows.values())).reshape(len(rows), columns)
        regions = table[:, :-1].copy()
        if regions.shape[1] == 4:
            regions[:, 2:] += regions[:, :2]
        found[name] = (regions, table[:, -1])
    return found


def write_detections(detections: Regions, names: Sequence[str], path: str | Path) -> None:
    """Write FDDB's format, pictures in the order of `names` as its program demands."""
    lines: list[str] = []
    for name in names:
        regions, scores = pair(name, detections[name], (4, 5))
        lines += [key(name), str(len(scores))]
        rows = regions.copy()
        if rows.shape[1] == 4:
            rows[:, 2:] -= rows[:, :2]
        for row, score in zip(rows, scores, strict=True):
            lines.append(" ".join(f"{value:.9g}" for value in (*row, score)))
    files.write_text(path, "\n".join(lines) + "\n")


def _by_name(
    detections: Regions, samples: Sequence[Sample], mode: Mode
) -> dict[str, tuple[Floats, Floats]]:
    if mode not in ("official", "exact"):
        raise ProtocolError(f"expected mode 'official' or 'exact', got {mode!r}")
    known = {key(sample.name) for sample in samples}
    found = {key(name): pair(name, faces, (4, 5)) for name, faces in detections.items()}
    unknown = set(found) - known
    if unknown:
        raise DataError(
            f"detections for {len(unknown)} pictures that are not among the samples, e.g. "
            f"{min(unknown)!r}; names look like '2002/08/11/big/img_591'"
        )
    return found


def _ellipses(sample: Sample) -> Floats:
    if "ellipse" not in sample.attributes:
        raise DataError(f"{sample.name}: no ellipses; read the samples with datasets.fddb.read")
    return np.asarray(sample.attributes["ellipse"], np.float64).reshape(-1, 5)


def _size(sample: Sample) -> tuple[int, int]:
    return sample.image_size or read_size(sample.path)


def _assign(shared: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(shared, maximize=True)
    return np.asarray(rows), np.asarray(columns)


def _steps(shared: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """Thresholds (K,) of one picture, and what each adds: false positives, hits, overlap (K, 3)."""
    thresholds, last = np.unique(-scores, return_index=True)
    ends = np.append(last[1:], len(scores))
    counts = np.zeros((len(thresholds), 3))
    touches = np.asarray(shared.sum(axis=1) > 0)
    hits = total = 0.0
    for step, end in enumerate(ends):
        if touches[last[step] : end].any():
            part = shared[:end][touches[:end]]
            rows, columns = _assign(part)
            pairs = part[rows, columns]
            hits, total = float(np.count_nonzero(pairs > 0.5)), float(pairs.sum())
        counts[step] = end - hits, hits, total
    return -thresholds, np.diff(counts, axis=0, prepend=0)


def _merge(rows: Sequence[tuple[Floats, Floats]], faces: int) -> Roc:
    thresholds = np.concatenate([np.zeros(0), *(row[0] for row in rows)])
    added = np.concatenate([np.zeros((0, 3)), *(row[1] for row in rows)])
    order = np.argsort(-thresholds, kind="stable")
    thresholds, sums = thresholds[order], np.cumsum(added[order], axis=0)
    last = np.append(thresholds[1:] != thresholds[:-1], len(thresholds) > 0)
    last = last[: len(thresholds)]
    rates = sums[last, 1:] / max(faces, 1)
    return Roc(thresholds[last], np.round(sums[last, 0]), rates[:, 0], rates[:, 1])


def _inputs(boxes: Floats) -> Floats:
    if len(boxes) == 0:
        return np.zeros((0, 5))
    return np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2], np.ones(len(boxes))])


def _fit(pairs: list[tuple[Floats, Floats]], fold: str) -> Floats:
    """(5, 5) coefficients from x, y, w, h, 1 to an ellipse whose angle counts from upright."""
    if len(pairs) < 10:
        raise ProtocolError(f"only {len(pairs)} hits outside fold {fold}, too few to fit a rule")
    target = np.array([truth for _, truth in pairs])
    target[:, 2] = (target[:, 2] + np.pi) % np.pi - np.pi / 2
    inputs = _inputs(np.array([box for box, _ in pairs]))
    scale = inputs.std(axis=0)
    scale[-1] = 1
    rule, *_ = np.linalg.lstsq(inputs / np.maximum(scale, 1e-9), target, rcond=None)
    return np.asarray(rule / np.maximum(scale, 1e-9)[:, None])
