"""The faces that a benchmark judges: found by a model, image by image, or read from a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from facefind.cli.options import (
    File,
    Folder,
    LabeledSetText,
    Measured,
    Number,
    TestProtocolName,
    Text,
)
from facefind.datasets.files import read_text
from facefind.errors import DataError

if TYPE_CHECKING:
    from facefind.datasets import Sample
    from facefind.detector import DetectionResult
    from facefind.pipeline.kept import Detected, DetectorSettings

__all__ = ["DetectionOptions", "LabeledSet", "find", "settings"]

_PROTOCOL = "vga"


@dataclass(frozen=True, kw_only=True)
class LabeledSet:
    """Options of every benchmark on a labeled set.

    Labels and images have an option each because the official labels come without the images, in
    an archive of their own; sets that hold both need --data alone.
    """

    data: LabeledSetText
    """The labeled set, as facefind train takes it; of a data.yaml, the val images."""
    images: Folder = None
    """The folder of the set's images, where they are not in the layout's usual place."""

    def samples(self, layout: str | None = None) -> list[Sample]:
        """The labeled images, those whose files are absent too."""
        from facefind.datasets import read_labels

        return read_labels(self.data, layout=layout, images=self.images, split="val")


@dataclass(frozen=True, kw_only=True)
class DetectionOptions(Measured):
    """Options of every benchmark that judges found faces."""

    model: Text = None
    """A model that ships or an .onnx file."""
    detections: Annotated[Path | None, tyro.conf.arg(metavar="DIR|FILE", help_behavior_hint="")] = (
        None
    )
    """Detections at hand instead of --model: JSON lines as facefind detect writes them,
    event/name.txt files, or the benchmark's own format."""
    test_protocol: TestProtocolName = None
    """How images are scaled and faces merged, with --model, as facefind detect takes it; vga where
    not given."""
    min_score: Number = None
    """Leave out the model's faces below this score; the protocol's floor, or .02, if not given."""
    keep: File = None
    """Keep the model's detections in this file as JSON lines, as they are found. Where it is there
    already, and was made by the same model and settings, only the other images are done."""

    def check(self) -> None:
        """Raise DataError where the options contradict each other."""
        if (self.model is None) == (self.detections is None):
            raise DataError("give either --model or --detections")
        if self.keep is not None and self.model is None:
            raise DataError("--keep keeps what --model finds; with --detections there is nothing")
        self.check_inference()


def settings(options: Measured, model: str, protocol: str | None = None) -> DetectorSettings:
    """The detector to be evaluated, under the options' test protocol or another one."""
    from facefind.pipeline.kept import DetectorSettings

    return DetectorSettings(
        model=model,
        protocol=protocol or options.test_protocol or _PROTOCOL,
        min_score=options.min_score,
        batch_size=options.batch_size,
        **options.running(),
        **options.reading(),
    )


def find(
    options: DetectionOptions,
    paths: Mapping[str, Path],
    read_own: Callable[[Path], dict[str, Any]] | None = None,
) -> Detected:
    """Faces of the images `paths`, or all those in the file of `--detections`.

    `read_own` reads a file that is no JSON lines: the benchmark's own format.
    """
    from facefind.cli.progress import Progress
    from facefind.pipeline.kept import detect_labeled

    options.check()
    if options.detections is not None:
        return _read(options.detections, read_own)
    assert options.model is not None
    progress = Progress("evaluate", hand_on_failed=True)

    def watch(results: Iterator[DetectionResult], total: int) -> Iterator[DetectionResult]:
        if total < len(paths):
            done = len(paths) - total
            print(f"{done} images done before, in {options.keep}", file=sys.stderr)
        return progress(results, total)

    return detect_labeled(settings(options, options.model), paths, options.keep, watch)


def _read(path: Path, read_own: Callable[[Path], dict[str, Any]] | None) -> Detected:
    from facefind.evaluation import detections
    from facefind.pipeline.kept import Detected, read_kept

    source = {"detections_from": str(path)}
    if not path.exists():
        raise DataError(f"--detections {path}: no such file or folder")
    if path.is_dir():
        return Detected(dict(detections.read(path)), source)
    first = next((line for line in read_text(path) if line.strip()), "{")
    if read_own is not None and not first.lstrip().startswith("{"):
        return Detected(read_own(path), source)
    found, made_by = read_kept(path)
    return Detected(dict(found), made_by | source)
