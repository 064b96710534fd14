"""Options that many commands have, spelled once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from facefind.errors import DataError
from facefind.images import MAX_PIXELS, Truncated
from facefind.redaction import Method, RedactOptions
from facefind.runtimes import PrecisionName, RuntimeName

if TYPE_CHECKING:
    from facefind.detector import FaceDetector

__all__ = [
    "Batch",
    "File",
    "Finding",
    "Flag",
    "Folder",
    "Hide",
    "Inference",
    "LabeledSetText",
    "Number",
    "Place",
    "ShardText",
    "Sources",
    "Target",
    "TestProtocolName",
    "Text",
    "Whole",
    "check_range",
    "check_written",
    "leave_out",
]

# "(default: None)" or "(default: False)" would say nothing that the help does not.
Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")]
"""On where named; there is no --no-... twin."""
Text = Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")]
Whole = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
Number = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
Place = Annotated[str | None, tyro.conf.arg(metavar="FILE|URL", help_behavior_hint="")]
Folder = Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")]
Target = Annotated[str, tyro.conf.arg(metavar="DIR|URL", help_behavior_hint="")]
"""A folder or address that results go to."""
Sources = Annotated[
    tuple[str, ...],
    tyro.conf.Positional,
    tyro.conf.arg(metavar="IMAGE|DIR|GLOB|TAR|URL ...", help_behavior_hint=""),
]
TestProtocolName = Annotated[
    str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="", aliases=("--protocol",))
]
LabeledSetText = Annotated[str, tyro.conf.arg(metavar="SET")]
ShardText = Annotated[str | None, tyro.conf.arg(metavar="INDEX/COUNT", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Options of the commands that work through images and may be stopped and resumed."""

    images: Sources
    """Files, folders (searched through, links followed) or globs; tar files and Parquet tables of
    pictures; addresses such as s3://bucket/photos; - for one picture on stdin."""
    files_from: Annotated[str | None, tyro.conf.arg(metavar="LIST|-", help_behavior_hint="")] = None
    """Do the pictures that this file names, a path or address a line; - reads the names from
    stdin."""
    resume: Flag = False
    """Resume what was stopped: skip the images that are done, and those in --failures. The same
    model, settings and folders of images must have made what is there."""
    failures: File = None
    """Write one JSON line per image that fails to this file, with the reason."""
    retry_failed: Flag = False
    """With --resume, try the images in --failures again."""
    shard: ShardText = None
    """Do one part of the images only, such as 0/4, the first of four; parts go by the images'
    names, so that each of several machines can do its own."""
    json: Flag = False
    """Print JSON lines instead of a table."""
    quiet: Flag = False
    """Print nothing but what fails and, at the end, what came of it, both on stderr."""
    progress: Literal["auto", "json"] = "auto"
    """How stderr says how far it is: a bar on a terminal and a line every 30 seconds elsewhere, or
    lines of JSON every 5 seconds."""

    def check_batch(self) -> None:
        """Raise DataError where these options contradict each other."""
        if self.retry_failed and not (self.resume and self.failures):
            raise DataError("--retry-failed is of a run that --resume resumes: name --failures too")
        if self.files_from == "-" and "-" in self.images:
            raise DataError("stdin is one picture (-) or a list of them (--files-from -): not both")


