"""`facefind evaluate wider`: average precision of WIDER FACE."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from facefind.cli import output
from facefind.cli.evaluate.detections import DetectionOptions, LabeledSet, find
from facefind.cli.evaluate.reporting import CurveOptions, remarks, report
from facefind.cli.options import File
from facefind.errors import DataError
from facefind.evaluation.wider import Mode

if TYPE_CHECKING:
    from facefind.evaluation.wider import GroundTruth, WiderResult

__all__ = ["ground_truth", "located", "run"]


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
    from facefind.evaluation.wider import evaluate

    options = tyro.cli(_Wider, args=args, prog="facefind evaluate wider")
    options.check()
    truth = ground_truth(options.data)
    names = truth.names
    if options.subset is not None:
        names = truth.only(options.subset.read_text(encoding="utf-8").splitlines()).names
    paths: dict[str, Path] = {}
    absent: tuple[str, ...] = ()
    if options.model is not None:
        paths, absent = located(names, options)
    found = find(options, paths)
    result = evaluate(found.faces, truth, options.mode, None if options.subset is None else names)
    more = {"images_absent": list(absent), "images_failed": found.failed}
    lines = [_table(result), "", f"{result.protocol}; {result.image_set}, {result.images} images"]
    lines += remarks(found.source, result.missing, absent, found.failed)
    report(options, "wider", result, "\n".join(lines), command, found.source, **more)
    return 1 if found.failed else 0


def located(names: Sequence[str], labeled: LabeledSet) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Files of the labeled images by name, and the names of those that are not there.

    Raises:
        DataError: none is there, or official labels come without the folder of the images.
    """
    from facefind.datasets.files import locate
    from facefind.evaluation.detections import key

    if labeled.images is not None:
        paths = locate(names, labeled.images, labeled.data, "keep")
    elif _is_official(labeled.data):
        raise DataError("the official labels come without images: give their folder by --images")
    else:
        files = {key(sample.name): sample.path for sample in labeled.samples()}
        paths = {name: files[name] for name in names}
    absent = tuple(name for name, path in paths.items() if not path.is_file())
    if names and len(absent) == len(names):
        raise DataError(
            f"{labeled.data}: none of the {len(names)} labeled images is there, such as "
            f"{paths[names[0]]}; give their folder by --images"
        )
    return {name: path for name, path in paths.items() if path.is_file()}, absent


def ground_truth(labels: Path) -> GroundTruth:
    """The official labels of a folder of .mat files, or of any set by face height."""
    from facefind.evaluation.wider import from_samples, read_ground_truth

    if _is_official(labels):
        return read_ground_truth(labels)
    return from_samples(LabeledSet(data=labels).samples(), title=labels.name)


def _is_official(labels: Path) -> bool:
    return (labels / "wider_face_val.mat").exists()


def _table(result: WiderResult) -> str:
    rows = [
        (subset, f"{100 * result.ap[subset]:.2f}", f"{100 * result.ap_98[subset]:.2f}", str(faces))
        for subset, faces in result.faces.items()
    ]
    return output.table(("faces", "AP", "AP at 98% precision", "count"), rows, right=(1, 2, 3))
