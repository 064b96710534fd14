"""`facefind evaluate pascal` and `afw`: average precision as the face-eval toolbox takes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from facefind.cli import output
from facefind.cli.evaluate.detections import Finding, find
from facefind.cli.evaluate.reporting import Drawing, remarks, tell
from facefind.errors import DataError

__all__ = ["run"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _FaceEval(Drawing, Finding):
    """Measure average precision on PASCAL faces or AFW, under the face-eval toolbox's protocol.

    Faces of images that are not there, or have no detections, count as missed.
    """

    labels: Annotated[Path, tyro.conf.arg(metavar="DIR|FILE")]
    """The toolbox's .mat label file or its folder; or any labels."""
    refits: int = 4
    """Rounds in which all boxes are moved and scaled by the mean offset of the hits; 0 for none."""
    min_side: float = 30
    """Least width and height of a face that counts, in pixels."""
    top_shift: float = 0.0
    """Lower each box's top by this part of its height beforehand; S3FD's script takes 0.2."""


def run(args: Sequence[str], command: str, measure: str) -> int:
    """Exit code 0 once the result is told, 1 where images could not be read."""
    from facefind.datasets import read_labels
    from facefind.evaluation import voc

    asked = tyro.cli(_FaceEval, args=args, prog=f"facefind evaluate {measure}")
    asked.check()
    samples = read_labels(asked.labels, images=asked.images)
    paths = {sample.name: sample.path for sample in samples if sample.path.is_file()}
    absent = []
    if asked.model is not None:
        absent = [sample.name for sample in samples if sample.name not in paths]
        if not paths:
            raise DataError(
                f"{asked.labels}: none of the {len(samples)} labeled images is there; give their "
                "folder with --images"
            )
    found = find(asked, paths, voc.read_detections)
    result = voc.evaluate(
        found.faces,
        samples,
        refits=asked.refits,
        min_side=asked.min_side,
        top_shift=asked.top_shift,
    )
    rows = [(measure.upper(), f"{100 * result.ap:.2f}", str(result.faces), str(result.ignored))]
    lines = [output.table(("set", "AP", "faces", "ignored"), rows, right=(1, 2, 3)), ""]
    lines.append(f"{result.protocol}; {result.images} images")
    lines += remarks(found.source, result.missing, absent, found.failed)
    settings = {"refits": asked.refits, "min_side": asked.min_side, "top_shift": asked.top_shift}
    more = {"mode": settings, "images_absent": absent, "images_failed": found.failed}
    tell(asked, measure, result, "\n".join(lines), command, found.source, **more)
    return 1 if found.failed else 0
