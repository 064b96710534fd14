"""`facefind mining`: how many images each pass of a run with hard image mining skipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import tyro

from facefind.cli import output
from facefind.cli.options import File, Flag, check_written

__all__ = ["main", "mining"]


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind mining` with these arguments."""
    return tyro.cli(mining, args=args, prog="facefind mining")


def mining(
    run: Annotated[Path, tyro.conf.arg(metavar="RUN")],
    more: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="[RUN ...]")] = (),
    /,
    *,
    plot: File = None,
    json: Flag = False,
    out: File = None,
) -> int:
    """Show how many images hard image mining skipped, pass by pass.

    Args:
        run: Folder of a run that was trained with --mining.on.
        more: Folders of other such runs.
        plot: Image file for the shares, such as mining.png.
        json: Print JSON instead of a table.
        out: Write the same as JSON to this file.
    """
    from facefind.learn import mining as mined

    check_written((run, *more), out=out, plot=plot)
    runs = {str(folder): mined.passes(folder) for folder in (run, *more)}
    if plot is not None:
        from facefind.plots.mining import draw_skipped

        lists: dict[str, tuple[list[int], list[float]]] = {}
        for name, begun in runs.items():
            for _, one in begun:
                label = f"{name}, list {one.owner}" if one.owner else name
                numbers, skipped = lists.setdefault(label, ([], []))
                numbers.append(one.number)
                skipped.append(one.skipped)
        draw_skipped(plot, lists)
    found = {
        name: [{"step": step, **asdict(one)} for step, one in begun] for name, begun in runs.items()
    }
    lines = [
        [name, str(one.owner), str(one.number), str(step), f"{one.easy:.1%}", f"{one.skipped:.1%}"]
        for name, begun in runs.items()
        for step, one in begun
    ]
    header = ["run", "list", "pass", "from step", "easy", "skipped"]
    output.emit(found, output.table(header, lines, right=range(1, 6)), as_json=json, out=out)
    return 0
