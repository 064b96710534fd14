"""`facefind redact`: pictures and videos written again with their faces hidden."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from facefind.cli import output
from facefind.cli.options import (
    Batch,
    Finding,
    Flag,
    Hide,
    Number,
    Target,
    Whole,
    check_range,
    leave_out,
)
from facefind.errors import DataError, ImageError

if TYPE_CHECKING:
    from facefind.detector import FaceDetector
    from facefind.pipeline import Hiding
    from facefind.redaction import Redaction

__all__ = ["main"]

_HEADER = ("file", "faces", "lowest")
_WIDEST = ("", "0000000", "0.000")


@dataclass(frozen=True, kw_only=True)
class _Redact(Batch, Finding):
    """Hide the faces in pictures and videos.

    Folders are searched for both. Each file gets a copy in --out, under its own name; originals
    are never written to. In videos faces are followed, and also hidden in frames in which they are
    not found. report.jsonl in --out says how many faces were hidden, where, and the lowest score.
    No detector finds every face: look through what matters (--review), and see --careful. Files
    that fail have no copy: they are named on stderr, the others are still done, and the exit code
    is 1. A stream (rtsp://, http://, the number of a camera) is given alone.
    """

    out: Target
    """The folder for the copies, the report and the settings, or an address such as
    s3://bucket/hidden: a new or empty one, or one to resume. Each --shard needs its own."""
    per_tar: Whole = None
    """Write the copies of so many pictures each into tar files, 00000.tar and so on, in place of
    files of their own; those of videos stay files."""
    how: Annotated[Hide, tyro.conf.arg(name="")] = field(default_factory=Hide)
    sound: bool = True
    """Copy the sound and subtitles of videos."""
    every: int = 1
    """In videos, the model runs on every N-th frame, and on the first and last of each scene."""
    lead: float = 1.0
    """In videos, seconds for which a face is hidden before it is found and after it is lost."""
    most_gap: float = 2.0
    """In videos, the longest time in seconds for which a face is hidden between frames in which it
    is found."""
    review: Flag = False
    """Write contact sheets of the copies to the folder `review` in --out."""
    seconds: Number = None
    """Of a stream, how much is written; all until it ends if not given."""


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind redact` with these arguments."""
    from facefind import pipeline
    from facefind.cli.work import Work
    from facefind.images import SUFFIXES
    from facefind.pipeline.redacting import redacted_name
    from facefind.video import SUFFIXES as VIDEOS
    from facefind.video import is_stream

    options = tyro.cli(_Redact, args=args, prog="facefind redact")
    _check(options)
    streams = [source for source in options.images if is_stream(source)]
    if streams:
        return _stream(options)
    if options.seconds is not None:
        raise DataError("--seconds is of streams: give one")
    reads = options.reads()
    reads += [] if options.how.picture is None else [str(options.how.picture)]
    work = Work(
        "redact", options, folders={"--out": options.out}, reads=reads, suffixes=SUFFIXES | VIDEOS
    )
    images = work.distinct(
        lambda one: redacted_name(one.name), options.out, "the copies", work.images()
    )
    peeked = work.peek(images)
    detector, how, hiding = _how(options)
    with ExitStack() as stack:
        folder = pipeline.RedactedFolder(
            options.out,
            detector,
            how,
            every=options.every,
            hiding=hiding,
            metadata=not options.how.strip_metadata,
            sound=options.sound,
            review=options.review,
            per_tar=options.per_tar,
            settings=pipeline.detector_settings(detector) | work.folders(),
            resume=options.resume,
        )
        stack.callback(folder.close)
        if (failures := work.open_failures()) is not None:
            stack.enter_context(failures)
        folder.begin()
        first, total, left = work.left(peeked, folder.names)
        names = [(file.name, "", "") for file in first]
        widths = output.widths([_HEADER, _WIDEST, *names], narrowest=8)
        progress = work.progress(needs_reader=False)
        if first and not options.json:
            progress.print(output.line(_HEADER, widths, right=(1, 2)))

        def watch(step: str, frame: int) -> None:
            if frame % 25 == 0:
                progress.note(f"{step} frame {frame}")

        faces, stages = 0, pipeline.Stages()
        redacted = folder.redact(left, failures, watch, stages)
        for _ in work.follow(redacted, progress, total, stages):
            record = folder.last
            faces += record["faces"]
            lowest = record["lowest_score"]
            score = "" if lowest is None else f"{lowest:.3f}"
            row = (record["image"], str(record["faces"]), score)
            line = output.line(row, widths, right=(1, 2))
            progress.print(json.dumps(record) if options.json else line)
    return work.report([f"{progress.done} files", f"{faces} faces"], progress, folder.names)


def _check(options: _Redact) -> None:
    options.check_inference()
    check_range("--per-tar", options.per_tar, 1)
    check_range("--every", options.every, 1)
    check_range("--lead", options.lead, 0, 60)
    check_range("--most-gap", options.most_gap, 0, 600)
    check_range("--seconds", options.seconds, 0)


def _how(options: _Redact) -> tuple[FaceDetector, Redaction, Hiding]:
    """The detector, how faces are hidden, and for how long where they are not found."""
    from facefind import pipeline

    protocol, min_score = options.how.finding(options.test_protocol, options.min_score)
    options = replace(options, test_protocol=protocol, min_score=min_score)
    hiding = pipeline.Hiding(lead=options.lead, most_gap=options.most_gap)
    return options.detector(), options.how.redaction(), hiding


def _stream(options: _Redact) -> int:
    """Exit code of the command for a stream."""
    from contextlib import closing

    from tqdm import tqdm

    from facefind import pipeline
    from facefind.files import Lock
    from facefind.images.listing import is_remote
    from facefind.video.opening import name_of

    if len(options.images) > 1:
        raise DataError("a stream is redacted alone: give no other sources")
    names = "resume failures retry_failed shard review per_tar files_from quiet"
    leave_out(options, names, "is of files: leave it out for a stream")
    source = options.images[0]
    where = name_of(source).partition("://")[2] or f"camera-{source}"
    if is_remote(options.out):
        raise DataError(f"--out {options.out}: a stream is written to a folder: name one")
    path = Path(options.out) / (re.sub(r"[^\w.-]+", "_", where).strip("_.") + ".mkv")
    if path.exists():
        raise DataError(f"{path} is there already: give another --out")
    detector, how, hiding = _how(options)
    lock = Lock(path.with_name(path.name + ".lock"))
    if not lock.acquire():
        raise DataError(f"{path} is being written by {lock.holder()}: wait for it")
    started, frames, faces = time.perf_counter(), 0, 0
    with ExitStack() as stack:
        stack.callback(lock.release)
        work = pipeline.redact_stream(
            source,
            path,
            detector,
            how,
            seconds=options.seconds,
            every=options.every,
            hiding=hiding,
            sound=options.sound,
        )
        stack.enter_context(closing(work))
        try:
            for _, _, hidden in tqdm(work, unit="frame", leave=False, disable=None):
                frames, faces = frames + 1, faces + hidden
        except (ImageError, KeyboardInterrupt):
            if path.exists():  # what has come is written all the same
                output.say(f"{path} holds the {frames} frames that came")
            raise
    record = {"file": str(path), "frames": frames, "faces_in_frames": faces}
    print(json.dumps(record) if options.json else f"{path}: {frames} frames")
    output.say(f"{frames} frames in {time.perf_counter() - started:.1f} s")
    return 0
