"""The faces that a protocol judges: found by a model, image by image, or read from a file.

What a model finds can be kept as JSON lines while it runs, with a note beside them of what found
it, so that a run that was stopped goes on where it was, and never with another model's faces.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import tyro

from facefind.cli import output, pictures
from facefind.cli.options import File, Folder, Number, Text, Whole
from facefind.datasets.files import bad_line, read_text
from facefind.errors import DataError
from facefind.runtimes import Precision, RuntimeName

if TYPE_CHECKING:
    from facefind.detector import FaceDetector
    from facefind.faces import Faces

__all__ = ["Finding", "Found", "Record", "find", "goes_on", "opened"]

Floats = npt.NDArray[np.float64]
_LEAST_SCORE = 0.02


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Options of every protocol that judges found faces."""

    model: Text = None
    """A model that ships or an .onnx file."""
    images: Folder = None
    """The folder that holds the labeled images by their names."""
    detections: Annotated[Path | None, tyro.conf.arg(metavar="DIR|FILE", help_behavior_hint="")] = (
        None
    )
    """Results at hand instead of --model: JSON lines as facefind detect writes them, event/name.txt
    files, or the protocol's own format."""
    protocol: str = "vga"
    """How images are scaled and faces merged, with --model."""
    min_score: Number = None
    """Leave out the model's faces below this score; not given: the protocol's floor, or .02."""
    runtime: RuntimeName = "auto"
    """The library that runs the model."""
    precision: Precision = "fp32"
    """Numbers it computes with."""
    threads: Whole = None
    """CPU threads; the runtime's own choice where not given."""
    keep: File = None
    """Keep the model's detections in this file as JSON lines, as they are found. Where it is there
    already, and was made by the same model and settings, only the other images are done."""

    def check(self) -> None:
        """Raise DataError where the options contradict each other."""
        if (self.model is None) == (self.detections is None):
            raise DataError("give either --model (with --images) or --detections")
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise DataError(f"--min-score {self.min_score}: wanted a number from 0 to 1")
        if self.keep is not None and self.model is None:
            raise DataError("--keep keeps what --model finds; with --detections there is nothing")


@dataclass(frozen=True, eq=False)
class Record:
    """Faces of one picture, by falling score: boxes (N, 4), scores (N,), points or None.

    The numbers are those that stand in a kept file, so that a result does not depend on whether
    they went through it.
    """

    boxes: Floats
    scores: Floats
    landmarks: Floats | None = None

    @classmethod
    def of(cls, faces: Faces) -> Record:
        """The record of found faces, each number the shortest decimal of its float32."""
        points = None if faces.landmarks is None else _decimal(faces.landmarks)
        return cls(_decimal(faces.boxes), _decimal(faces.scores), points)

    @classmethod
    def of_dict(cls, content: Mapping[str, Any]) -> Record:
        """The record of a line; KeyError, TypeError or ValueError where it is none."""
        boxes = np.array(content["boxes"], np.float64).reshape(-1, 4)
        scores = np.array(content["scores"], np.float64).reshape(len(boxes))
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ValueError
        order = np.argsort(-scores, kind="stable")
        given = content.get("landmarks")
        points = None
        if given is not None:
            points = np.array(given, np.float64).reshape(len(boxes), 5, 2)[order]
        return cls(boxes[order], scores[order], points)

    def line(self, name: str, **more: Any) -> str:
        """The record as a line of JSON; `more` stands beside it."""
        content: dict[str, Any] = {"image": name, "boxes": self.boxes.tolist()}
        content["scores"] = self.scores.tolist()
        if self.landmarks is not None:
            content["landmarks"] = self.landmarks.tolist()
        return json.dumps(content | more)


@dataclass(frozen=True)
class Found:
    """Faces by picture name, what found them, and the pictures that could not be read."""

    faces: dict[str, Any]
    source: dict[str, Any]
    failed: dict[str, str] = field(default_factory=dict)


def find(
    asked: Finding,
    paths: Mapping[str, Path],
    foreign: Callable[[Path], dict[str, Any]] | None = None,
) -> Found:
    """Faces of the pictures `paths`, or all those in the file of `--detections`.

    `foreign` reads a file that is no JSON lines: the protocol's own format.
    """
    asked.check()
    if asked.detections is not None:
        return _read(asked.detections, foreign)
    return _detect(asked, paths)


def _read(path: Path, foreign: Callable[[Path], dict[str, Any]] | None) -> Found:
    from facefind.evaluation import detections

    source = {"detections_from": str(path)}
    if not path.exists():
        raise DataError(f"--detections {path}: no such file or folder")
    if path.is_dir():
        return Found(dict(detections.read(path)), source)
    first = next((line for line in read_text(path) if line.strip()), "{")
    if foreign is not None and not first.lstrip().startswith("{"):
        return Found(foreign(path), source)
    records, _ = _records(path)
    note = _note(path)
    if note.is_file():
        source = _read_note(note) | source
    return Found(dict(records), source)


