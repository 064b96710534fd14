"""Precision and recall at every display threshold, and the least threshold of a precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from facefind.boxes import iou as pairwise_iou
from facefind.boxes import match
from facefind.datasets.sample import Sample, digest
from facefind.datasets.selection import check_complete
from facefind.errors import DataError
from facefind.evaluation.detections import Detections, key, pair

__all__ = ["THRESHOLDS", "ThresholdResult", "evaluate"]

Floats = npt.NDArray[np.float64]

THRESHOLDS: Floats = np.arange(1, 100) / 100
"""Scores at which precision and recall are read: .01 to .99."""


@dataclass(frozen=True)
class ThresholdResult:
    """Precision and recall (99,) at each of `THRESHOLDS`, with what they were measured on.

    `precision` is NaN where nothing is found; `recall` and `faces` are by least side of the faces.
    """

    protocol: str
    digest: str
    images: int
    faces: dict[int, int]
    precision: Floats = field(repr=False)
    recall: dict[int, Floats] = field(repr=False)

    def least(self, precision: float) -> float | None:
        """The least threshold at which so much precision is reached; None where none does."""
        good = np.flatnonzero(np.nan_to_num(self.precision) >= precision)
        return float(THRESHOLDS[good[0]]) if len(good) else None

    def at(self, threshold: float) -> dict[str, Any]:
        """What is measured at one of `THRESHOLDS`, in plain types, ready for JSON."""
        row = int(np.argmin(np.abs(THRESHOLDS - threshold)))
        return {
            "measure": "threshold",
            "protocol": self.protocol,
            "digest": self.digest,
            "images": self.images,
            "faces": {f"side>={side}": count for side, count in self.faces.items()},
            "threshold": float(THRESHOLDS[row]),
            "precision": float(self.precision[row]),
            "recall": {f"side>={side}": float(rates[row]) for side, rates in self.recall.items()},
        }


def evaluate(
    detections: Detections,
    samples: Sequence[Sample],
    *,
    iou: float = 0.4,
    min_side: int = 30,
    recall_sides: Sequence[int] = (30, 12),
) -> ThresholdResult:
    """Precision and recall of detections at each of `THRESHOLDS`.

    By falling score, each detection takes the labeled face of best IoU that is still free, if the
    IoU is at least `iou`. Of the others, those that overlap an ignored box as much count neither
    way, the rest are false alarms, and so is a second detection of one face. Every face counts
    that is labeled and not ignored, however small.

    Args:
        detections: picture name to faces or to (boxes xyxy, scores); faces of a picture that is
            left out are missed.
        samples: pictures that are labeled completely.
        iou: least overlap of a detection with its face.
        min_side: precision is that of the detections whose longer side has so many pixels of the
            image or more.
        recall_sides: recall is that of the faces whose longer side has so many pixels or more, one
            rate each.

    Raises:
        DataError: a picture is unknown or comes twice, or the samples are a `partial:` set.
    """
    check_complete(samples, "these samples")
    found: dict[str, tuple[Floats, ...]] = {}
    for name, faces in detections.items():
        if key(name) in found:
            raise DataError(f"two sets of detections for {key(name)!r}")
        found[key(name)] = pair(name, faces)
    if unknown := found.keys() - {key(sample.name) for sample in samples}:
        raise DataError(f"detections for {min(unknown)!r}, which is not among the samples")
    hits, misses = [np.zeros(0)], [np.zeros(0)]
    recalled: dict[int, list[Floats]] = {side: [np.zeros(0)] for side in recall_sides}
    total = dict.fromkeys(recall_sides, 0)
    for sample in samples:
        boxes, scores = found.get(key(sample.name), (np.zeros((0, 4)), np.zeros(0)))
        truth = sample.boxes[~sample.ignore].astype(np.float64)
        pairs = np.array(match(boxes, truth, iou), np.int64).reshape(-1, 2)
        hit = np.zeros(len(boxes), bool)
        hit[pairs[:, 0]] = True
        passed = (pairwise_iou(boxes, sample.boxes[sample.ignore]) >= iou).any(axis=1)
        large = _longer_side(boxes) >= min_side
        hits.append(scores[hit & large])
        misses.append(scores[~hit & ~passed & large])
        for side in recall_sides:
            counted = _longer_side(truth) >= side
            total[side] += int(counted.sum())
            recalled[side].append(scores[pairs[counted[pairs[:, 1]], 0]])
    right, wrong = _at_least(hits), _at_least(misses)
    shown = right + wrong
    return ThresholdResult(
        protocol=f"detections of {min_side} pixels and more, IoU >= {iou:g}, all labeled faces",
        digest=digest(samples),
        images=len(samples),
        faces=total,
        precision=np.divide(right, shown, out=np.full(len(shown), np.nan), where=shown > 0),
        recall={side: _at_least(recalled[side]) / max(total[side], 1) for side in recall_sides},
    )


def _longer_side(boxes: npt.NDArray[np.floating[Any]]) -> Floats:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0), np.float64)


def _at_least(scores: Sequence[Floats]) -> Floats:
    """How many scores reach each threshold."""
    ordered = np.sort(np.concatenate(scores))
    return (len(ordered) - np.searchsorted(ordered, THRESHOLDS, side="left")).astype(np.float64)
