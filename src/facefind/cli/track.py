"""`facefind track`: the faces of a video, each under its number; `facefind detect` of a video."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tqdm import tqdm

from facefind.cli import output
from facefind.cli.options import File, Finding, Flag, check_range
from facefind.errors import DataError, ImageError

if TYPE_CHECKING:
    from facefind.faces import Faces

__all__ = ["Video", "main", "run"]

_HEADER = ("frame", "time", "faces", "ids")
_WIDEST = ("0000000", "00000.000", "00000", "")


@dataclass(frozen=True, kw_only=True)
class Video:
    """What is done with the video of a command."""

    source: str
    out: Path | None = None
    draw: Path | None = None
    every: int = 1
    resume: bool = False
    overwrite: bool = False
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class _Track(Finding, Video):
    """Find the faces of a video, and follow each under a number of its own.

    A video is a file, an address (rtsp://, http://), the number of a camera, or a pattern of
    numbered pictures, such as frames_%05d.png.
    """

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEO")]
    """The video."""
    out: File = None
    """Write one JSON line per frame to this file, as each is done; or, to a .txt file, one line
    per face, as MOTChallenge has them."""
    draw: File = None
    """Write the video with its faces drawn to this file: .mp4, .m4v, .mov, .mkv or .webm."""
    every: int = 1
    """The model runs on every N-th frame, and on the first and last of each scene; in the others
    the faces are where they are expected."""
    resume: Flag = False
    """Go on with the lines of --out: what is there is not detected again. The same model, settings
    and video must have made it."""
    overwrite: Flag = False
    """Replace what --out and --draw name."""
    json: Flag = False
    """Print JSON lines instead of a table."""


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind track` with these arguments."""
    options = tyro.cli(_Track, args=args, prog="facefind track")
    return run(options, options)


def run(options: Finding, video: Video) -> int:
    """Exit code of `track`, or of `detect` for a video: its faces are found and followed.

    Raises:
        DataError: its options contradict each other, or would write over what is read.
    """
    from facefind import pipeline
    from facefind.evaluation import mot as trajectories
    from facefind.video import VideoReader, VideoWriter, is_stream, read_video
    from facefind.video.opening import name_of

    options.check_inference()
    check_range("--every", video.every, 1)
    mot = video.out is not None and video.out.suffix == ".txt"
    if video.resume and (video.out is None or mot or is_stream(video.source)):
        raise DataError("--resume goes on with the JSON lines of a video file: name them as --out")
    if video.resume and video.overwrite:
        raise DataError("--resume keeps what is there, --overwrite replaces it: choose one")
    reads = options.reads()
    reads += [] if is_stream(video.source) else [video.source]
    pipeline.check_outputs(reads, files={"--out": video.out, "--draw": video.draw})
    if video.out is not None and not mot and pipeline.format_of(video.out) != "jsonl":
        raise DataError(f"--out {video.out}: frames are written as JSON lines (.jsonl)")
    for name, path in (("--draw", video.draw), ("--out", video.out if mot else None)):
        if path is not None and path.exists() and not (video.overwrite or video.resume):
            raise DataError(f"{name} {path} is there already: replace it (--overwrite)")
    started = time.perf_counter()
    frames = faces = 0
    stopped: BaseException | None = None
    ids: set[int] = set()
    kept: list[tuple[int, Faces]] = []
    with ExitStack() as stack:
        reader = stack.enter_context(VideoReader(video.source, packets=video.draw is not None))
        detector = options.detector()
        name = name_of(video.source)
        lines = None
        if video.out is not None and not mot:
            settings = pipeline.video_settings(video.source, detector, every=video.every)
            lines = stack.enter_context(
                pipeline.FrameLines(
                    video.out,
                    name,
                    settings=settings,
                    resume=video.resume,
                    overwrite=video.overwrite,
                )
            )
        writer = None
        if video.draw is not None:
            writer = stack.enter_context(VideoWriter(video.draw, reader, deep=False))
        found = stack.enter_context(
            read_video(
                reader,
                detector,
                every=video.every,
                track=True,
                images=writer is not None,
                known=() if lines is None else lines.known(),
            )
        )
        bar = tqdm(unit="frame", leave=False, disable=None, total=reader.frames)
        stack.callback(bar.close)
        wide = output.widths([_HEADER, _WIDEST], narrowest=8)
        if not video.json:
            bar.write(output.line(_HEADER, wide, right=(0, 1, 2)))
        try:
            for frame in pipeline.detect_video(found, lines, writer):
                bar.update()
                if mot:
                    kept.append((frame.index, frame.faces))
                frames, faces = frames + 1, faces + len(frame.faces)
                numbers = [] if frame.faces.ids is None else sorted(frame.faces.ids.tolist())
                ids.update(numbers)
                row = (str(frame.index), f"{float(frame.time):.3f}", str(len(frame.faces)))
                text = output.line((*row, " ".join(map(str, numbers))), wide, right=(0, 1, 2))
                shown = json.dumps(pipeline.video_record(name, frame)) if video.json else text
                output.show(shown, needed=lines is None and writer is None and not mot)
        except (ImageError, KeyboardInterrupt) as error:
            if not is_stream(video.source):
                raise
            stopped = error  # what has come of a stream is written all the same
        if mot and video.out is not None:
            trajectories.write(trajectories.of_faces(kept), video.out)
        before = 0 if lines is None else lines.frames
    parts = [f"{frames} frames", f"{faces} faces", f"{len(ids)} tracks"]
    parts += [f"{before} done before"] if before else []
    parts += [f"{reader.broken} broken packets left out"] if reader.broken else []
    parts += [f"opened again {reader.reconnects} times"] if reader.reconnects else []
    output.say(f"{', '.join(parts)} in {time.perf_counter() - started:.1f} s")
    if stopped is not None:
        raise stopped
    return 1 if reader.broken else 0