def _records(path: Path, torn: bool = False) -> tuple[dict[str, Record], int]:
    """Records of a file of JSON lines by name, and how many bytes hold them.

    `torn` lets a last line be one that a kill left unfinished.
    """
    found: dict[str, Record] = {}
    whole = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if torn and not line.endswith(b"\n"):
                break
            whole += len(line)
            if not line.strip():
                continue
            try:
                content = json.loads(line)
                name, record = str(content["image"]), Record.of_dict(content)
            except (ValueError, KeyError, TypeError):
                wanted = 'JSON with "image", "boxes" (N x 4), "scores" (N) and maybe "landmarks"'
                raise bad_line(path, number, line.decode(errors="replace"), wanted) from None
            if name in found:
                raise bad_line(path, number, line.decode(), "each image once")
            found[name] = record
    return found, whole


def opened(asked: Finding) -> tuple[FaceDetector, dict[str, Any]]:
    """The detector that is asked for, and all that its faces depend on."""
    from facefind import FaceDetector, protocols, weights

    protocol = protocols.get(asked.protocol)
    floor = _LEAST_SCORE if protocol.min_score is None else protocol.min_score
    model = weights.find(asked.model or weights.default())
    detector = FaceDetector(
        model,
        runtime=asked.runtime,
        threads=asked.threads,
        precision=asked.precision,
        protocol=protocol,
        min_score=floor if asked.min_score is None else asked.min_score,
    )
    source: dict[str, Any] = {
        "model": asked.model,
        "weights_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "test_protocol": json.loads(json.dumps(dataclasses.asdict(protocol))),
        "min_score": detector.min_score,
        "runtime": detector.runtime.name,
        "runtime_version": _version(detector.runtime.name),
        "provider": detector.runtime.provider,
        "precision": detector.runtime.precision,
    }
    return detector, source


def _detect(asked: Finding, paths: Mapping[str, Path]) -> Found:
    from tqdm import tqdm

    detector, source = opened(asked)
    found: dict[str, Record] = {}
    if asked.keep is not None and goes_on(asked.keep, source):
        found, whole = _records(asked.keep, torn=True)
        with asked.keep.open("r+b") as lines:
            lines.truncate(whole)
    before = len(found)
    failed: dict[str, str] = {}
    todo = {name: path for name, path in paths.items() if name not in found}
    if before and len(todo) < len(paths):
        print(f"{len(paths) - len(todo)} images done before, in {asked.keep}", file=sys.stderr)
    started = time.perf_counter()
    with ExitStack() as stack:
        sink: IO[str] | None = None
        if asked.keep is not None:
            sink = stack.enter_context(asked.keep.open("a", encoding="utf-8"))
        quiet = not sys.stderr.isatty()
        bar = stack.enter_context(tqdm(total=len(todo), unit="image", disable=quiet))
        for name, result in pictures.searched(todo, detector, detector.batch_size):
            bar.update()
            if isinstance(result, BaseException):
                failed[name] = " ".join(str(result).split()) or type(result).__name__
                bar.write(f"facefind evaluate: {name}: {failed[name]}", file=sys.stderr)
                continue
            _, faces = result
            found[name] = Record.of(faces)
            if sink is not None:
                sink.write(found[name].line(name) + "\n")
                sink.flush()
    source |= {
        "threads": detector.runtime.threads,
        "seconds": round(time.perf_counter() - started, 1),
        "images_timed": len(todo),
    }
    if asked.keep is not None:
        source["detections_kept"] = str(asked.keep)
    return Found({name: found[name] for name in paths if name in found}, source, failed)


def goes_on(keep: Path, source: Mapping[str, Any]) -> bool:
    """Whether `keep` holds faces already, once sure that the same model and settings found them.

    A last line may be one that a kill left torn. Where there are none yet, `keep` gets its note.
    """
    note = _note(keep)
    if not keep.is_file() or not keep.stat().st_size:
        keep.parent.mkdir(parents=True, exist_ok=True)
        output.write(note, json.dumps(dict(source), indent=2) + "\n")
        return False
    if not note.is_file():
        raise DataError(
            f"--keep {keep}: there is such a file already, and no {note.name} beside it that "
            "says what made it; give another file, or take it with --detections"
        )
    made = _read_note(note)
    for key, value in source.items():
        if key != "model" and made.get(key) != value:
            raise DataError(
                f"--keep {keep} was made with {key} {_short(made.get(key))}, not "
                f"{_short(value)}; give another file, or remove it and {note.name}"
            )
    return True


def _note(keep: Path) -> Path:
    return keep.with_name(keep.name + ".source.json")


def _read_note(note: Path) -> dict[str, Any]:
    try:
        made = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{note}: cannot be read ({error})") from None
    if not isinstance(made, dict):
        raise DataError(f"{note}: wanted a JSON object that says what found the faces")
    return made


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 400 else text[:397] + "..."


def _decimal(values: npt.NDArray[np.float32]) -> Floats:
    return values.astype(np.str_).astype(np.float64)


def _version(runtime: str) -> str | None:
    from importlib import metadata

    for package in (runtime, f"{runtime}-gpu"):
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return None
