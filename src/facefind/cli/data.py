"""`facefind data`: convert, check and count labeled sets."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from facefind.cli import output
from facefind.cli.options import File, Flag, LabeledSetText, check_written
from facefind.cli.subcommands import choose
from facefind.errors import DataError
from facefind.images import MAX_PIXELS

if TYPE_CHECKING:
    from facefind.datasets import Report, Sample

__all__ = ["main"]

ACTIONS = {
    "convert": "write the labels of a set in another layout",
    "check": "look for what is wrong in a set, and for pictures it shares with another",
    "stats": "count what a set holds",
}
_KINDS = {
    "label": "label that is not as its format demands",
    "name": "two pictures of one name",
    "file": "image missing, unreadable or damaged",
    "size": "image of another size than labeled",
    "area": "box without area",
    "outside": "box outside its image",
    "twice": "box labeled twice",
    "tiny": "tiny box",
    "order": "landmarks in the wrong order",
    "landmarks": "landmarks far from their box",
    "copy": "same picture twice",
}
_REMARKS = {"tiny"}  # reported, but no fault
_EXAMPLES = 3
Place = Annotated[LabeledSetText, tyro.conf.Positional]


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind data` with these arguments."""
    name, rest = choose(args, "facefind data", "Labeled sets.", "action", ACTIONS)
    if name is None:
        return 0
    command = shlex.join(["facefind", "data", *args])
    program = f"facefind data {name}"
    if name == "convert":
        return _convert(tyro.cli(_Convert, args=rest, prog=program), command)
    if name == "check":
        return _check(tyro.cli(_Check, args=rest, prog=program), command)
    return _stats(tyro.cli(_Stats, args=rest, prog=program), command)


@dataclass(frozen=True, kw_only=True)
class _Set:
    """Options of every action."""

    json: Flag = False
    """Print JSON instead of a table."""
    out: File = None
    """Write the same as JSON to this file."""


@dataclass(frozen=True, kw_only=True)
class _Convert(_Set):
    """Write the labels of a set in another layout.

    What a layout cannot hold is left out and reported: yolo, retinaface and voc keep no ignored
    boxes or no landmarks, most keep no attributes, wider rounds to whole pixels.
    """

    data: Place
    """The labeled set, as --data names it elsewhere: PATH, PATH,images=DIR, PATH,layout=coco."""
    target: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """The folder to write."""
    to: Literal["wider", "coco", "retinaface", "scrfd", "yolo", "voc"]
    """The layout to write."""
    pictures: Literal["none", "copy", "link"] = "none"
    """Put the pictures where the layout has them: not at all, as copies, or as links."""


@dataclass(frozen=True, kw_only=True)
class _Check(_Set):
    """Look for what is wrong in a set, and for pictures it shares with another.

    Labels that are not as their format demands are all named, with file and line, and the rest of
    the set is looked at without them. The exit code is 2 where there are any, for no other command
    takes such a set, and 1 where something else is wrong; tiny boxes alone are no fault.
    """

    data: Place
    """The labeled set, as --data names it elsewhere: PATH, PATH,images=DIR, PATH,layout=coco."""
    other: Annotated[
        str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[OTHER]", help_behavior_hint="")
    ] = None
    """A set that must share no picture with it, such as the one to measure on."""
    tiny: float = 4.0
    """Sides below so many pixels are pointed out."""
    max_pixels: int = MAX_PIXELS
    """Images of more pixels are pointed out, as detect and train refuse them."""
    plot: File = None
    """Draw sizes, counts, places and shapes of the faces to this file."""


@dataclass(frozen=True, kw_only=True)
class _Stats(_Set):
    """Count what a set holds."""

    data: Place
    """The labeled set, as --data names it elsewhere: PATH, PATH,images=DIR, PATH,layout=coco."""
    plot: File = None
    """Draw sizes, counts, places and shapes of the faces to this file."""


