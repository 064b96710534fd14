"""A new figure and its image file: the only place that imports matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from facefind import files
from facefind.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of width x height inches; nothing is shown on a screen. Needs matplotlib."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure to an image file of the suffix's kind (.png, .svg, .pdf); return its path.

    Missing folders are made.

    Raises:
        DataError: on a suffix that matplotlib does not write.
    """
    path = Path(path)
    kinds = figure.canvas.get_supported_filetypes()
    kind = path.suffix.removeprefix(".").lower()
    if kind not in kinds:
        raise DataError(
            f"expected an image file with one of the suffixes .{', .'.join(sorted(kinds))}, "
            f"got {str(path)!r}"
        )
    with files.atomic(path) as draft:
        figure.savefig(draft, format=kind, dpi=120)
    return path
