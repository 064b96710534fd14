"""How hard image mining thins a set out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from facefind.plots.figure import new_figure, save

__all__ = ["draw_skipped"]


def draw_skipped(
    path: str | Path, runs: Mapping[str, tuple[Sequence[int], Sequence[float]]]
) -> Path:
    """Write the share of skipped images by pass to an image file; return its path.

    Args:
        path: image file to write.
        runs: label -> numbers of the passes, and the fraction of images that each skipped.

    Source: SmallHardFace, fig. 7.
    """
    figure = new_figure(6, 4)
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axes = figure.subplots()
    for label, (numbers, skipped) in runs.items():
        axes.plot(numbers, skipped, marker=".", label=label)
    axes.set(xlabel="pass through the set", ylabel="images skipped", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return save(figure, path)
