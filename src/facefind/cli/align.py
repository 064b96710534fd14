"""`facefind align`: faces turned upright and cut out by their five landmarks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from facefind.cli import output
from facefind.cli.options import Batch, Finding, Target, Whole, check_range
from facefind.cropping import CropOptions

if TYPE_CHECKING:
    from facefind.detector import DetectionResult

__all__ = ["main"]

_HEADER = ("image", "faces", "crops")


@dataclass(frozen=True, kw_only=True)
class _Align(Batch, Finding):
    """Cut out faces, turned upright, with their five landmarks where recognition expects them.

    The crops of album/a.jpg are album/a_0.png, album/a_1.png, ... by falling score, or album/a.png
    with --faces largest. manifest.jsonl beside them has a line an image: each crop's file, score,
    box, landmarks, and the transform that takes the image's pixels to the crop's. Images that fail
    are named on stderr, the others are still done, and the exit code is 1.
    """

    out: Target
    """The folder for the crops, the manifest and the settings, or an address such as
    s3://bucket/crops: a new or empty one, or one to resume. Each --shard needs its own."""
    how: Annotated[CropOptions, tyro.conf.arg(name="")] = field(default_factory=CropOptions)
    per_tar: Whole = None
    """Write the crops of so many images each into tar files, 00000.tar and so on, in place of
    files of their own."""


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind align` with these arguments."""
    from facefind import pipeline
    from facefind.cli.work import Work

    options = tyro.cli(_Align, args=args, prog="facefind align")
    options.check_inference()
    check_range("--per-tar", options.per_tar, 1)
    work = Work("align", options, folders={"--out": options.out}, reads=options.reads())
    images = work.distinct(
        lambda file: pipeline.output_path(file.name).with_suffix(""),
        options.out,
        "the crops",
        work.images(),
    )
    peeked = work.peek(images)
    detector = options.detector()
    pipeline.check_landmarks(detector)
    settings = pipeline.detector_settings(detector) | work.folders()
    with ExitStack() as stack:
        folder = pipeline.CropFolder(
            options.out,
            options.how,
            per_tar=options.per_tar,
            settings=settings,
            resume=options.resume,
        )
        stack.callback(folder.close)
        if (failures := work.open_failures()) is not None:
            stack.enter_context(failures)
        folder.begin()
        first, total, left = work.left(peeked, folder.names)
        widths = output.widths([_HEADER, *((file.name, "", "") for file in first)], narrowest=8)
        progress = work.progress(needs_reader=False)
        if first and not options.json:
            progress.print(output.line(_HEADER, widths, right=(1, 2)))
        record: dict[str, Any] = {}

        def write(result: DetectionResult) -> None:
            nonlocal record
            assert result.image is not None
            record = folder.write(result.source.name, result.image, result.faces)

        crops = 0
        for result in work.do(detector, left, write, progress, total, images=True):
            made = len(record["crops"])
            crops += made
            row = (result.source.name, str(len(result.faces)), str(made))
            line = output.line(row, widths, right=(1, 2))
            progress.print(json.dumps(record) if options.json else line)
    return work.report([f"{progress.done} images", f"{crops} crops"], progress, folder.names)
