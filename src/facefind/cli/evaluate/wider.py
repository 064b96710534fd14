"""`facefind evaluate wider`: average precision of WIDER FACE."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from facefind.cli import output
from facefind.cli.evaluate.detections import Finding, find
from facefind.cli.evaluate.reporting import Drawing, remarks, tell
from facefind.cli.options import File
from facefind.errors import DataError
from facefind.evaluation.wider import Mode

if TYPE_CHECKING:
    from facefind.evaluation.wider import GroundTruth, WiderResult

__all__ = ["ground_truth", "located", "run"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Wider(Drawing, Finding):
    """Measure average precision under the WIDER FACE protocol.

    Give either --model and --images, or --detections. Faces of images that are not there, or have
    no detections, count as missed.
    """

    labels: Annotated[Path, tyro.conf.arg(metavar="DIR|FILE")]
    """The official folder of .mat files; or any labels, whose faces then count by their height."""
    subset: File = None
    """A list of image names, one a line: count these images alone."""
    mode: Mode = "official"
    """How a detection meets a face: as the authors' toolbox, or by the best exact overlap."""


def run(args: Sequence[str], command: str) -> int:
    """Exit code 0 once the result is told, 1 where images could not be read."""
    from facefind.evaluation.wider import evaluate

    asked = tyro.cli(_Wider, args=args, prog="facefind evaluate wider")
    asked.check()
    truth = ground_truth(asked.labels)
    names = truth.names
    if asked.subset is not None:
        names = truth.only(asked.subset.read_text(encoding="utf-8").splitlines()).names
    paths: dict[str, Path] = {}
    absent: tuple[str, ...] = ()
    if asked.model is not None:
        if asked.images is None:
            raise DataError("--model needs --images, the folder that holds the labeled images")
        paths, absent = located(names, asked.images, asked.labels)
    found = find(asked, paths)
    result = evaluate(found.faces, truth, asked.mode, None if asked.subset is None else names)
    more = {"images_absent": list(absent), "images_failed": found.failed}
    lines = [_table(result), "", f"{result.protocol}; {result.image_set}, {result.images} images"]
    lines += remarks(found.source, result.missing, absent, found.failed)
    tell(asked, "wider", result, "\n".join(lines), command, found.source, **more)
    return 1 if found.failed else 0


def located(
    names: Sequence[str], images: Path, labels: Path
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Files of the labeled pictures by name, and the names of those that are not there.

    Raises:
        DataError: where none is.
    """
    from facefind.datasets.files import locate

    paths = locate(names, images, labels, "keep")
    absent = tuple(name for name, path in paths.items() if not path.is_file())
    if names and len(absent) == len(names):
        locate(names, images, labels, "error")
    return {name: path for name, path in paths.items() if path.is_file()}, absent


def ground_truth(labels: Path) -> GroundTruth:
    """The official labels of a folder of .mat files, or of any set by face height."""
    from facefind.datasets import read_labels
    from facefind.evaluation.wider import from_samples, read_ground_truth

    if (labels / "wider_face_val.mat").exists():
        return read_ground_truth(labels)
    return from_samples(read_labels(labels), title=labels.name)


def _table(result: WiderResult) -> str:
    rows = [
        (subset, f"{100 * result.ap[subset]:.2f}", f"{100 * result.ap_98[subset]:.2f}", str(faces))
        for subset, faces in result.faces.items()
    ]
    return output.table(("faces", "AP", "AP at 98% precision", "count"), rows, right=(1, 2, 3))
