"""`facefind evaluate compare`: results side by side, where they can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from facefind.cli import output
from facefind.cli.evaluate.reporting import TableOptions, draw
from facefind.cli.options import File, Flag, Folder, Text, check_written
from facefind.errors import DataError

if TYPE_CHECKING:
    from facefind.evaluation.comparison import Difference

__all__ = ["run"]


@dataclass(frozen=True, kw_only=True)
class _Compare(TableOptions):
    """Put results of facefind evaluate side by side.

    Results of unlike protocols, settings or image sets are refused, with what differs.
    """

    results: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE.json")]
    """Files that --out has written."""
    data: Annotated[Text, tyro.conf.arg(metavar="SET")] = None
    """With results of WIDER FACE whose detections were kept: the set that they were measured on.
    The differences to the first result then get a standard error, by 200 bootstrap samples of the
    images."""
    subset: File = None
    """With --data: the list of images that the results were measured on, if not all."""
    plot: File = None
    """Plot the curves to this file, of results written with --curves."""
    published: Folder = None
    """Plot the curves of other methods, too."""
    force: Flag = False
    """Compare them all the same, and say what differs."""


def run(args: Sequence[str], command: str) -> int:
    """Exit code 0 once the table is out; DataError (2) where results are unlike."""
    from facefind.evaluation import comparison, report

    options = tyro.cli(_Compare, args=args, prog="facefind evaluate compare")
    check_written(
        [*options.results, options.data, options.subset], out=options.out, plot=options.plot
    )
    if len(options.results) < 2:
        raise DataError("give two results or more")
    results = comparison.read_results(options.results)
    figures = {name: report.figures(result) for name, result in results.items()}
    differ = report.unlike(results)
    if differ and not options.force:
        raise DataError(
            f"these results are not alike: {report.describe(differ)}; --force compares them anyway"
        )
    full: dict[str, Any] = {"measure": "compare", "command": command, "figures": figures}
    full |= {"differ": differ, "files": [str(path) for path in options.results]}
    columns = list(dict.fromkeys(column for row in figures.values() for column in row))
    rows = [
        (name, *(report.percent(row.get(column)) for column in columns))
        for name, row in figures.items()
    ]
    text = output.table(("result", *columns), rows, right=range(1, len(columns) + 1))
    if options.markdown:
        text = report.table(results, force=options.force)
    elif differ:
        text += f"\n\nNOT COMPARABLE: {report.describe(differ)}"
    else:
        first = next(iter(results.values()))
        text += f"\n\n{first['protocol']}; labels {str(first.get('digest', '?'))[:12]}"
        if silent := [name for name, one in results.items() if "test_protocol" not in one]:
            text += f"\ntest protocol not known: {', '.join(silent)}"
    if options.data is not None:
        gained = comparison.compare_kept(results, options.data, options.subset)
        full["paired"] = {
            name: {part: asdict(one) for part, one in parts.items()}
            for name, parts in gained.items()
        }
        text += "\n\n" + _differences(gained, next(iter(results)))
    if options.plot is not None:
        draw(results, options.plot, options.published)
    output.emit(report.finite(full), text, as_json=options.json, out=options.out)
    return 0


def _differences(found: Mapping[str, Mapping[str, Difference]], first: str) -> str:
    rows = []
    for other, gained in found.items():
        for part, one in gained.items():
            value, low, high = (f"{100 * v:+.2f}" for v in (one.value, one.low, one.high))
            rows.append((f"{other} - {first}", part, value, f"{100 * one.error:.2f}", low, high))
    header = ("difference", "faces", "AP", "standard error", "95% from", "to")
    return output.table(header, rows, right=range(2, 6))
