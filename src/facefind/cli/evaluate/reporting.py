"""What every benchmark puts out at its end: a table, a Markdown row, JSON, and a figure."""

from __future__ import annotations

import platform
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from facefind.cli import output
from facefind.cli.options import File, Flag, Folder, Text, check_written
from facefind.errors import DataError

__all__ = [
    "CurveOptions",
    "ReportOptions",
    "TableOptions",
    "check_outputs",
    "draw",
    "remarks",
    "report",
]

_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Options of every benchmark on how its result is put out."""

    markdown: Flag = False
    """Print a Markdown table."""
    out: File = None
    """Write the result as JSON to this file."""
    json: Flag = False
    """Print JSON instead of a table."""

    def table(
        self, header: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int]
    ) -> str:
        """The rows under their header; numbers in `right` are those of columns that end flush."""
        if self.markdown:
            return output.markdown(header, rows)
        return output.table(header, rows, right=right)


@dataclass(frozen=True, kw_only=True)
class ReportOptions(TableOptions):
    """The same, of benchmarks whose result is a row of `facefind evaluate compare`."""

    name: Text = None
    """What the result is called in tables and figures; the model's or file's if not given."""


@dataclass(frozen=True, kw_only=True)
class CurveOptions(ReportOptions):
    """The same, of benchmarks that have curves."""

    curves: Flag = False
    """Have the curves in the JSON, too."""
    plot: File = None
    """Plot the curves to this file: .png, .svg or .pdf."""
    published: Folder = None
    """Plot the curves of other methods, too: a folder of WIDER FACE's wider_pr_info_*.mat or of
    FDDB's *DiscROC.txt and *ContROC.txt files."""


def check_outputs(options: Any) -> None:
    """Raise DataError where a file that a benchmark is to write is one that it reads."""
    given = {name: getattr(options, name, None) for name in ("data", "images", "detections")}
    model = getattr(options, "model", None)
    read = [*given.values(), model if str(model).endswith(".onnx") else None]
    written = {name: getattr(options, name, None) for name in ("out", "plot", "keep")}
    check_written(read, **written)


def report(
    options: ReportOptions,
    measure: str,
    result: Any,
    text: str,
    command: str,
    source: Mapping[str, Any] = {},
    **more: Any,
) -> None:
    """Print, write and draw a result of `facefind.evaluation`; `more` goes to the report as it is.

    `source` is what found the faces. None of it is lost: the report names the measure, the
    test protocol, the settings, the set and its digest, the weights, the versions and the command.
    """
    from facefind import __version__
    from facefind.evaluation import report as reports

    curves = isinstance(options, CurveOptions) and options.curves
    known = result.to_dict(curves=True) if isinstance(options, CurveOptions) else result.to_dict()
    full = {"measure": measure} | known | dict(source) | more
    full |= {"facefind": __version__, "versions": _versions(), "command": command}
    full = reports.finite(full)
    name = options.name or _name(full, measure)
    full["name"] = name
    if isinstance(options, CurveOptions) and options.plot is not None:
        draw({name: full}, options.plot, options.published)
    elif isinstance(options, CurveOptions) and options.published is not None:
        raise DataError("--published goes into the plot: name its file with --plot")
    if not curves and isinstance(options, CurveOptions):
        without = result.to_dict().keys()
        full = {key: value for key, value in full.items() if key not in known or key in without}
    if options.markdown:
        text = reports.table({name: full})
    output.emit(full, text, as_json=options.json, out=options.out)


def draw(results: Mapping[str, Any], plot: Path, published: Path | None) -> None:
    """Plot curves, with those of a folder of other methods where given."""
    from facefind.evaluation.published import Published, read_published
    from facefind.plots.curves import draw_curves

    others: Published = {}
    if published is not None:
        others, problems = read_published(published)
        for problem in problems[:_SHOWN]:
            print(f"facefind evaluate: left out of the plot: {problem}", file=sys.stderr)
        sets = {result.get("image_set") for result in results.values()}
        if parts := sorted(str(one) for one in sets if " of " in str(one)):
            print(
                f"facefind evaluate: published curves are of a whole set, these of {parts[0]}",
                file=sys.stderr,
            )
        if len(problems) > _SHOWN:
            more = len(problems) - _SHOWN
            print(f"facefind evaluate: and {more} more files left out", file=sys.stderr)
    try:
        draw_curves(plot, results, others)
    except ValueError as error:
        raise DataError(f"--plot {plot}: {error}") from error


def remarks(
    report: Mapping[str, Any],
    missing: Sequence[str] = (),
    absent: Sequence[str] = (),
    failed: Mapping[str, str] = {},
    absent_means: str = "their faces count as missed",
) -> list[str]:
    """Lines below a table: what was left out, and what the figures depend on."""
    lines = []
    if absent:
        lines.append(
            f"image files that are not there: {len(absent)} ({absent_means}), e.g. {absent[0]}"
        )
    if failed:
        lines.append(f"images that can't be read: {len(failed)}, e.g. {next(iter(failed))}")
    others = [name for name in missing if name not in set(absent) | set(failed)]
    if others:
        lines.append(f"without detections: {len(others)}, e.g. {others[0]}")
    if "test_protocol" in report:
        line = f"{report['model']}, test protocol {report['test_protocol']['name']}"
        if report.get("images_timed"):
            line += f", {report['images_timed']} images in {report['seconds']} s"
        lines.append(line)
    return lines


def _name(report: Mapping[str, Any], measure: str) -> str:
    for key in ("model", "detections_from"):
        if report.get(key):
            source = Path(report[key])
            # a model's own name may have a point in it: scrfd-2.5g
            return source.stem if source.suffix in {".onnx", ".jsonl", ".txt"} else source.name
    return measure


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("numpy", "scipy", "opencv-python-headless"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
