"""`facefind detect`: faces of images, folders and globs, told as they are found."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Literal

import tyro

from facefind.cli import output, pictures
from facefind.cli.options import File, Flag, Folder, Number, Text, Whole
from facefind.errors import DataError
from facefind.runtimes import Precision, RuntimeName

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from facefind.detector import FaceDetector
    from facefind.faces import Faces

__all__ = ["detect", "main"]

_DRAWABLE = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
_HEADER = ("image", "size", "faces", "scores")


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind detect` with these arguments."""
    return tyro.cli(detect, args=args, prog="facefind detect")


def detect(
    images: Annotated[
        list[str], tyro.conf.arg(metavar="IMAGE|DIR|GLOB ...", help_behavior_hint="")
    ],
    /,
    *,
    model: str = "default",
    protocol: Text = None,
    min_score: Number = None,
    runtime: RuntimeName = "auto",
    precision: Precision = "fp32",
    threads: Whole = None,
    batch: int = 8,
    out: File = None,
    draw: Folder = None,
    mesh: Flag = False,
    mesh_out: Folder = None,
    mesh_format: Literal["obj", "ply"] = "obj",
    resume: Flag = False,
    json: Flag = False,
) -> int:
    """Find the faces in images.

    Images that can't be read are named on stderr and the others are done all the same; the exit
    code is 1 then.

    Args:
        images: Files, folders (searched through) or globs.
        model: A model that ships (see `facefind models`) or an .onnx file.
        protocol: How images are scaled and faces merged: vga, original, full, close-up or another
            name, a long side, WIDTHxHEIGHT, any of them varied as in vga:flip; the model's own
            where not given.
        min_score: Leave out faces below this score; the model's own threshold where not given.
        runtime: The library that runs the model; auto takes the fastest that is installed.
        precision: Numbers it computes with: fp32, or bf16 where the CPU has it.
        threads: CPU threads; the runtime's own choice where not given.
        batch: Images that are searched together; the next ones are read meanwhile.
        out: Write one JSON line per image to this file, as each is done.
        draw: Write a copy of each image with its faces drawn to this folder.
        mesh: Find each face's mesh too, with a model that gives meshes; JSON and drawn copies show
            it.
        mesh_out: Write each face's mesh to a file of its own in this folder, colored by the image;
            asks for --mesh.
        mesh_format: Format of these files.
        resume: Go on with --out: skip the images that it already holds.
        json: Print the JSON lines instead of a table.
    """
    if batch < 1:
        raise DataError(f"--batch {batch}: wanted at least 1")
    if min_score is not None and not 0 <= min_score <= 1:
        raise DataError(f"--min-score {min_score}: wanted a number from 0 to 1")
    if resume and out is None:
        raise DataError("--resume goes on with the file of --out: name it")
    if mesh_out is not None and not mesh:
        raise DataError("--mesh-out writes what --mesh finds: name both")
    todo = pictures.named(images)
    if draw is not None:
        pictures.distinct({name: _target(name) for name in todo}, todo, "drawn copies")

    from facefind import FaceDetector

    detector = FaceDetector(
        model,
        runtime=runtime,
        threads=threads,
        precision=precision,
        protocol=protocol,
        min_score=min_score,
        batch_size=batch,
        mesh=mesh,
    )
    started = time.perf_counter()
    known = pictures.keep_whole_lines(out, "detect") if resume and out is not None else set()
    todo = {name: path for name, path in todo.items() if name not in known}
    with ExitStack() as stack:
        sinks: list[IO[str]] = [sys.stdout] if json else []
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            sinks.append(stack.enter_context(out.open("a" if resume else "w", encoding="utf-8")))
        making = _Making(todo, draw, mesh_out, mesh_format, detector, table=not json)
        done, failed = pictures.work(
            "detect", todo, detector, batch, done=making, sinks=sinks, head=making.head
        )
    parts = [_count(done, "image"), _count(making.faces, "face")]
    if known:
        parts.append(f"{len(known)} done before")
    if failed:
        parts.append(f"{failed} failed")
    print(f"{', '.join(parts)} in {time.perf_counter() - started:.1f} s", file=sys.stderr)
    return 1 if failed else 0


