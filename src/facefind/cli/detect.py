"""`facefind detect`: faces of images, folders and globs, printed as they are found."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import tyro

from facefind.cli import output
from facefind.cli.options import File, Flag, Folder, Inference, ShardText, Sources
from facefind.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from facefind.faces import Faces
    from facefind.images import Found

__all__ = ["main"]

_HEADER = ("image", "size", "faces", "scores")
_WIDEST = ("", "10000x10000", "", "0.00 to 0.00")


@dataclass(frozen=True, kw_only=True)
class _Detect(Inference):
    """Find the faces in images.

    Images that can't be read are named on stderr and the others are done all the same; the exit
    code is 1 then.
    """

    images: Sources
    """Files, folders (searched through) or globs."""
    model: str = "default"
    """A model that ships (see `facefind models`) or an .onnx file."""
    out: File = None
    """Write one JSON line per image to this file, as each is done."""
    draw: Folder = None
    """Write a copy of each image with its faces drawn to this folder."""
    mesh: Flag = False
    """Find each face's mesh too, with a model that gives meshes; JSON and drawn copies show it."""
    mesh_out: Folder = None
    """Write each face's mesh to a file of its own in this folder, colored by the image; needs
    --mesh."""
    mesh_format: Literal["obj", "ply"] = "obj"
    """Format of these files."""
    resume: Flag = False
    """Append to --out: skip the images that it already holds."""
    shard: ShardText = None
    """Do one part of the images only, such as 0/4, the first of four; parts go by the images'
    names, so that each of several machines can do its own."""
    json: Flag = False
    """Print the JSON lines instead of a table."""


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind detect` with these arguments."""
    from facefind import pipeline
    from facefind.cli.progress import Progress, peek

    options = tyro.cli(_Detect, args=args, prog="facefind detect")
    options.check_inference()
    if options.resume and options.out is None:
        raise DataError("--resume appends to the file of --out: name it")
    if options.mesh_out is not None and not options.mesh:
        raise DataError("--mesh-out writes what --mesh finds: name both")
    shard = None if options.shard is None else pipeline.Shard.from_text(options.shard)
    files: Iterable[Found] = pipeline.list_images(options.images, shard)
    if options.draw is not None:
        files = list(files)  # copies must not overwrite each other, so names are known up front
        targets = {file: pipeline.DrawingFolder.target(file.name) for file in files}
        pipeline.check_distinct(targets, "drawn copies")
    first, total, files = peek(files)
    detector = options.detector(options.model, mesh=options.mesh)
    started = time.perf_counter()
    with ExitStack() as stack:
        lines = drawings = meshes = None
        known: set[str] = set()
        if options.out is not None:
            lines = stack.enter_context(pipeline.JsonLines(options.out, resume=options.resume))
            known = lines.names
        if options.draw is not None:
            drawings = pipeline.DrawingFolder(options.draw, detector.mesh_decoder)
        if options.mesh_out is not None and detector.mesh_decoder is not None:
            meshes = pipeline.MeshFolder(
                options.mesh_out, detector.mesh_decoder, options.mesh_format
            )
        first = [file for file in first if file.name not in known]
        table = None if options.json else _Table(first, single=total is not None)
        progress = Progress("detect")
        results = pipeline.detect_files(
            detector,
            (file for file in files if file.name not in known),
            images=drawings is not None or meshes is not None,
        )
        faces = 0
        for result in progress(results, None if total is None else len(first)):
            name = result.source.name
            faces += len(result.faces)
            for folder in (drawings, meshes):
                if folder is not None and result.image is not None:
                    folder.write(name, result.image, result.faces)
            record = pipeline.to_record(name, result.faces)
            if lines is not None:
                lines.write(record)
            progress.print(json.dumps(record) if table is None else table.row(name, result.faces))
    parts = [_count(progress.done, "image"), _count(faces, "face")]
    if known:
        parts.append(f"{len(known)} done before")
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    print(f"{', '.join(parts)} in {time.perf_counter() - started:.1f} s", file=sys.stderr)
    return 1 if progress.failed else 0


class _Table:
    """A line an image, under a head that is printed at once; a single image has a line a face."""

    def __init__(self, first: Sequence[Found], *, single: bool) -> None:
        self._single = single and len(first) == 1
        names = [(file.name, "", "", "") for file in first]
        self._widths = output.widths([_HEADER, _WIDEST, *names], narrowest=8)
        if first and not self._single:
            print(output.line(_HEADER, self._widths, right=(1, 2)), flush=True)

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
