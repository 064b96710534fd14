"""`facefind mesh`: decoders for meshes of one's own, and the template that ships."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from facefind.cli import output
from facefind.cli.options import File, Text, Whole, check_written
from facefind.cli.subcommands import choose
from facefind.errors import DataError
from facefind.files import atomic, sha256, write_json

if TYPE_CHECKING:
    from facefind.mesh import Decoder
    from facefind.systems.mesh.pretrain import Errors, Report

__all__ = ["main"]

ACTIONS = {
    "pretrain": "train a mesh decoder on faces that are generated over a template",
    "template": "write a template, or the mean face of a decoder, as OBJ or PLY",
}


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind mesh` with these arguments."""
    name, rest = choose(args, "facefind mesh", "Face meshes.", "action", ACTIONS)
    if name is None:
        return 0
    program = f"facefind mesh {name}"
    if name == "pretrain":
        command = shlex.join(["facefind", "mesh", *args])
        return _pretrain(tyro.cli(_Pretrain, args=rest, prog=program), command)
    return _template(tyro.cli(_Template, args=rest, prog=program))


@dataclass(frozen=True)
class _Pretrain:
    """Train a mesh decoder on generated faces, and report its errors on others.

    The file is what recipes take as --network.mesh.decoder; its card is written beside it.
    """

    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT.npz")]
    """The decoder's file."""
    template: File = None
    """An OBJ file of a face that looks along +z, y up; the project's own template if not given."""
    landmarks: Annotated[
        tuple[int, int, int, int, int] | None, tyro.conf.arg(metavar="I I I I I")
    ] = None
    """Its vertices, counted from 0, at left eye, right eye (as seen), nose tip, left and right
    mouth corner; without them the mesh is aligned by its bounds."""
    levels: Whole = None
    """Coarser meshes, each a quarter of the last; 4 if not given, fewer on small meshes."""
    steps: int = 6000
    """Of training."""
    faces: int = 6144
    """Generated to learn from."""
    seed: int = 0
    """Of faces and weights."""
    threads: Whole = None
    """CPU threads; torch's own choice if not given."""


@dataclass(frozen=True)
class _Template:
    """Write the project's template, or the mean face of a decoder, for other programs."""

    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT.obj|OUT.ply")]
    """The mesh's file."""
    decoder: Text = None
    """File of a decoder whose mean face is written instead."""


def _pretrain(chosen: _Pretrain, command: str) -> int:
    import torch

    from facefind.systems.mesh.pretrain import pretrain
    from facefind.systems.mesh.template import face_template, own_template

    if chosen.out.suffix != ".npz":
        raise DataError(f"{chosen.out}: a decoder's file ends in .npz")
    check_written([chosen.template], OUT=chosen.out)
    if chosen.steps < 1 or chosen.faces < 2:
        raise DataError(f"--steps {chosen.steps} --faces {chosen.faces}: expected 1 and 2 or more")
    if chosen.landmarks is not None and chosen.template is None:
        raise DataError("--landmarks are vertices of --template: name both")
    if chosen.threads is not None:
        torch.set_num_threads(chosen.threads)
    if chosen.template is None:
        template = face_template()
    else:
        template = own_template(chosen.template, chosen.landmarks)

    def progress(step: int, loss: float) -> None:
        print(f"step {step} of {chosen.steps}: loss {loss:.4f}", file=sys.stderr, flush=True)

    decoder, report = pretrain(
        template,
        steps=chosen.steps,
        faces=chosen.faces,
        level_count=chosen.levels,
        seed=chosen.seed,
        progress=progress,
    )
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    decoder.save(chosen.out)
    describe(chosen.out, decoder, report, command)
    rows = [_row(name, getattr(report, name)) for name in ("decoder", "linear", "average")]
    head = ("on unseen faces", "vertices, % of height", "colors, of 255")
    print(output.table(head, rows, right=(1, 2)))
    return 0


def describe(path: Path, decoder: Decoder, report: Report, command: str) -> Path:
    """Write the card of a decoder beside it, with its SHA-256, and return the card's path."""
    from facefind import __version__

    card = {
        "name": path.stem,
        "kind": "mesh decoder",
        "vertices": len(decoder.mean),
        "triangles": len(decoder.mean.triangles),
        "levels": [
            len(decoder.mean),
            *(layer.up.shape[1] for layer in decoder.layers[-2::-1] if layer.up),
        ],
        "parameters": sum(a.size for a in decoder.first)
        + sum(layer.weight.size + layer.bias.size for layer in decoder.layers),
        "landmarks": decoder.landmarks is not None,
        "training": {
            "faces": f"{report.faces} generated by facefind.systems.mesh.variation",
            "steps": report.steps,
            "command": command,
            "version": __version__,
        },
        "results": {
            "faces": "generated alike, never learned from",
            "units": "position: mean distance in per cent of the face's height; color: of 255",
            "decoder": dataclasses.asdict(report.decoder),
            "linear": dataclasses.asdict(report.linear),
            "average": dataclasses.asdict(report.average),
        },
        "license": "Apache-2.0",
        "notes": "Learned from formulas alone: no scan, photograph or person is in it.",
        "sha256": sha256(path),
    }
    place = path.with_suffix(".json")
    write_json(place, card)
    return place


def _row(name: str, errors: Errors) -> tuple[str, str, str]:
    names = {
        "decoder": "decoder",
        "linear": "as many principal components",
        "average": "the average face",
    }
    return names[name], f"{errors.position:.3f}", f"{errors.color:.2f}"


def _template(chosen: _Template) -> int:
    from facefind.mesh import Decoder, write_obj, write_ply
    from facefind.systems.mesh.template import face_template

    writers = {".obj": write_obj, ".ply": write_ply}
    if chosen.out.suffix not in writers:
        raise DataError(f"{chosen.out}: expected a file that ends in .obj or .ply")
    check_written([chosen.decoder], OUT=chosen.out)
    mesh = face_template().mesh if chosen.decoder is None else Decoder.load(chosen.decoder).mean
    with atomic(chosen.out) as draft:
        writers[chosen.out.suffix](mesh, draft)
    print(f"{len(mesh)} vertices and {len(mesh.triangles)} triangles in {chosen.out}")
    return 0
