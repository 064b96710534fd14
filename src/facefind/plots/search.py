"""Figures of a search: which networks are good, and where the best ones lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from facefind.errors import DataError
from facefind.plots.figure import new_figure, save


@dataclass(frozen=True)
class Panel:
    """A number of each network, with the 95 % interval and the median of the best one's."""

    values: Sequence[float]
    low: float
    high: float
    median: float


def draw_scores(
    path: str | Path,
    panels: Mapping[str, Panel],
    scores: Sequence[float],
    rungs: Sequence[int],
    *,
    score_name: str,
    errors: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
) -> Path:
    """Write the score of networks over each panel's numbers to an image file; return its path.

    Args:
        path: image file to write.
        panels: title -> its numbers, one for each network.
        scores: of each network.
        rungs: of each network, the rung of the training that the score is from: networks that
            halving stopped early are drawn paler.
        score_name: what the scores are.
        errors: name -> rising errors and the fraction of networks with at most that error, drawn
            as a further panel (RegNet, sec. 3.2).

    Raises:
        DataError: if there is no score.

    Source: SCRFD, fig. 5, 6 and 9.
    """
    if not scores:
        raise DataError("there is nothing to draw: not one trial gave a score")
    count = len(panels) + bool(errors)
    columns = min(count, 3)
    rows = math.ceil(count / columns)
    figure = new_figure(3.6 * columns, 3.0 * rows)
    for number, (title, panel) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(rows, columns, number)
        axes.axvspan(panel.low, panel.high, alpha=0.2, label="95 %")
        axes.axvline(panel.median, linestyle="--", label=f"median {panel.median:.2f}")
        axes.scatter(
            panel.values, scores, s=8, c=rungs, cmap="Blues", vmin=-1, vmax=max(rungs) or 1
        )
        axes.set(title=title, xlabel="share of multiply-adds", ylabel=score_name)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    if errors:
        axes = figure.add_subplot(rows, columns, count)
        for name, (error, fraction) in errors.items():
            axes.step(error, fraction, where="post", label=name)
        axes.set(title="error distribution", xlabel="1 - AP", ylabel="networks", ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return save(figure, path)
