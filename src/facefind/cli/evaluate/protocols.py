"""`facefind evaluate protocols`: accuracy and cost of test protocols, side by side."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from facefind.cli import output
from facefind.cli.evaluate.detections import LabeledSet, settings
from facefind.cli.evaluate.reporting import TableOptions
from facefind.cli.options import File, Folder, Measured, Number, check_written
from facefind.errors import DataError, FacefindError
from facefind.evaluation.wider import Mode
from facefind.files import scratch
from facefind.runtimes import cpu

if TYPE_CHECKING:
    from facefind.evaluation.wider import WiderResult
    from facefind.pipeline.timing import Timed

__all__ = ["run"]


@dataclass(frozen=True, kw_only=True)
class _Protocols(TableOptions, Measured, LabeledSet):
    """Evaluate one model under several test protocols: AP by subset, time and memory.

    Each protocol runs over all images in a process of its own, one image at a time. A protocol may
    be varied: smallhardface:600,1000,1400 has these sides in place of its own, vga:flip is made
    mirrored too, smallhardface:no-flip is not.
    """

    model: Annotated[str, tyro.conf.arg(metavar="NAME")]
    """A model that ships or an .onnx file."""
    test_protocols: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="NAME ...", aliases=("--protocols",))
    ]
    """Test protocols: names, sizes, or either varied."""
    min_score: Number = None
    """Leave out faces below this score; each protocol's floor, or .02, if not given."""
    test_protocol: tyro.conf.Suppress[None] = None  # these have the plural
    batch_size: tyro.conf.Suppress[None] = None  # one image at a time
    subset: File = None
    """A list of image names, one a line: count these images alone."""
    mode: Mode = "official"
    """How a detection matches a face: as the authors' toolbox, or by the best exact overlap."""
    keep: Folder = None
    """Keep what each protocol finds and costs, image by image, as JSON lines in this folder. Where
    they are there already, of the same model and settings, only the other images are done."""


def run(args: Sequence[str], command: str) -> int:
    """Exit code 0 once the table is out, 1 where a protocol or an image failed."""
    from facefind import __version__, protocols, weights
    from facefind.datasets.files import present
    from facefind.evaluation import report
    from facefind.evaluation.wider import evaluate, ground_truth, image_files
    from facefind.pipeline.timing import METHOD, measure

    options = tyro.cli(_Protocols, args=args, prog="facefind evaluate protocols")
    check_written([options.data, options.images], out=options.out)
    names = list(dict.fromkeys(protocols.get(text).name for text in options.test_protocols))
    if not names:
        raise DataError("--test-protocols: name at least one")
    options.check_inference()
    weights.find(options.model)
    truth = ground_truth(options.data, options.images)
    counted = truth.names
    if options.subset is not None:
        counted = truth.only(options.subset.read_text(encoding="utf-8").splitlines()).names
    paths, absent = present(image_files(counted, options.data, options.images), options.data)
    timed: dict[str, Timed] = {}
    results: dict[str, WiderResult] = {}
    with scratch() as folder:
        place = folder if options.keep is None else options.keep
        for name in names:
            try:
                done = measure(
                    settings(options, options.model, name),
                    paths,
                    place / f"{name.replace(':', '-')}.jsonl",
                )
            except FacefindError as error:
                print(f"facefind evaluate: {name} is left out: {error}", file=sys.stderr)
                continue
            for image, reason in done.failed.items():
                print(f"facefind evaluate: {name}: {image}: {reason}", file=sys.stderr)
            timed[name] = done
            only = None if options.subset is None else counted
            results[name] = evaluate(done.faces, truth, options.mode, only)
    if not timed:
        raise DataError("no protocol could be measured")
    rows = [_row(name, timed[name], results[name]) for name in timed]
    first = next(iter(results.values()))
    full = {
        "measure": "protocols",
        "protocol": first.protocol,
        "mode": first.mode,
        "image_set": first.image_set,
        "digest": first.digest,
        "images": first.images,
        "images_absent": absent,
        "faces": first.faces,
        "method": METHOD,
        "rows": [_plain(name, timed[name], results[name]) for name in timed],
        "processor": cpu.processor(),
        "cores": len(cpu.logical_cpus()),
        "facefind": __version__,
        "command": command,
    }
    header = ("protocol", *first.ap, "ms", "passes", "Mpixels", "peak MiB")
    text = options.table(header, rows, right=range(1, len(header)))
    text += "\n\n" + "\n".join(_notes(full, timed, absent))
    output.emit(report.finite(full), text, as_json=options.json, out=options.out)
    return 1 if len(timed) < len(names) or any(one.failed for one in timed.values()) else 0


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


def _notes(full: Mapping[str, Any], timed: Mapping[str, Timed], absent: Sequence[str]) -> list[str]:
    """Lines below the table: what the figures are of, how they were taken, and where."""
    source = next(iter(timed.values())).source
    lines = [
        f"{full['protocol']}; {full['image_set']}, {full['images']} images, labels "
        f"{full['digest'][:12]}",
        f"{source['model']}, {source['runtime']}, {source['precision']}, "
        f"{source['threads']} threads; {full['processor']}, {full['cores']} cores",
        full["method"],
    ]
    if absent:
        lines.append(
            f"image files that are not there: {len(absent)} (their faces count as missed), "
            f"e.g. {absent[0]}"
        )
    return lines
