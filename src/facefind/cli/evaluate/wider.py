"""`facefind evaluate wider`: average precision of WIDER FACE."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from facefind.cli import output
from facefind.cli.evaluate.detections import DetectionOptions, LabeledSet, find
from facefind.cli.evaluate.reporting import CurveOptions, check_outputs, remarks, report
from facefind.cli.options import File
from facefind.evaluation.wider import Mode

if TYPE_CHECKING:
    from facefind.evaluation.wider import WiderResult

__all__ = ["run"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Wider(CurveOptions, DetectionOptions, LabeledSet):
    """Evaluate average precision under the WIDER FACE protocol.

    --data is the official folder of .mat files, which needs --images, too; or any labeled set,
    whose faces then count by their height. Faces of images that are not there, or have no
    detections, count as missed.
    """

    subset: File = None
    """A list of image names, one a line: count these images alone."""
    mode: Mode = "official"
    """How a detection matches a face: as the authors' toolbox, or by the best exact overlap."""


def run(args: Sequence[str], command: str) -> int:
    """Exit code 0 once the result is out, 1 where images could not be read."""
    from facefind.datasets.files import present
    from facefind.evaluation.wider import evaluate, ground_truth, image_files

    options = tyro.cli(_Wider, args=args, prog="facefind evaluate wider")
    check_outputs(options)
    options.check()
    truth = ground_truth(options.data, options.images)
    names = truth.names
    if options.subset is not None:
        names = truth.only(options.subset.read_text(encoding="utf-8").splitlines()).names
    paths, absent = dict[str, Path](), list[str]()
    if options.model is not None:
        paths, absent = present(image_files(names, options.data, options.images), options.data)
    found = find(options, paths)
    result = evaluate(found.faces, truth, options.mode, None if options.subset is None else names)
    more = {"images_absent": absent, "images_failed": found.failed}
    lines = [_table(result), "", f"{result.protocol}; {result.image_set}, {result.images} images"]
    lines += remarks(found.source, result.missing, absent, found.failed)
    report(options, "wider", result, "\n".join(lines), command, found.source, **more)
    return 1 if found.failed else 0


def _table(result: WiderResult) -> str:
    rows = [
        (subset, f"{100 * result.ap[subset]:.2f}", f"{100 * result.ap_98[subset]:.2f}", str(faces))
        for subset, faces in result.faces.items()
    ]
    return output.table(("faces", "AP", "AP at 98% precision", "count"), rows, right=(1, 2, 3))
