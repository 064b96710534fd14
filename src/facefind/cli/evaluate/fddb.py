"""`facefind evaluate fddb`: discrete and continuous ROC curves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import tyro

from facefind.cli import output
from facefind.cli.evaluate.detections import DetectionOptions, LabeledSet, find
from facefind.cli.evaluate.reporting import CurveOptions, check_outputs, remarks, report
from facefind.evaluation.regions import Mode

if TYPE_CHECKING:
    from facefind.datasets import Sample
    from facefind.evaluation.fddb import FddbResult

__all__ = ["run"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Fddb(CurveOptions, DetectionOptions, LabeledSet):
    """Evaluate ROC curves under the FDDB protocol, all folds pooled.

    --data is a list of ellipses, or the folder of FDDB-fold-XX-ellipseList.txt files.

    Images that are not there are left out with their faces, and named. Boxes are judged as they
    are unless --shape turns them into ellipses.
    """

    mode: Mode = "official"
    """How overlaps are taken: of OpenCV's filled shapes, as the authors do, or of exact areas."""
    shape: Literal["box", "ellipse", "fitted"] = "box"
    """Judge the boxes, upright ellipses made from them in closed form, or ellipses by a rule that
    is fitted on the other folds."""


def run(args: Sequence[str], command: str) -> int:
    """Exit code 0 once the result is out, 1 where images could not be read."""
    from facefind.datasets.files import present
    from facefind.evaluation import fddb

    options = tyro.cli(_Fddb, args=args, prog="facefind evaluate fddb")
    check_outputs(options)
    options.check()
    every = options.samples("fddb")
    paths, absent = present({sample.name: sample.path for sample in every}, options.data)
    samples = [sample for sample in every if sample.name in paths]
    found = find(options, paths, fddb.read_detections)
    faces = _only_present(found.faces, samples, absent)
    faces = _shaped(faces, samples, options)
    result = fddb.evaluate(faces, samples, options.mode)
    lines = [_table(result), ""]
    lines.append(
        f"{result.protocol}; {result.images} images, {result.faces} faces, {options.shape}"
    )
    means = "left out with their faces"
    lines += remarks(found.source, result.missing, absent, found.failed, means)
    more = {"images_absent": absent, "images_failed": found.failed, "shape": options.shape}
    more["image_set"] = f"FDDB, {len({sample.group for sample in samples})} folds"
    report(options, "fddb", result, "\n".join(lines), command, found.source, **more)
    return 1 if found.failed else 0


def _only_present(
    faces: Mapping[str, Any], samples: Sequence[Sample], absent: Sequence[str]
) -> dict[str, Any]:
    """The faces without those of images that are labeled but not there."""
    from facefind.evaluation.detections import key

    left_out = {key(name) for name in absent}
    return {name: value for name, value in faces.items() if key(name) not in left_out}


def _shaped(faces: dict[str, Any], samples: Sequence[Sample], options: _Fddb) -> dict[str, Any]:
    from facefind.evaluation import fddb
    from facefind.evaluation.detections import pair

    if options.shape == "box":
        return faces
    if options.shape == "fitted":
        return dict(fddb.refit(faces, samples, options.mode))
    pairs = {name: pair(name, value) for name, value in faces.items()}
    return {name: (fddb.ellipses(boxes), scores) for name, (boxes, scores) in pairs.items()}


def _table(result: FddbResult) -> str:
    rows = [
        (f"{limit:,}", f"{100 * rate:.2f}", f"{100 * result.continuous[limit]:.2f}")
        for limit, rate in result.discrete.items()
    ]
    return output.table(("false positives", "discrete", "continuous"), rows, right=(0, 1, 2))
