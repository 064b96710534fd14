"""`facefind detect`: faces of images, folders and globs, printed as they are found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from facefind.cli import output
from facefind.cli.options import Batch, Finding, Flag, Folder, Place, leave_out
from facefind.conversion import FormatName
from facefind.errors import DataError

if TYPE_CHECKING:
    from facefind.detector import DetectionResult
    from facefind.faces import Faces
    from facefind.images import Found

__all__ = ["main"]

_HEADER = ("image", "size", "faces", "scores")
_WIDEST = ("", "10000x10000", "", "0.00 to 0.00")


@dataclass(frozen=True, kw_only=True)
class _Detect(Batch, Finding):
    """Find the faces in images, or in a video.

    Images that fail are named on stderr, the others are still done, and the exit code is 1. Nothing
    that is read is written over. A video (a file, an rtsp:// or http:// address, a camera's number,
    numbered pictures such as frames_%05d.png) is given alone: --out then has a line a frame, with
    its time and the faces' numbers, and --draw names a video.
    """

    out: Place = None
    """Write the faces of all images to this file, or to an address such as s3://bucket/f.parquet:
    JSON lines (.jsonl), as each is done; CSV (.csv) or Parquet (.parquet), once all are; see
    --format."""
    format: Annotated[FormatName | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Format of --out, if its suffix does not say it: coco, fiftyone and labelstudio are JSON,
    yolo is a folder."""
    draw: Annotated[str | None, tyro.conf.arg(metavar="DIR|URL", help_behavior_hint="")] = None
    """Write a copy of each image with its faces drawn to this folder, or to an address such as
    s3://bucket/drawn."""
    every: int = 1
    """In a video, the model runs on every N-th frame, and on the first and last of each scene."""
    mesh: Flag = False
    """Find each face's mesh too, with a model that gives meshes; JSON and drawn copies show it."""
    mesh_out: Folder = None
    """Write each face's mesh to a file of its own in this folder, colored by the image; needs
    --mesh."""
    mesh_format: Literal["obj", "ply"] = "obj"
    """Format of these files."""
    overwrite: Flag = False
    """Replace the results that --out, --draw, --mesh-out and --failures name, if there are any."""


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind detect` with these arguments."""
    from facefind import pipeline
    from facefind.cli.work import Work
    from facefind.video import is_video

    options = tyro.cli(_Detect, args=args, prog="facefind detect")
    if any(map(is_video, options.images)):
        return _video(options)
    options.check_inference()
    if options.every != 1:
        raise DataError("--every is of videos: give one")
    if options.resume and options.out is None:
        raise DataError("--resume appends to the file of --out: name it")
    if options.resume and options.overwrite:
        raise DataError("--resume keeps what is there, --overwrite replaces it: choose one")
    if options.mesh_out is not None and not options.mesh:
        raise DataError("--mesh-out writes what --mesh finds: name both")
    work = Work(
        "detect",
        options,
        files={"--out": options.out},
        folders={"--draw": options.draw, "--mesh-out": options.mesh_out},
        reads=options.reads(),
    )
    if options.out is None and options.format is not None:
        raise DataError("--format is that of --out: name it")
    form = None if options.out is None else pipeline.format_of(options.out, options.format)
    if options.mesh and form not in (None, "jsonl"):
        raise DataError(f"meshes fit into JSON lines, not into {form}: name a .jsonl file")
    images: Iterable[Found] = work.images()
    if options.draw is not None:
        images = work.distinct(
            lambda one: pipeline.DrawingFolder.target(one.name),
            options.draw,
            "drawn copies",
            images,
        )
    if options.mesh_out is not None:
        images = work.distinct(
            lambda one: pipeline.MeshFolder.target(one.name), options.mesh_out, "the meshes", images
        )
    peeked = work.peek(images)
    detector = options.detector(mesh=options.mesh)
    settings = pipeline.detector_settings(detector) | work.folders()
    again: dict[str, Any] = {
        "settings": settings,
        "resume": options.resume,
        "overwrite": options.overwrite,
    }
    folders: list[pipeline.DrawingFolder | pipeline.MeshFolder] = []
    lines: pipeline.JsonLines | pipeline.ResultFile | None = None
    with ExitStack() as stack:
        if options.draw is not None:
            folders.append(pipeline.DrawingFolder(options.draw, detector.mesh_decoder, **again))
        if options.mesh_out is not None and detector.mesh_decoder is not None:
            folders.append(
                pipeline.MeshFolder(
                    options.mesh_out, detector.mesh_decoder, options.mesh_format, **again
                )
            )
        failures = work.open_failures(overwrite=options.overwrite)
        if failures is not None:
            stack.callback(failures.close)
        if options.out is not None:
            lines = pipeline.open_results(options.out, form, **again)
            stack.enter_context(lines)
        if failures is not None:
            failures.begin()
        done: set[str] = set() if lines is None else lines.names
        first, total, files = work.left(peeked, done)
        progress = work.progress(needs_reader=lines is None and not folders)
        table = None
        if not options.json:
            table = _Table(first, single=total is not None)
            if table.head:
                progress.print(table.head)

        def write(result: DetectionResult) -> None:
            for folder in folders:
                assert result.image is not None
                folder.write(result.source.name, result.image, result.faces)
            if lines is not None:
                lines.write(pipeline.to_record(result.source.name, result.faces))

        faces = 0
        for result in work.do(detector, files, write, progress, total, images=bool(folders)):
            name = result.source.name
            faces += len(result.faces)
            if table is not None:
                progress.print(table.row(name, result.faces))
            else:
                progress.print(json.dumps(pipeline.to_record(name, result.faces)))
        if isinstance(lines, pipeline.ResultFile):
            lines.keep_journal = progress.failed > 0
    return work.report([_count(progress.done, "image"), _count(faces, "face")], progress, done)


def _video(options: _Detect) -> int:
    """Exit code of the command for a video."""
    from facefind.cli import track

    if len(options.images) > 1:
        raise DataError(f"one video at a time: got {len(options.images)} sources")
    names = "mesh mesh_out failures retry_failed shard format files_from quiet"
    leave_out(options, names, "is of images: leave it out for a video")
    fields = ("every", "resume", "overwrite", "json")
    values = {name: getattr(options, name) for name in fields}
    out, draw = (None if one is None else Path(one) for one in (options.out, options.draw))
    video = track.Video(source=options.images[0], out=out, draw=draw, **values)
    return track.run(options, video)


class _Table:
    """A line an image, under `head` where there are any; a single image has a line a face."""

    def __init__(self, first: Sequence[Found], *, single: bool) -> None:
        self._single = single and len(first) == 1
        names = [(file.name, "", "", "") for file in first]
        self._widths = output.widths([_HEADER, _WIDEST, *names], narrowest=8)
        self.head = ""
        if first and not self._single:
            self.head = output.line(_HEADER, self._widths, right=(1, 2))

    def row(self, name: str, faces: Faces) -> str:
        """What is printed of an image."""
        if self._single:
            return _portrait(faces)
        height, width = faces.image_size
        ends = sorted({f"{score:.2f}" for score in (*faces.scores[-1:], *faces.scores[:1])})
        row = (name, f"{width}x{height}", str(len(faces)), " to ".join(ends))
        return output.line(row, self._widths, right=(1, 2))


def _portrait(faces: Faces) -> str:
    """A line per face: the table of a single image."""
    if not len(faces):
        return "no face found"
    rows = [
        (str(number), f"{score:.3f}", *(f"{value:.1f}" for value in box))
        for number, (box, score) in enumerate(zip(faces.boxes, faces.scores, strict=True), 1)
    ]
    return output.table(("face", "score", "left", "top", "right", "bottom"), rows, right=range(6))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
