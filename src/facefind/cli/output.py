"""How commands print: a table that fits the terminal, or JSON."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from facefind.errors import DataError
from facefind.files import write_text

__all__ = [
    "columns",
    "drop_stdout",
    "emit",
    "line",
    "markdown",
    "printable",
    "say",
    "shorten",
    "show",
    "table",
    "widths",
]

_GAP = "  "
_NARROWEST = 16


def columns() -> int:
    """Width of the terminal in characters; unlimited where stdout is a file or a pipe."""
    if "COLUMNS" in os.environ or sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    return 10_000


def printable(text: str) -> str:
    """`text` on one line that no terminal takes for commands: what shows nothing is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shorten(text: str, width: int) -> str:
    """`text` cut to `width` characters, its end kept: that is where paths differ."""
    return text if len(text) <= width else "…" + text[len(text) - max(width, 1) + 1 :]


def widths(
    rows: Sequence[Sequence[str]], limit: int | None = None, narrowest: int = _NARROWEST
) -> list[int]:
    """Width of each column of `rows` (the header among them), the first one cut to fit `limit`.

    The first column keeps at least `narrowest` characters, so the sum may still be over `limit`.
    """
    needed = [max(len(printable(cell)) for cell in column) for column in zip(*rows, strict=True)]
    over = sum(needed) + len(_GAP) * (len(needed) - 1) - (columns() if limit is None else limit)
    if over > 0:
        needed[0] = min(needed[0], max(needed[0] - over, narrowest))
    return needed


def line(cells: Sequence[str], wide: Sequence[int], right: Collection[int] = ()) -> str:
    """One row of a table; the columns whose numbers are in `right` end flush."""
    cells = [printable(cell) for cell in cells]
    placed = [
        shorten(cell, width).rjust(width) if index in right else shorten(cell, width).ljust(width)
        for index, (cell, width) in enumerate(zip(cells, wide, strict=True))
    ]
    return _GAP.join(placed).rstrip()


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """The rows under their header, or, where the terminal is too narrow, a block of lines a row."""
    limit = columns()
    wide = widths([header, *rows], limit)
    if sum(wide) + len(_GAP) * (len(wide) - 1) <= limit:
        return "\n".join(line(cells, wide, right) for cells in [header, *rows])
    label = max(map(len, header))
    blocks = [
        "\n".join(
            f"{name:<{label}}{_GAP}{cell}" for name, cell in zip(header, cells, strict=True) if cell
        )
        for cells in rows
    ]
    return "\n\n".join(blocks)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The rows under their header as a table of Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def emit(result: object, text: str, *, as_json: bool, out: Path | None) -> None:
    """Print `text`, or `result` as JSON; and write `result` as JSON to `out` where given.

    It is what a command ends with: a reader that wants no more, as in `| head`, is no error.

    Raises:
        DataError: `out` is there and is no JSON document that could have been written here.
    """
    encoded = json.dumps(result, indent=2)
    if out is not None:
        _check_report(out)
        write_text(out, encoded + "\n")
    try:
        print(encoded if as_json else text, flush=True)
    except BrokenPipeError:
        drop_stdout()


def say(text: str) -> None:
    """Print a line on stderr, beside a bar of progress; nobody has to be there to read it."""
    from tqdm import tqdm

    with suppress(OSError):
        tqdm.write(text, file=sys.stderr)
        sys.stderr.flush()


def show(text: str, *, needed: bool) -> None:
    """Print a line on stdout, beside a bar of progress.

    Where all that comes of the work is what is printed (`needed`), BrokenPipeError ends it when
    nobody reads it any more; otherwise no more is printed.
    """
    from tqdm import tqdm

    try:
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:
        if needed:
            raise
        drop_stdout()


def drop_stdout() -> None:
    """Let go of what is printed from here on: its reader is gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _check_report(out: Path) -> None:
    if not out.is_file() or not out.stat().st_size:
        return
    try:
        json.loads(out.read_text(encoding="utf-8"))
    except ValueError:
        raise DataError(f"--out {out} is there, and is no report: name another file") from None