@dataclass(frozen=True, kw_only=True)
class Inference:
    """Options of every command that runs a model on images."""

    test_protocol: TestProtocolName = None
    """How images are scaled and faces merged: everyday, vga, original, full or another name, a long
    side, WIDTHxHEIGHT, any of them varied as in everyday:turned, which also finds faces that lie on
    their side; the model's own if not given."""
    min_score: Number = None
    """Leave out faces below this score; the model's own threshold if not given."""
    runtime: RuntimeName = "auto"
    """The library that runs the model; auto takes the fastest that is installed."""
    provider: Text = None
    """The kind of device, by the runtime's name for it: cuda, tensorrt, coreml or directml with
    onnxruntime, gpu or npu with openvino. What is absent is an error. If not given, the CPU, or
    with --runtime auto a GPU if onnxruntime has CUDA."""
    device_id: Whole = None
    """Which of the provider's devices, from 0; the first if not given."""
    engine_cache: Folder = None
    """Keep what the provider compiles of the model here: TensorRT takes minutes for it."""
    memory_limit: Whole = None
    """MiB of a GPU that onnxruntime takes at most, with cuda or tensorrt."""
    precision: PrecisionName = "auto"
    """Numbers it computes with: fp32, bf16 if the device has it, or int8, by the model's quantized
    file, NAME-int8; auto takes the fastest here for which a card states a loss of at most .2 AP:
    int8, else bf16, else fp32."""
    threads: Whole = None
    """CPU threads; the runtime's own choice if not given."""
    batch_size: Whole = None
    """Images that go through the model together; 1 on a CPU and 8 elsewhere if not given."""
    max_pixels: int = MAX_PIXELS
    """Images of more pixels are refused."""
    truncated: Truncated = "error"
    """What becomes of JPEG files that lack their end: an error, or with fill, gray in its place."""

    def check_inference(self) -> None:
        """Raise DataError where a number is out of range."""
        check_range("--min-score", self.min_score, 0, 1)
        check_range("--batch-size", self.batch_size, 1)
        check_range("--threads", self.threads, 1)
        check_range("--device-id", self.device_id, 0)
        check_range("--memory-limit", self.memory_limit, 1)
        check_range("--max-pixels", self.max_pixels, 1)

    def running(self) -> dict[str, Any]:
        """What runs a model, and on what, by the names that detectors and measures have for it."""
        names = ("runtime", "provider", "device_id", "precision", "threads")
        return {name: getattr(self, name) for name in names}

    def device(self) -> dict[str, Any]:
        """What of the device is kept and taken, by the names that detectors have for it."""
        limit = None if self.memory_limit is None else self.memory_limit << 20
        return {"engine_cache": self.engine_cache, "memory_limit": limit}

    def reading(self) -> dict[str, Any]:
        """What of image files is read, by the names that detectors have for it."""
        return {"max_pixels": self.max_pixels, "truncated": self.truncated}


@dataclass(frozen=True, kw_only=True)
class Finding(Inference):
    """Options of every command that finds faces for its user."""

    model: str = "default"
    """A model that ships (see `facefind models`) or an .onnx file."""

    def reads(self) -> list[str]:
        """The model's file, where it is named by its path."""
        return [self.model] if self.model.endswith(".onnx") else []

    def detector(self, **more: Any) -> FaceDetector:
        """The detector with these options; `more` are others of `FaceDetector`."""
        from facefind.detector import FaceDetector

        return FaceDetector(
            self.model,
            protocol=self.test_protocol,
            min_score=self.min_score,
            batch_size=self.batch_size,
            **self.running(),
            **self.reading(),
            **self.device(),
            **more,
        )


@dataclass(frozen=True, kw_only=True)
class Measured(Inference):
    """Options of every command that measures a model: in fp32, unless another is named."""

    precision: PrecisionName = "fp32"
    """Numbers it computes with: fp32, bf16 where the device has it, or int8, by the model's
    quantized file, NAME-int8; auto chooses one of them as facefind detect does."""


@dataclass(frozen=True, kw_only=True)
class Hide(RedactOptions):
    """How faces are hidden, as `RedactOptions` has it, by the names of options."""

    method: Annotated[Method, tyro.conf.arg(name="with")] = "blur"
    picture: File = None
    grow: Number = None
    careful: Flag = False


def leave_out(options: object, names: str, why: str) -> None:
    """Raise DataError where one of the options of these names is given; `why` follows its name."""
    if given := [name for name in names.split() if getattr(options, name)]:
        raise DataError(f"--{given[0].replace('_', '-')} {why}")


def check_range(option: str, value: float | None, low: float, high: float | None = None) -> None:
    """Raise DataError where an option's value is out of its range; None is never."""
    if value is None or (low <= value and (high is None or value <= high)):
        return
    expected = f"at least {low}" if high is None else f"{low} to {high}"
    raise DataError(f"{option} {value}: expected {expected}")


def check_written(read: Iterable[str | Path | None], **written: Path | None) -> None:
    """Raise DataError where a file that an option names is read, or lies among labels that are.

    `read` are models, label files and sets as the options name them; what is None, or is no path,
    is passed over.
    """
    from facefind import outputs
    from facefind.datasets import SetSpec

    specs = [SetSpec.parse(one) for one in read if one is not None]
    paths = [spec.path for spec in specs]
    paths += [Path(spec.options["images"]) for spec in specs if "images" in spec.options]
    files = {f"--{name.replace('_', '-')}": path for name, path in written.items()}
    outputs.check_outputs(paths, files=files, suffixes=outputs.LABELS)
