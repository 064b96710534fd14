"""`facefind evaluate protocols`: what test protocols give and take, side by side."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from facefind.cli import output
from facefind.cli.evaluate.cost import processor
from facefind.cli.evaluate.detections import Finding
from facefind.cli.evaluate.timing import HOW, Timed, measure
from facefind.cli.options import File, Flag, Folder, Number, Whole
from facefind.errors import DataError, FacefindError
from facefind.evaluation.wider import Mode
from facefind.runtimes import Precision, RuntimeName

if TYPE_CHECKING:
    from facefind.evaluation.wider import WiderResult

__all__ = ["run"]


@dataclass(frozen=True, kw_only=True)
class _Protocols:
    """Measure one model under several test protocols: AP by subset, time and memory.

    Each protocol runs over all images in a process of its own, one image at a time. A protocol may
    be varied: smallhardface:600,1000,1400 has these sides in place of its own, vga:flip is made
    mirrored too, smallhardface:no-flip is not.
    """

    model: Annotated[str, tyro.conf.arg(metavar="NAME")]
    """A model that ships or an .onnx file."""
    images: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """The folder that holds the labeled images by their names."""
    labels: Annotated[Path, tyro.conf.arg(metavar="DIR|FILE")]
    """The official folder of .mat files; or any labels, whose faces then count by their height."""
    protocols: Annotated[tuple[str, ...], tyro.conf.arg(metavar="PROTOCOL ...")]
    """Test protocols: names, sizes, or either varied."""
    subset: File = None
    """A list of image names, one a line: count these images alone."""
    mode: Mode = "official"
    """How a detection meets a face: as the authors' toolbox, or by the best exact overlap."""
    min_score: Number = None
    """Leave out faces below this score; not given: each protocol's floor, or .02."""
    runtime: RuntimeName = "auto"
    """The library that runs the model."""
    precision: Precision = "fp32"
    """Numbers it computes with."""
    threads: Whole = None
    """CPU threads; the runtime's own choice where not given."""
    keep: Folder = None
    """Keep what each protocol finds and takes, image by image, as JSON lines in this folder. Where
    they are there already, of the same model and settings, only the other images are done."""
    markdown: Flag = False
    """Print a Markdown table."""
    out: File = None
    """Write the result as JSON to this file."""
    json: Flag = False
    """Print JSON instead of a table."""


def run(args: Sequence[str], command: str) -> int:
    """Exit code 0 once the table is told, 1 where a protocol or an image failed."""
    from facefind import __version__, protocols, weights
    from facefind.cli.evaluate.wider import ground_truth, located
    from facefind.evaluation import report
    from facefind.evaluation.wider import evaluate

    asked = tyro.cli(_Protocols, args=args, prog="facefind evaluate protocols")
    names = list(dict.fromkeys(protocols.get(text).name for text in asked.protocols))
    if not names:
        raise DataError("--protocols: name at least one")
    if asked.min_score is not None and not 0 <= asked.min_score <= 1:
        raise DataError(f"--min-score {asked.min_score}: wanted a number from 0 to 1")
    weights.find(asked.model)
    truth = ground_truth(asked.labels)
    wanted = truth.names
    if asked.subset is not None:
        wanted = truth.only(asked.subset.read_text(encoding="utf-8").splitlines()).names
    paths, absent = located(wanted, asked.images, asked.labels)
    timed: dict[str, Timed] = {}
    results: dict[str, WiderResult] = {}
    with TemporaryDirectory() as folder:
        place = Path(folder) if asked.keep is None else asked.keep
        for name in names:
            one = _finding(asked, name)
            try:
                done = measure(one, paths, place / f"{name.replace(':', '-')}.jsonl")
            except FacefindError as error:
                print(f"facefind evaluate: {name} is left out: {error}", file=sys.stderr)
                continue
            for image, reason in done.failed.items():
                print(f"facefind evaluate: {name}: {image}: {reason}", file=sys.stderr)
            timed[name] = done
            only = None if asked.subset is None else wanted
            results[name] = evaluate(done.faces, truth, asked.mode, only)
    if not timed:
        raise DataError("no protocol could be measured")
    rows = [_row(name, timed[name], results[name]) for name in timed]
    first, machine = next(iter(results.values())), {"processor": processor(), "cores": _cores()}
    told = {
        "measure": "protocols",
        "protocol": first.protocol,
        "mode": first.mode,
        "image_set": first.image_set,
        "digest": first.digest,
        "images": first.images,
        "images_absent": list(absent),
        "faces": first.faces,
        "how": HOW,
        "rows": [_plain(name, timed[name], results[name]) for name in timed],
        **machine,
        "facefind": __version__,
        "command": command,
    }
    header = ("protocol", *first.ap, "ms", "passes", "Mpixels", "peak MiB")
    text = (
        output.markdown(header, rows)
        if asked.markdown
        else output.table(header, rows, right=range(1, len(header)))
    )
    text += "\n\n" + "\n".join(_notes(told, timed, absent))
    output.emit(report.finite(told), text, as_json=asked.json, out=asked.out)
    return 1 if len(timed) < len(names) or any(one.failed for one in timed.values()) else 0


def _finding(asked: _Protocols, protocol: str) -> Finding:
    return Finding(
        model=asked.model,
        protocol=protocol,
        min_score=asked.min_score,
        runtime=asked.runtime,
        precision=asked.precision,
        threads=asked.threads,
    )


def _row(name: str, timed: Timed, result: WiderResult) -> tuple[str, ...]:
    return (
        name,
        *(f"{100 * ap:.2f}" for ap in result.ap.values()),
        f"{timed.milliseconds:.1f}",
        f"{timed.passes:.3g}",
        f"{timed.megapixels:.3g}",
        "-" if timed.peak_mib is None else f"{timed.peak_mib:.0f}",
    )


def _plain(name: str, timed: Timed, result: WiderResult) -> dict[str, Any]:
    return timed.source | {
        "name": name,
        "ap": result.ap,
        "ap_98": result.ap_98,
        "detections": result.detections,
        "milliseconds": timed.milliseconds,
        "passes": timed.passes,
        "megapixels": timed.megapixels,
        "peak_mib": timed.peak_mib,
        "images_timed": len(timed.faces),
        "images_failed": timed.failed,
    }


def _notes(told: Mapping[str, Any], timed: Mapping[str, Timed], absent: Sequence[str]) -> list[str]:
    """Lines below the table: what the figures are of, how they were taken, and where."""
    source = next(iter(timed.values())).source
    lines = [
        f"{told['protocol']}; {told['image_set']}, {told['images']} images, labels "
        f"{told['digest'][:12]}",
        f"{source['model']}, {source['runtime']}, {source['precision']}, "
        f"{source['threads']} threads; {told['processor']}, {told['cores']} cores",
        HOW,
    ]
    if absent:
        lines.append(
            f"image files that are not there: {len(absent)} (their faces count as missed), "
            f"e.g. {absent[0]}"
        )
    return lines


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
