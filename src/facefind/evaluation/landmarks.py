"""Errors of facial landmarks: NME, cumulative error curves, failure rates, yaw bins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from facefind.boxes import match
from facefind.datasets.sample import Sample, digest
from facefind.errors import DataError, ProtocolError
from facefind.evaluation.detections import key, listed

Floats = npt.NDArray[np.float64]
SIZE_BINS = (0.0, 16.0, 32.0, 64.0, 128.0, float("inf"))


@dataclass(frozen=True)
class LandmarkResult:
    """Errors as parts of the face's size, over the labeled faces that were found.

    `nme` is their mean, `failure_rate` the part of errors above `limit`, `auc` the area
    below the cumulative error curve up to `limit`, as part of the whole. Faces that no
    detection covers are `missed`: left out of `nme`, but failures of the other two.
    `per_landmark` holds the mean error of each landmark. `sizes` (F,) in pixels and `yaws` (F,)
    in degrees, NaN where the labels do not say, are those of the faces in the order of `errors`
    (F,), whose missed ones, at the end, are infinite. `missing` names the pictures that nothing
    was given for.
    """

    protocol: str
    digest: str
    images: int
    missing: tuple[str, ...]
    faces: int
    missed: int
    nme: float
    failure_rate: float
    auc: float
    limit: float
    per_landmark: tuple[float, ...]
    errors: Floats = field(repr=False)
    sizes: Floats = field(repr=False)
    yaws: Floats = field(repr=False)

    def to_dict(self, *, curves: bool = False) -> dict[str, Any]:
        """The result in plain types, ready for JSON; errors too where `curves` is true."""
        plain = listed(self, "errors", "sizes", "yaws")
        plain["per_landmark"] = list(self.per_landmark)
        if curves:
            plain["errors"] = np.sort(self.errors).tolist()
        return plain


def nme(found: Floats, truth: Floats, size: Floats) -> Floats:
    """(F,) mean distance of the labeled landmarks over the face's size.

    `found`, `truth` (F, K, 2) pixels, NaN in `truth` where one is not labeled (left out);
    `size` (F,) in pixels, the root of width times height in all protocols here. A face without
    any labeled landmark is NaN.
    """
    return np.asarray(_row_mean(_distances(found, truth)) / size)


def cumulative(errors: Floats, at: Floats) -> Floats:
    """Part of the errors that are at most each value of `at`; infinite errors never are."""
    if len(errors) == 0:
        return np.zeros(len(at))
    return np.asarray(np.searchsorted(np.sort(errors), at, side="right") / len(errors))


def auc(errors: Floats, limit: float) -> float:
    """Area below the cumulative error curve from 0 to `limit`, as part of that span, exactly."""
    if len(errors) == 0:
        return 0.0
    return float(np.mean(np.maximum(limit - errors, 0)) / limit)


def evaluate(
    faces: Mapping[str, Any],
    samples: Sequence[Sample],
    *,
    limit: float = 0.1,
    min_iou: float = 0.3,
) -> LandmarkResult:
    """Error of five landmarks on every labeled face, normalized by the root of its box's area.

    By falling score, each detection takes the labeled face that it covers best and that is
    still free, if their IoU is at least `min_iou`; so a face is judged by the detection that
    a user would see. The least overlap is low because sets draw boxes differently.

    Args:
        faces: picture name to found faces, with boxes (N, 4) and landmarks (N, 5, 2) by falling
            score, or to a pair of these.
        samples: labeled pictures; faces without landmarks or ignored ones are passed over.
        limit: error above which a face is a failure.
        min_iou: least overlap of box and labeled box.

    Raises:
        DataError: where detections lack landmarks, or their picture is unknown.

    Source: RetinaFace, sec. 4.5 (normalized by the root of W x H, failures above 10 %).
    """
    known = {key(sample.name) for sample in samples}
    found = {key(name): _points(name, value) for name, value in faces.items()}
    if unknown := set(found) - known:
        raise DataError(f"landmarks for {min(unknown)!r}, which is not among the samples")
    distances = [np.zeros((0, 5))]
    hit, missed = [np.zeros((0, 2))], [np.zeros((0, 2))]  # size and yaw of each face
    for sample in samples:
        kept = sample[np.isfinite(sample.landmarks).any(axis=(1, 2)) & ~sample.ignore]
        boxes, points = found.get(key(sample.name), (np.zeros((0, 4)), np.zeros((0, 5, 2))))
        truth = kept.boxes.astype(np.float64)
        sides = truth[:, 2:] - truth[:, :2]
        sizes = np.sqrt(sides.prod(axis=1))
        facts = np.stack([sizes, _yaw(kept)], axis=1)
        matched = match(boxes, truth, min_iou)
        missed.append(np.delete(facts, [face for _, face in matched], axis=0))
        for detection, face in matched:
            off = _distances(points[detection], kept.landmarks[face].astype(np.float64))
            distances.append(off[None] / sizes[face])
            hit.append(facts[face : face + 1])
    table = np.concatenate(distances)
    errors = _row_mean(table)
    lost = sum(map(len, missed))
    every = np.concatenate([errors, np.full(lost, np.inf)])
    facts = np.concatenate([*hit, *missed])
    return LandmarkResult(
        protocol=f"NME by sqrt(W x H) of the labeled box, detections of IoU >= {min_iou:g}",
        digest=digest(samples),
        images=len(samples),
        missing=tuple(sample.name for sample in samples if key(sample.name) not in found),
        faces=len(every),
        missed=lost,
        nme=float(errors.mean()) if len(errors) else float("nan"),
        failure_rate=float(np.mean(every > limit)) if len(every) else float("nan"),
        auc=auc(every, limit),
        limit=limit,
        per_landmark=tuple(_row_mean(table.T).tolist()),
        errors=every,
        sizes=facts[:, 0],
        yaws=facts[:, 1],
    )


def by_size(result: LandmarkResult) -> dict[str, dict[str, float]]:
    """Faces, missed ones, NME and failure rate by size, the root of width times height in pixels.

    Bins are [0, 16), [16, 32), [32, 64), [64, 128) and from 128 on; empty ones are left out. The
    NME of a bin whose faces are all missed is NaN. Tiny faces decide the error of sets like WIDER
    FACE, so that one figure for all sizes says little.
    """
    bins: dict[str, dict[str, float]] = {}
    for low, high in pairwise(SIZE_BINS):
        errors = result.errors[(result.sizes >= low) & (result.sizes < high)]
        good = errors[np.isfinite(errors)]
        if len(errors):
            bins[f"{low:g}-{high:g}" if high < np.inf else f">={low:g}"] = {
                "faces": len(errors),
                "missed": len(errors) - len(good),
                "nme": float(good.mean()) if len(good) else float("nan"),
                "failure_rate": float(np.mean(errors > result.limit)),
            }
    return bins


def found_by_yaw(result: LandmarkResult) -> dict[str, float]:
    """`by_yaw` of the faces that were found; empty unless the labels give every face's yaw.

    It is empty, too, where no face of a bin was found.
    """
    found = np.isfinite(result.errors)
    if not found.any() or np.isnan(result.yaws).any():
        return {}
    try:
        return by_yaw(result.errors[found], result.yaws[found])
    except ProtocolError:
        return {}


def by_yaw(errors: Floats, yaw: Floats) -> dict[str, float]:
    """Mean error in each of `yaw_bins`, their mean, and their standard deviation.

    `errors` (F,), `yaw` (F,) in degrees. Keys: "0-30", "30-60", "60-90", "mean" (of the three bins,
    not of the faces), "std".

    Raises:
        ProtocolError: where a bin is empty.
    """
    result: dict[str, float] = {}
    for name, inside in yaw_bins(yaw).items():
        if not inside.any():
            raise ProtocolError(f"no face with a yaw of {name} degrees to average")
        result[name] = float(np.mean(np.asarray(errors)[inside]))
    means = list(result.values())
    return result | {"mean": float(np.mean(means)), "std": float(np.std(means))}


def yaw_bins(yaw: Floats) -> dict[str, npt.NDArray[np.bool_]]:
    """Which faces (F,) have an absolute yaw (F,) in degrees of [0, 30], (30, 60], or above 60.

    The last is called "60-90", as in tables; the few heads that are turned further are in it.
    """
    turned = np.abs(np.asarray(yaw, np.float64))
    return {"0-30": turned <= 30, "30-60": (turned > 30) & (turned <= 60), "60-90": turned > 60}


@dataclass(frozen=True)
class YawResult:
    """Errors of 68 landmarks by yaw, as `by_yaw` gives them, and the part of them above `limit`.

    `auc` is the area below the cumulative error curve up to `limit`, as part of the whole; `errors`
    and `yaws`, in degrees, are those of the faces (F,).
    """

    nme_by_yaw: dict[str, float]
    failure_rate: float
    auc: float
    limit: float
    digest: str
    images: int
    errors: Floats = field(repr=False)
    yaws: Floats = field(repr=False)

    def to_dict(self, *, curves: bool = False) -> dict[str, Any]:
        """The result in plain types, ready for JSON; errors too where `curves` is true."""
        plain = {
            "protocol": "AFLW2000-3D, 68 points, NME by sqrt(W x H) of their box, by fitted yaw",
            "digest": self.digest,
            "images": self.images,
            "nme": self.nme_by_yaw["mean"],
            "failure_rate": self.failure_rate,
            "auc": self.auc,
            "limit": self.limit,
            "nme_by_yaw": self.nme_by_yaw,
        }
        return plain | ({"errors": np.sort(self.errors).tolist()} if curves else {})


def read_points(path: str | Path) -> dict[str, npt.NDArray[np.floating[Any]]]:
    """Landmarks by picture name, an array a picture, from an .npz file.

    Raises:
        DataError: if it is no such file.
    """
    try:
        with np.load(path) as stored:
            return {name: np.asarray(stored[name]) for name in stored.files}
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: expected an .npz file of points ({error})") from None


def aflw2000(
    points: Mapping[str, npt.NDArray[np.floating[Any]]],
    samples: Sequence[Sample],
    yaw: Literal["pose"] | Mapping[str, float] = "pose",
    *,
    limit: float = 0.1,
) -> YawResult:
    """AFLW2000-3D: 2-D error of 68 points, by yaw bin and as a cumulative curve.

    The error is divided by the root of width times height of the box around the labeled points.

    Args:
        points: picture name to (68, 2) or (68, 3) found points.
        samples: from `datasets.aflw.read_2000`.
        yaw: "pose" bins by the fitted pose in the files (1,312 / 383 / 305 faces); a mapping
            from picture name to degrees takes other labels (papers use AFLW's).
        limit: error above which a face is a failure; the area below the curve ends there.

    Raises:
        DataError: where a picture has no points, or points of another shape.

    Source: RetinaFace, sec. 4.6, fig. 8 (a), after 3DDFA (arXiv:1511.07212).
    Differs: figure 8 (b), of all vertices in 3-D, needs a mesh of the labels' own vertices.
    """
    found = {key(name): np.asarray(value, np.float64) for name, value in points.items()}
    angles = {} if yaw == "pose" else {key(name): value for name, value in yaw.items()}
    errors, turns = [], []
    for sample in samples:
        name = key(sample.name)
        if name not in found or found[name].ndim != 2 or found[name].shape[0] != 68:
            shape = found[name].shape if name in found else "nothing"
            raise DataError(f"{sample.name}: expected 68 points (68, 2), got {shape}")
        truth = np.asarray(sample.attributes["points_68"], np.float64)[:, :, :2]
        sides = truth[0].max(axis=0) - truth[0].min(axis=0)
        errors.append(nme(found[name][None, :, :2], truth, np.sqrt(sides.prod())[None])[0])
        turns.append(
            float(sample.attributes["pose"][0, 1]) if yaw == "pose" else float(angles[name])
        )
    every, yaws = np.array(errors), np.array(turns)
    return YawResult(
        nme_by_yaw=by_yaw(every, yaws),
        failure_rate=float(np.mean(every > limit)),
        auc=auc(every, limit),
        limit=limit,
        digest=digest(samples),
        images=len(samples),
        errors=every,
        yaws=yaws,
    )


def balanced(yaw: Floats, seed: int = 0) -> npt.NDArray[np.int64]:
    """Indices of a subset with as many faces in each yaw bin as the smallest holds.

    Cumulative error curves of AFLW2000-3D are drawn over such a subset (3 x 232 in papers;
    which 232 each, they do not say: here a seeded draw).
    """
    bins = [np.flatnonzero(inside) for inside in yaw_bins(yaw).values()]
    rng = np.random.default_rng(seed)
    count = min(map(len, bins))
    return np.sort(np.concatenate([rng.choice(rows, count, replace=False) for rows in bins]))


def _points(name: str, value: Any) -> tuple[Floats, Floats]:
    boxes, points = value if isinstance(value, tuple) else (value.boxes, value.landmarks)
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    points = np.zeros((0, 5, 2)) if points is None and not len(boxes) else points
    if points is None or np.ndim(points) == 1:  # nothing, or the scores of plain detections
        raise DataError(
            f"{name}: faces without landmarks; take a model that finds them (facefind models says "
            'which do), or JSON lines with "landmarks"'
        )
    points = np.asarray(points, np.float64)
    if points.size == 0:
        points = points.reshape(0, 5, 2)
    if points.shape != (len(boxes), 5, 2):
        raise DataError(f"{name}: expected landmarks ({len(boxes)}, 5, 2), got {points.shape}")
    return boxes, points


def _yaw(sample: Sample) -> Floats:
    """(G,) degrees to the side that the heads are turned; NaN where the labels do not say."""
    pose = np.asarray(sample.attributes.get("pose", ()), np.float64)
    if pose.ndim != 2:  # none, or WIDER FACE's: typical or not
        return np.full(len(sample), np.nan)
    if "points_68" in sample.attributes:  # AFLW2000-3D: pitch, yaw, roll in degrees
        return np.asarray(pose[:, 1])
    return np.asarray(np.degrees(pose[:, 2]))  # AFLW: roll, pitch, yaw in radians


def _distances(found: Floats, truth: Floats) -> Floats:
    return np.asarray(np.linalg.norm(found - truth, axis=-1))


def _row_mean(table: Floats) -> Floats:
    """Mean of each row without its NaN; NaN where nothing is left."""
    known = ~np.isnan(table)
    count = known.sum(axis=1)
    total = np.where(known, table, 0).sum(axis=1)
    return np.asarray(np.divide(total, count, out=np.full(len(table), np.nan), where=count > 0))
