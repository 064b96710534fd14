"""Detections to be evaluated: found by a model, kept as JSON lines, taken up after a kill.

Beside a file of kept detections lies a note of what found them, so that a run is never resumed
with another model's faces.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from facefind import protocols
from facefind.detector import DetectionResult, FaceDetector
from facefind.evaluation import detections
from facefind.evaluation.detections import ExactFaces
from facefind.images import MAX_PIXELS, Found, Truncated
from facefind.pipeline.resuming import Note, detector_settings
from facefind.pipeline.sinks import JsonLines, reason
from facefind.pipeline.sources import detect_files
from facefind.runtimes import PrecisionName, RuntimeName

__all__ = [
    "Detected",
    "DetectorSettings",
    "ExactFaces",
    "KeptDetections",
    "Watch",
    "detect_labeled",
    "read_kept",
]

Watch = Callable[[Iterator[DetectionResult], int], Iterator[DetectionResult]]
"""Hands on results as they come, of which there will be so many: to show progress and errors."""

_MIN_SCORE = 0.02
_FOLDERS = "image_folders"  # in the note alone: a result says what its images are, not where


@dataclass(frozen=True, kw_only=True)
class DetectorSettings:
    """A detector that is to be evaluated, as `FaceDetector` takes it.

    Where neither `min_score` nor the protocol sets a threshold it is 0.02, not the card's, for
    curves need the low scores too.
    """

    model: str = "default"
    protocol: str = "vga"
    min_score: float | None = None
    runtime: RuntimeName = "auto"
    provider: str | None = None
    device_id: int | None = None
    precision: PrecisionName = "fp32"
    threads: int | None = None
    batch_size: int | None = None
    max_pixels: int = MAX_PIXELS
    truncated: Truncated = "error"

    def open(self) -> tuple[FaceDetector, dict[str, Any]]:
        """The detector, and all that its faces depend on, as plain values."""
        protocol = protocols.get(self.protocol)
        floor = _MIN_SCORE if protocol.min_score is None else protocol.min_score
        detector = FaceDetector(
            self.model,
            runtime=self.runtime,
            threads=self.threads,
            precision=self.precision,
            provider=self.provider,
            device_id=self.device_id,
            protocol=protocol,
            min_score=floor if self.min_score is None else self.min_score,
            batch_size=self.batch_size,
            max_pixels=self.max_pixels,
            truncated=self.truncated,
        )
        return detector, detector_settings(detector) | {"model": self.model}


@dataclass(frozen=True)
class Detected:
    """Faces by image name, what found them, and the images that failed, with the reason."""

    faces: dict[str, Any]
    source: dict[str, Any]
    failed: dict[str, str] = field(default_factory=dict)


class KeptDetections(JsonLines):
    """A file that detections are kept in as they are found, with a note of what finds them.

    Args:
        path: The file; its note is `<path>.source.json`.
        source: What finds the faces; where the file has some already, it must be what found them.
            Where the model's file lies does not matter.
        paths: The image files by name; where the file has faces already, they must be of images
            of the same folders. None leaves that open.

    Raises:
        DataError: the file holds something else, or other settings found its faces.
    """

    _otherwise = "give another file, or remove it; --detections evaluates what it holds"

    def __init__(
        self,
        path: str | Path,
        source: Mapping[str, Any],
        paths: Mapping[str, Path] | None = None,
    ) -> None:
        known = {} if paths is None else {_FOLDERS: _folders(paths)}
        super().__init__(path, resume=True, settings={**source, **known})

    def add(self, name: str, faces: ExactFaces, **more: Any) -> None:
        """Append an image's faces; `more` goes into the line, too."""
        self.write(faces.to_record(name, **more))


def detect_labeled(
    settings: DetectorSettings,
    paths: Mapping[str, Path],
    keep: Path | None = None,
    watch: Watch | None = None,
) -> Detected:
    """Faces of labeled images, by name.

    Args:
        settings: The detector.
        paths: Image files by name.
        keep: File for the detections, written as they are found. Where it is there already, and
            the same model and settings made it, only the other images are done.
        watch: Shows progress.
    """
    detector, source = settings.open()
    found: dict[str, ExactFaces] = {}
    failed: dict[str, str] = {}
    with nullcontext() if keep is None else KeptDetections(keep, source, paths) as kept:
        if kept is not None and kept.names:
            found = read_kept(kept.path)[0]
        todo = [Found(path, name) for name, path in paths.items() if name not in found]
        started = perf_counter()
        results = detect_files(detector, todo)
        for result in results if watch is None else watch(results, len(todo)):
            name = result.source.name
            if result.error is not None:
                failed[name] = reason(result.error)
                continue
            found[name] = ExactFaces.from_faces(result.faces)
            if kept is not None:
                kept.add(name, found[name])
    source |= {
        "threads": detector.runtime.threads,
        "seconds": round(perf_counter() - started, 1),
        "images_timed": len(todo),
    }
    if keep is not None:
        source["detections_kept"] = str(keep)
    return Detected({name: found[name] for name in paths if name in found}, source, failed)


def read_kept(path: Path) -> tuple[dict[str, ExactFaces], dict[str, Any]]:
    """Faces by image name of a file of JSON lines, and what its note says found them, if any.

    Raises:
        DataError: as `detections.read_lines` does.
    """
    note = Note.beside(path, {})
    made_by = note.read() if note.is_there else {}
    known = {key: value for key, value in made_by.items() if key != _FOLDERS}
    return detections.read_lines(path), known


def _folders(paths: Mapping[str, Path]) -> list[str]:
    """The folders that names of image files count from."""
    depths = {(path, len(Path(name).parts)) for name, path in paths.items()}
    found = {
        path.parents[min(depth, len(path.parents)) - 1] for path, depth in depths if path.parents
    }
    return sorted(map(os.path.realpath, found))
