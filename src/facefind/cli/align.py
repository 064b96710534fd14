"""`facefind align`: faces turned upright and cut out by their five points."""

from __future__ import annotations

import hashlib
import json as json_text
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

import tyro

from facefind.cli import output, pictures
from facefind.cli.options import Flag, Number, Text, Whole
from facefind.errors import DataError
from facefind.runtimes import Precision, RuntimeName

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from facefind.faces import Faces

__all__ = ["align", "main"]

MANIFEST = "manifest.jsonl"
SETTINGS = "settings.json"
_HEADER = ("image", "faces", "crops")
_LARGEST_SIZE = 4096
_JPEG_QUALITY = 95


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind align` with these arguments."""
    return tyro.cli(align, args=args, prog="facefind align")


def align(
    images: Annotated[
        list[str], tyro.conf.arg(metavar="IMAGE|DIR|GLOB ...", help_behavior_hint="")
    ],
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")],
    size: int = 112,
    faces: Literal["all", "largest"] = "all",
    min_size: float = 0.0,
    format: Literal["png", "jpg"] = "png",
    model: str = "default",
    protocol: Text = None,
    min_score: Number = None,
    runtime: RuntimeName = "auto",
    precision: Precision = "fp32",
    threads: Whole = None,
    batch: int = 8,
    resume: Flag = False,
    json: Flag = False,
) -> int:
    """Cut out faces, turned upright, with their five points where recognition wants them.

    The crops of album/a.jpg are album/a_0.png, album/a_1.png, ... by falling score, or album/a.png
    with --faces largest. manifest.jsonl beside them has a line an image: each crop's file, score,
    box, points, and the transform that takes the image's pixels to the crop's. Images that can't be
    read are named on stderr and the others are done all the same; the exit code is 1 then.

    Args:
        images: Files, folders (searched through) or globs.
        out: The folder for the crops, the manifest and the settings.
        size: Side of a crop in pixels; the points of the 112-pixel template grow with it.
        faces: All faces of an image, or the one with the largest box.
        min_size: Leave out faces whose box has a shorter side, in the image's pixels.
        format: png keeps the pixels as they are, jpg is smaller.
        model: A model that ships (see `facefind models`) or an .onnx file.
        protocol: How images are scaled and faces merged: vga, original, full, close-up or another
            name, a long side, WIDTHxHEIGHT, any of them varied as in vga:flip; the model's own
            where not given.
        min_score: Leave out faces below this score; the model's own threshold where not given.
        runtime: The library that runs the model; auto takes the fastest that is installed.
        precision: Numbers it computes with: fp32, or bf16 where the CPU has it.
        threads: CPU threads; the runtime's own choice where not given.
        batch: Images that are searched together; the next ones are read meanwhile.
        resume: Go on in --out: skip the images that its manifest already holds.
        json: Print the manifest's lines instead of a table.
    """
    for option, value, least, most in (
        ("--batch", batch, 1, None),
        ("--size", size, 1, _LARGEST_SIZE),
        ("--min-size", min_size, 0, None),
        ("--min-score", 0 if min_score is None else min_score, 0, 1),
    ):
        if not least <= value or (most is not None and value > most):
            wanted = f"at least {least}" if most is None else f"{least} to {most}"
            raise DataError(f"{option} {value}: wanted {wanted}")
    inside = out.resolve()  # crops of an earlier run are no pictures to search
    todo = {
        name: path
        for name, path in pictures.named(images).items()
        if inside not in path.resolve().parents
    }
    stems = {name: pictures.below(name).with_suffix("") for name in todo}
    pictures.distinct(stems, todo, "the crops")

    from facefind import FaceDetector, weights

    detector = FaceDetector(
        model,
        runtime=runtime,
        threads=threads,
        precision=precision,
        protocol=protocol,
        min_score=min_score,
        batch_size=batch,
    )
    if not detector.card.landmarks:
        raise DataError(
            f"{detector.card.name} finds no points to align faces by; facefind models says which do"
        )
    sha256 = hashlib.sha256(weights.find(model).read_bytes()).hexdigest()
    settings = {
        "model": detector.card.name,
        "weights_sha256": sha256,
        "protocol": detector.protocol.name,
        "min_score": detector.min_score,
        "min_size": min_size,
        "faces": faces,
        "size": size,
        "format": format,
    }
    known = _begin(out, settings, resume)
    with (out / MANIFEST).open("a", encoding="utf-8") as manifest:
        sinks: list[IO[str]] = [manifest, sys.stdout] if json else [manifest]
        left = {name: path for name, path in todo.items() if name not in known}
        wide = output.widths([_HEADER, *((name, "", "") for name in left)], narrowest=8)
        cutting = _Cutting(
            out, stems, size, faces == "largest", min_size, format, None if json else wide
        )
        head = None if json or not left else output.line(_HEADER, wide, right=(1, 2))
        started = time.perf_counter()
        done, failed = pictures.work(
            "align", left, detector, batch, done=cutting, sinks=sinks, head=head
        )
    told = f"{done} images, {cutting.crops} crops{f', {failed} failed' if failed else ''}"
    print(f"{told} in {time.perf_counter() - started:.1f} s", file=sys.stderr)
    return 1 if failed else 0


def _begin(out: Path, settings: Mapping[str, Any], resume: bool) -> set[str]:
    """Names of the images done before in `out`, which is made, and keeps the settings.

    Raises:
        DataError: if there are crops already, and they are not to be gone on with or were made
            with other settings.
    """
    note = out / SETTINGS
    if (out / MANIFEST).exists():
        if not resume:
            raise DataError(f"--out {out} has crops already: --resume goes on, or give another")
        try:
            made = json_text.loads(note.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{note} does not tell how the crops were made: {error}") from None
        for key, value in settings.items():
            if made.get(key) != value:
                raise DataError(
                    f"the crops in {out} were made with {key} {made.get(key)}, not {value}; "
                    "give another --out"
                )
        return pictures.keep_whole_lines(out / MANIFEST, "align")
    output.write(note, json_text.dumps(settings, indent=2) + "\n")
    return set()


@dataclass
class _Cutting:
    """Cuts the faces of each image; gives its row of the table, `wide`, and its manifest line."""

    out: Path
    stems: Mapping[str, Path]
    size: int
    largest: bool
    min_size: float
    format: str
    wide: Sequence[int] | None
    crops: int = 0

    def __call__(
        self, name: str, picture: npt.NDArray[np.uint8], faces: Faces
    ) -> tuple[str | None, str]:
        made = list(self._cut(name, picture, faces))
        self.crops += len(made)
        height, width = faces.image_size
        record = {"image": name, "width": width, "height": height, "crops": made}
        row = (name, str(len(faces)), str(len(made)))
        text = None if self.wide is None else output.line(row, self.wide, right=(1, 2))
        return text, json_text.dumps(record)

    def _cut(
        self, name: str, picture: npt.NDArray[np.uint8], faces: Faces
    ) -> Iterator[dict[str, Any]]:
        """Write the crops of an image and yield what the manifest says of each."""
        from PIL import Image

        from facefind import landmarks

        stem = self.stems[name]
        for index in self._chosen(faces):
            face = faces[index]
            assert face.landmarks is not None  # the card was asked
            try:
                crop = landmarks.align(picture, face.landmarks, self.size)
            except ValueError as error:  # points on top of each other fix no crop
                print(f"facefind align: {name}, face {index}: {error}", file=sys.stderr)
                continue
            matrix = landmarks.similarity(face.landmarks, landmarks.template(self.size))
            suffix = f".{self.format}" if self.largest else f"_{index}.{self.format}"
            file = stem.with_name(stem.name + suffix)
            (self.out / file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(crop).save(self.out / file, quality=_JPEG_QUALITY)  # PNG has none
            yield {
                "file": file.as_posix(),
                "face": index,
                "score": round(float(face.score), 6),
                "box": [round(float(value), 4) for value in face.box],
                "landmarks": [[round(float(v), 4) for v in point] for point in face.landmarks],
                "transform": [[round(float(v), 8) for v in row] for row in matrix],
            }

    def _chosen(self, faces: Faces) -> list[int]:
        """Which of an image's faces are cut out, by falling score."""
        import numpy as np

        sides = faces.boxes[:, 2:] - faces.boxes[:, :2]
        chosen = np.flatnonzero(sides.min(axis=1) >= self.min_size)
        if self.largest and len(chosen):
            chosen = chosen[[np.argmax(sides[chosen].prod(axis=1))]]
        return [int(index) for index in chosen]
