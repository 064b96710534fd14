"""`facefind evaluate compare`: results side by side, where they may stand so."""

from __future__ import annotations

import json as json_text
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from facefind.cli import output
from facefind.cli.evaluate.reporting import draw
from facefind.cli.options import File, Flag, Folder
from facefind.errors import DataError

__all__ = ["run"]


@dataclass(frozen=True, kw_only=True)
class _Compare:
    """Put results of facefind evaluate side by side.

    Results of unlike protocols, settings or image sets are refused, with what differs.
    """

    results: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE.json")]
    """Files that --out has written."""
    labels: Folder = None
    """With results of WIDER FACE whose detections were kept: the folder of official .mat files. The
    differences to the first result are then told with their standard error, over the same pictures
    drawn anew 200 times."""
    subset: File = None
    """With --labels: the list of images that the results were measured on, if not all."""
    figure: File = None
    """Draw the curves to this file, of results written with --curves."""
    published: Folder = None
    """Draw the curves of other methods along."""
    force: Flag = False
    """Compare them all the same, and say what differs."""
    markdown: Flag = False
    """Print a Markdown table."""
    out: File = None
    """Write the comparison as JSON to this file."""
    json: Flag = False
    """Print JSON instead of a table."""


def run(args: Sequence[str], command: str) -> int:
    """Exit code 0 once the table is told; DataError (2) where results are unlike."""
    from facefind.evaluation import report

    asked = tyro.cli(_Compare, args=args, prog="facefind evaluate compare")
    if len(asked.results) < 2:
        raise DataError("give two results or more")
    results = _named([(path, _read(path)) for path in asked.results])
    figures = {name: report.figures(result) for name, result in results.items()}
    differ = report.unlike(results)
    if differ and not asked.force:
        raise DataError(
            f"these results are not alike: {report.describe(differ)}; --force compares them anyway"
        )
    full: dict[str, Any] = {"measure": "compare", "command": command, "figures": figures}
    full |= {"differ": differ, "files": [str(path) for path in asked.results]}
    columns = list(dict.fromkeys(column for row in figures.values() for column in row))
    rows = [
        (name, *(report.percent(row.get(column)) for column in columns))
        for name, row in figures.items()
    ]
    text = output.table(("result", *columns), rows, right=range(1, len(columns) + 1))
    if asked.markdown:
        text = report.table(results, force=asked.force)
    elif differ:
        text += f"\n\nNOT COMPARABLE: {report.describe(differ)}"
    else:
        first = next(iter(results.values()))
        text += f"\n\n{first['protocol']}; labels {str(first.get('digest', '?'))[:12]}"
        if silent := [name for name, one in results.items() if "test_protocol" not in one]:
            text += f"\ntest protocol not known: {', '.join(silent)}"
    if asked.labels is not None:
        paired, lines = _paired(results, asked.labels, asked.subset)
        full["paired"] = paired
        text += "\n\n" + lines
    if asked.figure is not None:
        draw(results, asked.figure, asked.published)
    output.emit(report.finite(full), text, as_json=asked.json, out=asked.out)
    return 0


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json_text.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: wanted a result of facefind evaluate ({error})") from None
    if not isinstance(content, dict) or "protocol" not in content:
        raise DataError(f"{path}: wanted a result of facefind evaluate, with its protocol")
    return content


def _named(reports: Sequence[tuple[Path, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Reports by their own name; by their files' where two share one."""
    names = [str(one.get("name") or path.stem) for path, one in reports]
    for others in ([path.stem for path, _ in reports], [str(path) for path, _ in reports]):
        if len(set(names)) < len(names):
            names = others
    if len(set(names)) < len(names):
        raise DataError("the same file is given twice")
    return {name: one for name, (_, one) in zip(names, reports, strict=True)}


def _paired(
    results: Mapping[str, Mapping[str, Any]], labels: Path, subset: Path | None
) -> tuple[dict[str, Any], str]:
    """Differences to the first result, as plain numbers and as a table."""
    from facefind.cli.evaluate.wider import ground_truth
    from facefind.evaluation import detections, report

    truth = ground_truth(labels)
    if subset is not None:
        truth = truth.only(subset.read_text(encoding="utf-8").splitlines())
    found = {}
    names = set(truth.names)
    for name, one in results.items():
        place = one.get("detections_kept") or one.get("detections_from")
        if one.get("measure") != "wider" or place is None or not Path(place).exists():
            raise DataError(
                f"{name}: --labels takes results of evaluate wider whose detections are at hand: "
                "measure them with --keep"
            )
        if one["digest"] != truth.digest():
            raise DataError(f"{name}: was measured on other labels or images than {labels}")
        every = detections.read(place)
        found[name] = {image: faces for image, faces in every.items() if _known(image, names)}
    first, *others = results
    mode = results[first]["mode"]
    table: list[tuple[str, ...]] = []
    plain: dict[str, Any] = {}
    for other in others:
        gained = report.compare(found[first], found[other], truth, mode)
        plain[other] = {part: asdict(gain) for part, gain in gained.items()}
        for part, gain in gained.items():
            row = [f"{100 * value:+.2f}" for value in (gain.value, gain.low, gain.high)]
            table.append((f"{other} - {first}", part, row[0], f"{100 * gain.error:.2f}", *row[1:]))
    header = ("difference", "faces", "AP", "standard error", "95% from", "to")
    return plain, output.table(header, table, right=range(2, 6))


def _known(image: str, names: set[str]) -> bool:
    from facefind.evaluation.detections import key

    parts = key(image).split("/")
    return any("/".join(parts[start:]) in names for start in range(len(parts)))
