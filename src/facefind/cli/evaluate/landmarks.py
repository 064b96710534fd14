"""`facefind evaluate landmarks`: error of facial points."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import tyro

from facefind.cli import output
from facefind.cli.evaluate.detections import DetectionOptions, LabeledSet, find
from facefind.cli.evaluate.reporting import CurveOptions, check_outputs, remarks, report
from facefind.cli.options import File
from facefind.errors import DataError
from facefind.evaluation.detections import key
from facefind.evaluation.report import percent

if TYPE_CHECKING:
    from facefind.evaluation.landmarks import LandmarkResult

__all__ = ["run"]

_POINTS = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Landmarks(CurveOptions, DetectionOptions, LabeledSet):
    """Evaluate the error of five landmarks, as a part of the root of the labeled box's area.

    --data is any set with landmarks: COCO keypoints, RetinaFace's or SCRFD's labels, AFLW,
    AFLW2000-3D. The error is given by point and by size of the face, and by yaw where the labels
    have the head's. Images that are not there are left out with their faces, and named.
    """

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
    """Exit code 0 once the result is out, 1 where images could not be read."""
    from facefind.datasets import only
    from facefind.datasets.files import present
    from facefind.evaluation import landmarks

    options = tyro.cli(_Landmarks, args=args, prog="facefind evaluate landmarks")
    check_outputs(options)
    if options.points_68 is not None:
        return _aflw2000(options, command)
    options.check()
    samples = options.samples()
    if options.subset is not None:
        samples = only(samples, options.subset.read_text(encoding="utf-8").splitlines())
    paths, absent = {sample.name: sample.path for sample in samples}, list[str]()
    if options.model is not None:
        paths, absent = present(paths, options.data)
        samples = [sample for sample in samples if sample.name in paths]
    found = find(options, paths)
    counted = {key(sample.name) for sample in samples}
    faces = {
        name: record
        for name, record in found.faces.items()
        if options.subset is None or key(name) in counted
    }
    rule = {"limit": options.limit, "min_iou": options.min_iou}
    result = landmarks.evaluate(faces, samples, **rule)
    if not result.faces:
        raise DataError(f"{options.data}: no face has points to compare with")
    sizes, yaw = landmarks.by_size(result), landmarks.found_by_yaw(result)
    lines = [_table(result), ""]
    if len(sizes) > 1:
        lines += [_size_table(sizes), ""]
    if yaw:
        lines += [_yaw_table(yaw), ""]
    lines.append(f"{result.protocol}; {result.images} images")
    means = "left out with their faces"
    lines += remarks(found.source, result.missing, absent, found.failed, means)
    more: dict[str, Any] = {"images_absent": absent, "images_failed": found.failed}
    more |= {"mode": rule, "by_size": sizes} | ({"nme_by_yaw": yaw} if yaw else {})
    report(options, "landmarks", result, "\n".join(lines), command, found.source, **more)
    return 1 if found.failed else 0


def _aflw2000(options: _Landmarks, command: str) -> int:
    from facefind.evaluation import landmarks

    if options.model or options.detections:
        raise DataError("--points-68 excludes --model and --detections")
    assert options.points_68 is not None
    points = landmarks.read_points(options.points_68)
    result = landmarks.aflw2000(points, options.samples("aflw2000"), limit=options.limit)
    whole = (f"{100 * result.failure_rate:.2f}", f"{100 * result.auc:.2f}")
    header = (f"failures % (> {100 * result.limit:g} %)", "AUC %")
    notes = f"{result.to_dict()['protocol']}; {result.images} images"
    tables = _yaw_table(result.nme_by_yaw), output.table(header, [whole], right=range(2))
    text = "\n\n".join([*tables, notes])
    source = {"detections_from": str(options.points_68)}
    mode = {"limit": options.limit}
    report(options, "landmarks", result, text, command, source, mode=mode)
    return 0


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


def _yaw_table(nme: Mapping[str, float]) -> str:
    cells = [(name, f"{100 * value:.2f}") for name, value in nme.items()]
    return output.table(("yaw, degrees", "NME %"), cells, right=(1,))
