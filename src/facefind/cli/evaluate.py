"""`facefind evaluate`: a published measuring protocol on a labelled set."""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from facefind.cli import output
from facefind.cli.options import File, Flag, Folder, Text, Whole
from facefind.errors import DataError
from facefind.evaluation.wider import GroundTruth, Mode, WiderResult
from facefind.runtimes import Precision, RuntimeName

if TYPE_CHECKING:
    from facefind.faces import Faces

__all__ = ["main", "wider"]

_BATCH = 8
_USAGE = """usage: facefind evaluate wider [OPTION ...]

Measure a model, or detections made elsewhere, on a labelled set.

protocols:
  wider  average precision of WIDER FACE: easy, medium and hard faces

facefind evaluate wider --help tells the options."""


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind evaluate` with these arguments."""
    name, *rest = args or ["--help"]
    if name in ("-h", "--help"):
        print(_USAGE)
        return 0
    if name != "wider":
        raise DataError(f"there is no protocol {name!r}; there is wider")
    asked = tyro.cli(_Wider, args=rest, prog="facefind evaluate wider")
    return wider(asked, command=shlex.join(["facefind", "evaluate", *args]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Wider:
    """Measure average precision under the WIDER FACE protocol.

    Give either --model and --images, or --detections.
    """

    labels: Annotated[Path, tyro.conf.arg(metavar="DIR|FILE")]
    """The official folder of .mat files; or any labels, whose faces then count by their height."""
    model: Text = None
    """A model that ships or an .onnx file."""
    images: Folder = None
    """The folder that holds the labelled images by their names."""
    detections: Annotated[Path | None, tyro.conf.arg(metavar="DIR|FILE")] = None
    """Results at hand: JSON lines as facefind detect writes them, or event/name.txt files."""
    subset: File = None
    """A list of image names, one a line: count these images alone."""
    mode: Mode = "official"
    """How a detection meets a face: as the authors' toolbox, or by the best exact overlap."""
    protocol: str = "vga"
    """How images are scaled and faces merged, with --model."""
    min_score: float = 0.02
    """Leave out the model's faces below this score."""
    runtime: RuntimeName = "auto"
    """The library that runs the model."""
    precision: Precision = "fp32"
    """Numbers it computes with."""
    threads: Whole = None
    """CPU threads; the runtime's own choice where not given."""
    keep: File = None
    """Write the model's detections as JSON lines to this file."""
    curves: Flag = False
    """Have precision and recall at each of the 1000 thresholds in the JSON, too."""
    out: File = None
    """Write the result as JSON to this file."""
    json: Flag = False
    """Print JSON instead of a table."""


def wider(asked: _Wider, command: str) -> int:
    """Exit code 0 once the result is told; it names all that it depends on."""
    from facefind import __version__
    from facefind.evaluation import detections
    from facefind.evaluation.wider import evaluate

    if (asked.model is None) == (asked.detections is None):
        raise DataError("give either --model (with --images) or --detections")
    if not 0 <= asked.min_score <= 1:
        raise DataError(f"--min-score {asked.min_score}: wanted a number from 0 to 1")
    truth = _ground_truth(asked.labels)
    names: Sequence[str] = truth.names
    if asked.subset is not None:
        names = truth.only(asked.subset.read_text(encoding="utf-8").splitlines()).names
    found: detections.Detections
    if asked.detections is not None:
        found = detections.read(asked.detections)
        source: dict[str, Any] = {"detections_from": str(asked.detections)}
    else:
        faces, source = _detect(asked, names)
        found = faces
        if asked.keep is not None:
            asked.keep.parent.mkdir(parents=True, exist_ok=True)
            detections.write_json_lines(found, asked.keep)
    result = evaluate(found, truth, asked.mode, None if asked.subset is None else names)
    report = result.to_dict(curves=asked.curves) | source
    report |= {"command": command, "facefind": __version__}
    output.emit(report, _text(result, source), as_json=asked.json, out=asked.out)
    return 0


def _ground_truth(labels: Path) -> GroundTruth:
    from facefind import datasets
    from facefind.evaluation.wider import from_samples, read_ground_truth

    if (labels / "wider_face_val.mat").exists():
        return read_ground_truth(labels)
    return from_samples(datasets.read(labels, missing="keep"), title=labels.name)


def _detect(asked: _Wider, names: Sequence[str]) -> tuple[dict[str, Faces], dict[str, Any]]:
    """Faces of every named image, and what they were found with."""
    from tqdm import tqdm

    from facefind import FaceDetector, images, protocols, weights
    from facefind.datasets.files import locate

    if asked.images is None:
        raise DataError("--model needs --images, the folder that holds the labelled images")
    paths = locate(names, asked.images, asked.labels)
    protocol = protocols.get(asked.protocol)
    model = weights.find(asked.model or weights.default())
    detector = FaceDetector(
        model,
        runtime=asked.runtime,
        threads=asked.threads,
        precision=asked.precision,
        protocol=protocol,
        min_score=asked.min_score,
    )
    found: dict[str, Faces] = {}
    started = time.perf_counter()
    with tqdm(total=len(paths), unit="image", disable=not sys.stderr.isatty()) as bar:
        todo = list(paths.items())
        for start in range(0, len(todo), _BATCH):
            chunk = todo[start : start + _BATCH]
            pictures = [images.read(path) for _, path in chunk]
            for (name, _), faces in zip(chunk, detector.detect(pictures), strict=True):
                found[name] = faces
            bar.update(len(chunk))
    return found, {
        "model": asked.model,
        "weights_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "test_protocol": dataclasses.asdict(protocol),
        "min_score": asked.min_score,
        "runtime": detector.runtime.name,
        "provider": detector.runtime.provider,
        "threads": detector.runtime.threads,
        "precision": detector.runtime.precision,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _text(result: WiderResult, source: dict[str, Any]) -> str:
    rows = [
        (subset, f"{100 * result.ap[subset]:.2f}", f"{100 * result.ap_98[subset]:.2f}", str(faces))
        for subset, faces in result.faces.items()
    ]
    lines = [output.table(("faces", "AP", "AP at 98% precision", "count"), rows, right=(1, 2, 3))]
    lines += ["", f"{result.protocol}; {result.image_set}, {result.images} images"]
    if result.missing:
        lines.append(f"without detections: {len(result.missing)}, e.g. {result.missing[0]}")
    if "test_protocol" in source:
        name = source["test_protocol"]["name"]
        lines.append(f"{source['model']}, test protocol {name}, {source['seconds']} s")
    return "\n".join(lines)