def _convert(options: _Convert, command: str) -> int:
    from facefind import datasets
    from facefind.datasets.conversion import contents, losses, read_written
    from facefind.outputs import check_outputs

    check_written([options.data], out=options.out)
    spec = datasets.SetSpec.parse(options.data)
    if check_outputs(
        [spec.path, *filter(None, [spec.options.get("images")])],
        folders={"DIR": options.target},
    ):
        raise DataError(f"{options.target} lies in {options.data}: give a folder elsewhere")
    if options.target.is_dir() and any(options.target.iterdir()):
        raise DataError(f"{options.target} holds files already: give a new or an empty folder")
    samples = datasets.read_labels(options.data)
    absent = [sample.name for sample in samples if not sample.path.is_file()]
    needs_size = options.to in ("coco", "scrfd", "yolo", "voc")
    if absent and (
        options.pictures != "none"
        or (needs_size and any(s.image_size is None and not s.path.is_file() for s in samples))
    ):
        raise DataError(
            f"{options.data}: {len(absent)} of {len(samples)} images are not there, e.g. "
            f"{absent[0]}; this layout needs them: give their folder, as in "
            f"{options.data},images=DIR"
        )
    place = datasets.write(samples, options.target, options.to, images=options.pictures)
    again = read_written(samples, place, options.to)
    gone: dict[str, Any] = losses(samples, again)
    flat = datasets.read_labels(options.data, flat="keep")
    if without_area := sum(map(len, flat)) - sum(map(len, samples)):
        gone["boxes without area"] = without_area
    report = {
        "labels": str(place),
        "layout": options.to,
        "images": len(samples),
        "images_absent": len(absent),
        "faces": sum(map(len, samples)),
        "written": contents(again),
        "lost": gone,
        "digest": datasets.digest(samples),
        "digest_written": datasets.digest(again),
        "command": command,
    }
    lines = [f"{place}: {len(again)} images, {sum(map(len, again))} boxes"]
    for what, number in gone.items():
        shown = f"{what} {', '.join(number)}" if isinstance(number, list) else f"{number} {what}"
        if what == "pixels":
            shown = f"corners, which moved by up to {shown}"
        lines.append(f"not kept by {options.to}: {shown}")
    output.emit(report, "\n".join(lines), as_json=options.json, out=options.out)
    return 0


def _check(options: _Check, command: str) -> int:
    from facefind import datasets

    check_written([options.data, options.other], out=options.out, plot=options.plot)
    others = []
    with datasets.collected_faults() as faults:
        samples = datasets.read_labels(options.data, flat="keep", unreadable="keep")
        if options.other is not None:
            others = datasets.read_labels(options.other, unreadable="keep")
    result = datasets.check(
        samples, others, tiny=options.tiny, max_pixels=options.max_pixels, faults=faults
    )
    if options.plot is not None:
        _draw(samples, options.plot)
    report = result.to_dict() | {"command": command, "other": options.other or ""}
    output.emit(report, _text(result), as_json=options.json, out=options.out)
    return 2 if faults else 1 if set(result.counts) - _REMARKS else 0


def _text(result: Report) -> str:
    lines = [
        f"{result.images} images ({result.empty_images} without faces), {result.faces} faces "
        f"({result.with_landmarks} with landmarks), {result.ignored} ignored boxes",
        "",
        output.table(
            ("side, pixels", "faces"), [(k, str(n)) for k, n in result.sizes.items()], right=(1,)
        ),
        "",
    ]
    if not result.findings:
        return "\n".join([*lines, "nothing is wrong"])
    counts = Counter(finding.kind for finding in result.findings)
    for kind, text in _KINDS.items():
        if not counts[kind]:
            continue
        lines.append(f"{text}: {counts[kind]}")
        some = [finding for finding in result.findings if finding.kind == kind]
        if kind != "label":  # whose lines are what is to be corrected
            some = some[:_EXAMPLES]
        for finding in some:
            face = "" if finding.face is None else f", face {finding.face}"
            picture = f"{finding.image}{face}: " if finding.image else ""
            lines.append(f"  {picture}{finding.detail}")
        if counts[kind] > len(some):
            lines.append("  ...")
    return "\n".join([*lines, "", "--json or --out names every one"])


def _stats(options: _Stats, command: str) -> int:
    from facefind import datasets
    from facefind.datasets.statistics import QUANTILES, statistics

    check_written([options.data], out=options.out, plot=options.plot)
    samples = datasets.read_labels(options.data)
    result = statistics(samples)
    if options.plot is not None:
        _draw(samples, options.plot)
    header = ("", *(f"{100 * q:g}%" for q in QUANTILES))
    rows = [
        (text, *(f"{value:.4g}" for value in values))
        for text, values in (
            ("faces an image", result.faces_an_image),
            ("face side, pixels", result.side),
            ("face side / image side", result.relative_side),
            ("face width / height", result.aspect),
            ("image width", result.image_width),
            ("image height", result.image_height),
        )
        if values
    ]
    lines = [
        f"{result.images} images ({result.empty_images} without faces) in {result.groups} groups, "
        f"{result.faces} faces ({result.with_landmarks} with landmarks), "
        f"{result.ignored} ignored boxes",
        "",
        output.table(header, rows, right=range(1, len(header))),
        "",
    ]
    for key, counts in result.attributes.items():
        lines.append(f"{key}: " + ", ".join(f"{value or '-'} {n}" for value, n in counts.items()))
    lines.append(f"labels {result.digest[:12]}")
    report = result.to_dict() | {"data": options.data, "command": command}
    output.emit(report, "\n".join(lines), as_json=options.json, out=options.out)
    return 0


def _draw(samples: Sequence[Sample], plot: Path) -> None:
    from facefind.datasets.statistics import Geometry
    from facefind.plots.faces import draw_faces

    draw_faces(plot, Geometry.from_samples(samples))
