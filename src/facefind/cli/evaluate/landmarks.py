"""`facefind evaluate landmarks`: error of facial points."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import tyro

from facefind.cli import output
from facefind.cli.evaluate.detections import Finding, find
from facefind.cli.evaluate.reporting import Drawing, remarks, tell
from facefind.cli.options import File
from facefind.errors import DataError
from facefind.evaluation.detections import key
from facefind.evaluation.report import percent

if TYPE_CHECKING:
    from facefind.datasets import Sample
    from facefind.evaluation.landmarks import LandmarkResult

__all__ = ["run"]

_POINTS = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Landmarks(Drawing, Finding):
    """Measure the error of five points, as part of the root of the labeled box's area.

    Labels are any set with points: COCO keypoints, RetinaFace's or SCRFD's labels, AFLW,
    AFLW2000-3D. The error is told by point and by size of the face, and by yaw where the labels
    tell the head's. Images that are not
    there are left out with their faces, and named.
    """

    labels: Annotated[Path, tyro.conf.arg(metavar="DIR|FILE")]
    """The labeled set."""
    subset: File = None
    """A list of image names, one a line: count these images alone."""
    limit: float = 0.1
    """Error above which a face is a failure; the cumulative curve and its area end there."""
    min_iou: float = 0.3
    """Least overlap of a found box with the labeled one."""
    points_68: File = None
    """AFLW2000-3D instead by 68 points found elsewhere: an .npz file with an array (68, 2) or
    (68, 3) a picture, under the picture's name."""


def run(args: Sequence[str], command: str) -> int:
    """Exit code 0 once the result is told, 1 where images could not be read."""
    from facefind.datasets import only, read_labels
    from facefind.evaluation import landmarks

    asked = tyro.cli(_Landmarks, args=args, prog="facefind evaluate landmarks")
    if asked.points_68 is not None:
        return _aflw2000(asked, command)
    asked.check()
    every = read_labels(asked.labels, images=asked.images)
    if asked.subset is not None:
        every = only(every, asked.subset.read_text(encoding="utf-8").splitlines())
    samples, absent = every, list[str]()
    if asked.model is not None:
        samples = [sample for sample in every if sample.path.is_file()]
        absent = [sample.name for sample in every if not sample.path.is_file()]
        if not samples:
            wanted = f", such as {every[0].path}" if every else ""
            raise DataError(
                f"{asked.labels}: none of the {len(every)} labeled images is there{wanted}; "
                "--images is the folder that the names in the labels begin in"
            )
    found = find(asked, {sample.name: sample.path for sample in samples})
    counted = {key(sample.name) for sample in samples}
    faces = {
        name: _pointed(name, record)
        for name, record in found.faces.items()
        if asked.subset is None or key(name) in counted
    }
    rule = {"limit": asked.limit, "min_iou": asked.min_iou}
    result = landmarks.evaluate(faces, samples, **rule)
    if not result.faces:
        raise DataError(f"{asked.labels}: no face has points to compare with")
    yaw = _by_yaw(faces, samples, rule)
    sizes = landmarks.by_size(result)
    lines = [_table(result), ""]
    if len(sizes) > 1:
        lines += [_size_table(sizes), ""]
    if yaw:
        cells = [(name, f"{100 * value:.2f}") for name, value in yaw.items()]
        lines += [output.table(("yaw, degrees", "NME %"), cells, right=(1,)), ""]
    lines.append(f"{result.protocol}; {len(samples)} images")
    seen = {name.rpartition(".")[0] for name in found.faces} | set(found.faces)
    missing = [s.name for s in samples if not {s.name, s.name.rpartition(".")[0]} & seen]
    means = "left out with their faces"
    lines += remarks(found.source, missing, absent, found.failed, means)
    more: dict[str, Any] = {"images": len(samples), "images_without_detections": missing}
    more |= {"images_absent": absent, "images_failed": found.failed, "mode": rule}
    more["by_size"] = sizes
    if yaw:
        more["nme_by_yaw"] = yaw
    tell(asked, "landmarks", result, "\n".join(lines), command, found.source, **more)
    return 1 if found.failed else 0


def _pointed(name: str, record: Any) -> tuple[Any, Any]:
    points = getattr(record, "landmarks", None)
    if points is None and not len(getattr(record, "boxes", [None])):
        return record.boxes, np.zeros((0, 5, 2))
    if points is None:
        raise DataError(
            f"{name}: faces without points; take a model that finds them (facefind models says "
            'which do), or JSON lines with "landmarks"'
        )
    return record.boxes, points


