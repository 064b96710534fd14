"""`facefind evaluate pascal` and `afw`: average precision as the face-eval toolbox takes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tyro

from facefind.cli import output
from facefind.cli.evaluate.detections import DetectionOptions, LabeledSet, find
from facefind.cli.evaluate.reporting import CurveOptions, check_outputs, remarks, report

__all__ = ["run"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _FaceEval(CurveOptions, DetectionOptions, LabeledSet):
    """Evaluate average precision on PASCAL faces or AFW, under the face-eval toolbox's protocol.

    --data is the toolbox's .mat label file or its folder; or any labeled set.

    Faces of images that are not there, or have no detections, count as missed.
    """

    refits: int = 4
    """Rounds in which all boxes are moved and scaled by the mean offset of the hits; 0 for none."""
    min_side: float = 30
    """Least width and height of a face that counts, in pixels."""
    top_shift: float = 0.0
    """Lower each box's top by this part of its height beforehand; S3FD's script takes 0.2."""


def run(args: Sequence[str], command: str, measure: str) -> int:
    """Exit code 0 once the result is out, 1 where images could not be read."""
    from facefind.datasets.files import present
    from facefind.evaluation import voc

    options = tyro.cli(_FaceEval, args=args, prog=f"facefind evaluate {measure}")
    check_outputs(options)
    options.check()
    samples = options.samples()
    paths, absent = dict[str, Path](), list[str]()
    if options.model is not None:
        paths, absent = present({sample.name: sample.path for sample in samples}, options.data)
    found = find(options, paths, voc.read_detections)
    result = voc.evaluate(
        found.faces,
        samples,
        refits=options.refits,
        min_side=options.min_side,
        top_shift=options.top_shift,
    )
    rows = [(measure.upper(), f"{100 * result.ap:.2f}", str(result.faces), str(result.ignored))]
    lines = [output.table(("set", "AP", "faces", "ignored"), rows, right=(1, 2, 3)), ""]
    lines.append(f"{result.protocol}; {result.images} images")
    lines += remarks(found.source, result.missing, absent, found.failed)
    mode = {"refits": options.refits, "min_side": options.min_side, "top_shift": options.top_shift}
    more = {"mode": mode, "images_absent": absent, "images_failed": found.failed}
    report(options, measure, result, "\n".join(lines), command, found.source, **more)
    return 1 if found.failed else 0
