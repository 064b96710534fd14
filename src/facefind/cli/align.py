"""`facefind align`: faces turned upright and cut out by their five landmarks."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from facefind.cli import output
from facefind.cli.options import Flag, Inference, ShardText, Sources, check_range
from facefind.errors import DataError

__all__ = ["main"]

_HEADER = ("image", "faces", "crops")
_LARGEST_SIZE = 4096


@dataclass(frozen=True, kw_only=True)
class _Align(Inference):
    """Cut out faces, turned upright, with their five landmarks where recognition expects them.

    The crops of album/a.jpg are album/a_0.png, album/a_1.png, ... by falling score, or album/a.png
    with --faces largest. manifest.jsonl beside them has a line an image: each crop's file, score,
    box, landmarks, and the transform that takes the image's pixels to the crop's. Images that can't
    be read are named on stderr and the others are done all the same; the exit code is 1 then.
    """

    images: Sources
    """Files, folders (searched through) or globs."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """The folder for the crops, the manifest and the settings."""
    size: int = 112
    """Side of a crop in pixels; the landmarks of the 112-pixel template grow with it."""
    faces: Literal["all", "largest"] = "all"
    """All faces of an image, or the one with the largest box."""
    min_size: float = 0.0
    """Leave out faces whose box has a shorter side, in the image's pixels."""
    format: Literal["png", "jpg"] = "png"
    """png keeps the pixels as they are, jpg is smaller."""
    model: str = "default"
    """A model that ships (see `facefind models`) or an .onnx file."""
    resume: Flag = False
    """Add to --out: skip the images that its manifest already holds."""
    shard: ShardText = None
    """Do one part of the images only, such as 0/4, the first of four; each needs its own --out."""
    json: Flag = False
    """Print the manifest's lines instead of a table."""


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind align` with these arguments."""
    from facefind import pipeline, weights
    from facefind.cli.progress import Progress
    from facefind.files import sha256

    options = tyro.cli(_Align, args=args, prog="facefind align")
    options.check_inference()
    check_range("--size", options.size, 1, _LARGEST_SIZE)
    check_range("--min-size", options.min_size, 0)
    shard = None if options.shard is None else pipeline.Shard.from_text(options.shard)
    inside = options.out.resolve()  # crops of an earlier run are no images to search
    files = [
        file
        for file in pipeline.list_images(options.images, shard)
        if inside not in file.path.resolve().parents
    ]
    stems = {file: pipeline.output_path(file.name).with_suffix("") for file in files}
    pipeline.check_distinct(stems, "the crops")
    detector = options.detector(options.model)
    if not detector.card.landmarks:
        raise DataError(
            f"{detector.card.name} finds no landmarks to align faces by; facefind models says "
            "which do"
        )
    settings = {
        "model": detector.card.name,
        "weights_sha256": sha256(weights.find(options.model)),
        "protocol": detector.protocol.name,
        "min_score": detector.min_score,
    }
    with pipeline.CropFolder(
        options.out,
        size=options.size,
        largest=options.faces == "largest",
        min_size=options.min_size,
        format=options.format,
        settings=settings,
        resume=options.resume,
    ) as folder:
        left = [file for file in files if file.name not in folder.names]
        widths = output.widths([_HEADER, *((file.name, "", "") for file in left)], narrowest=8)
        if left and not options.json:
            print(output.line(_HEADER, widths, right=(1, 2)), flush=True)
        started = time.perf_counter()
        progress = Progress("align")
        crops = 0
        for result in progress(pipeline.detect_files(detector, left, images=True), len(left)):
            assert result.image is not None
            record = folder.write(result.source.name, result.image, result.faces)
            made = len(record["crops"])
            crops += made
            row = (result.source.name, str(len(result.faces)), str(made))
            line = output.line(row, widths, right=(1, 2))
            progress.print(json.dumps(record) if options.json else line)
    failed = f", {progress.failed} failed" if progress.failed else ""
    seconds = time.perf_counter() - started
    print(f"{progress.done} images, {crops} crops{failed} in {seconds:.1f} s", file=sys.stderr)
    return 1 if progress.failed else 0