def _by_yaw(
    faces: Mapping[str, Any], samples: Sequence[Sample], rule: Mapping[str, float]
) -> dict[str, float]:
    """Mean error in each bin of absolute yaw, their mean and deviation; empty without yaw."""
    from facefind.evaluation import landmarks

    turns = [_yaw(sample) for sample in samples]
    if not turns or any(turn is None for turn in turns):
        return {}
    errors, yaw = [], []
    for low, high in landmarks.YAW_BINS:
        inside = []
        for sample, turn in zip(samples, turns, strict=True):
            assert turn is not None
            keep = (np.abs(turn) <= high) & ((np.abs(turn) > low) | (low == 0))
            inside.append(sample[keep])
        part = landmarks.evaluate(faces, inside, **rule)
        good = part.errors[np.isfinite(part.errors)]
        if not len(good):
            return {}
        errors.append(good)
        yaw.append(np.full(len(good), high))
    return landmarks.by_yaw(np.concatenate(errors), np.concatenate(yaw))


def _yaw(sample: Sample) -> npt.NDArray[np.float64] | None:
    """(G,) yaw in degrees, or None where the labels do not tell it."""
    if "pose" not in sample.attributes:
        return None
    pose = np.asarray(sample.attributes["pose"], np.float64)
    if "points_68" in sample.attributes:  # AFLW2000-3D: pitch, yaw, roll in degrees
        return np.asarray(pose[:, 1])
    return np.asarray(np.degrees(pose[:, 2]))  # AFLW: roll, pitch, yaw in radians


def _table(result: LandmarkResult) -> str:
    whole = (
        f"{100 * result.nme:.2f}",
        f"{100 * result.failure_rate:.2f}",
        f"{100 * result.auc:.2f}",
        str(result.faces),
        str(result.missed),
    )
    header = ("NME %", f"failures % (> {100 * result.limit:g} %)", "AUC %", "faces", "not found")
    rows = [
        (name, f"{100 * error:.2f}")
        for name, error in zip(_POINTS, result.per_landmark, strict=True)
    ]
    points = output.table(("point", "NME %"), rows, right=(1,))
    return output.table(header, [whole], right=range(5)) + "\n\n" + points


def _size_table(sizes: Mapping[str, Mapping[str, float]]) -> str:
    header = ("size of the face, pixels", "NME %", "failures %", "faces", "not found")
    rows = [
        (
            name,
            percent(part["nme"]),
            percent(part["failure_rate"]),
            str(part["faces"]),
            str(part["missed"]),
        )
        for name, part in sizes.items()
    ]
    return output.table(header, rows, right=range(1, 5))


@dataclasses.dataclass(frozen=True)
class _Yaw:
    """Errors of 68 points by yaw, as a result that can be told."""

    nme_by_yaw: dict[str, float]
    digest: str
    images: int

    def to_dict(self, *, curves: bool = False) -> dict[str, Any]:
        return {
            "protocol": "AFLW2000-3D, 68 points, NME by sqrt(W x H) of their box, by fitted yaw",
            "digest": self.digest,
            "images": self.images,
            "nme": self.nme_by_yaw["mean"],
            "failure_rate": None,
            "auc": None,
            "nme_by_yaw": self.nme_by_yaw,
        }


def _aflw2000(asked: _Landmarks, command: str) -> int:
    from facefind.datasets import digest, read_labels
    from facefind.evaluation import landmarks

    if asked.model or asked.detections or asked.figure:
        raise DataError("--points-68 stands alone: neither --model, --detections nor --figure")
    assert asked.points_68 is not None
    samples = read_labels(asked.labels, layout="aflw2000", images=asked.images)
    try:
        with np.load(asked.points_68) as stored:
            points = {name: np.asarray(stored[name]) for name in stored.files}
    except (OSError, ValueError) as error:
        raise DataError(f"{asked.points_68}: wanted an .npz file of points ({error})") from None
    yaw = landmarks.aflw2000(points, samples)
    result = _Yaw(yaw, digest(samples), len(samples))
    cells = [(name, f"{100 * value:.2f}") for name, value in yaw.items()]
    lines = [output.table(("yaw, degrees", "NME %"), cells, right=(1,)), ""]
    lines.append(f"{result.to_dict()['protocol']}; {len(samples)} images")
    source = {"detections_from": str(asked.points_68)}
    tell(asked, "landmarks", result, "\n".join(lines), command, source)
    return 0