class _Making:
    """Draws and writes what was asked for of each image; gives its row of the table and its line.

    Attributes:
        head: of the table, None where there is none.
        faces: found so far.
    """

    def __init__(
        self,
        todo: Mapping[str, Path],
        draw: Path | None,
        mesh_out: Path | None,
        mesh_format: str,
        detector: FaceDetector,
        *,
        table: bool,
    ) -> None:
        self._draw, self._mesh_out, self._mesh_format = draw, mesh_out, mesh_format
        self._detector, self._table, self._single = detector, table, len(todo) == 1
        sample = [_HEADER, ("", "10000x10000", "", "0.00 to 0.00")]
        self._wide = output.widths([*sample, *((name, "", "", "") for name in todo)], narrowest=8)
        wanted = table and todo and not self._single
        self.head = output.line(_HEADER, self._wide, right=(1, 2)) if wanted else None
        self.faces = 0

    def __call__(
        self, name: str, picture: npt.NDArray[np.uint8], faces: Faces
    ) -> tuple[str | None, str]:
        self.faces += len(faces)
        if self._draw is not None:
            _save(self._draw / _target(name), picture, faces, self._detector)
        if self._mesh_out is not None:
            place = self._mesh_out / pictures.below(name)
            _save_meshes(place, self._mesh_format, picture, faces, self._detector)
        text = None
        if self._table and self._single:
            text = _portrait(faces)
        elif self._table:
            text = output.line(_row(name, faces), self._wide, (1, 2))
        return text, _record(name, faces)


def _target(name: str) -> Path:
    """Where a drawn copy lies below the folder of --draw; formats without a writer become PNG."""
    path = pictures.below(name)
    return path if path.suffix.lower() in _DRAWABLE else path.with_name(path.name + ".png")


def _save(path: Path, picture: npt.NDArray[np.uint8], faces: Faces, detector: FaceDetector) -> None:
    from PIL import Image

    from facefind.drawing import draw

    path.parent.mkdir(parents=True, exist_ok=True)
    decoder = detector.mesh_decoder
    triangles = None if decoder is None else decoder.mean.triangles
    Image.fromarray(draw(picture, faces, triangles=triangles)).save(path, quality=92)


def _save_meshes(
    place: Path,
    kind: str,
    picture: npt.NDArray[np.uint8],
    faces: Faces,
    detector: FaceDetector,
) -> None:
    """Write a file a face: `name.jpg` gives name.jpg-1.obj, the best face first."""
    from facefind.mesh import Mesh, write_obj, write_ply

    assert detector.mesh_decoder is not None  # asked for together
    write = write_obj if kind == "obj" else write_ply
    place.parent.mkdir(parents=True, exist_ok=True)
    for number, vertices in enumerate([] if faces.mesh is None else faces.mesh, 1):
        mesh = Mesh.from_face(vertices, detector.mesh_decoder.mean.triangles, picture)
        write(mesh, place.with_name(f"{place.name}-{number}.{kind}"))


def _record(name: str, faces: Faces) -> str:
    """One JSON line: coordinates to four decimals of a pixel, scores to six."""
    found = faces.to_dict(digits=4)
    seldom = {key for key in ("mesh", "ids") if found[key] is None}
    return json.dumps({"image": name} | {k: v for k, v in found.items() if k not in seldom})


def _row(name: str, faces: Faces) -> tuple[str, str, str, str]:
    height, width = faces.image_size
    ends = sorted({f"{score:.2f}" for score in (*faces.scores[-1:], *faces.scores[:1])})
    return name, f"{width}x{height}", str(len(faces)), " to ".join(ends)


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
