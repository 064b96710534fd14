"""Figures of a search: which networks are good, and where the best ones lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
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
            as a further panel (RegNet, sec. 3.1).

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


def draw_choices(
    path: str | Path, course: Mapping[int, Mapping[str, tuple[float, str, int]]]
) -> Path:
    """Write how the choices of a differentiable search came about to an image file; its path.

    Above, the entropy of each choice, and thick the mean of all; below, what is most probable at
    each step: a color an operation, a black mark where operation or source changes.

    Args:
        path: image file to write.
        course: step -> choice -> its entropy, and the operation and source that lead.

    Raises:
        DataError: if there is no step.
    """
    if not course:
        raise DataError("there is nothing to draw: no step of the search was logged")
    steps = sorted(course)
    choices = list(course[steps[0]])
    operations = sorted({course[step][name][1] for step in steps for name in choices})
    figure = new_figure(8.0, 3.0 + 0.16 * len(choices))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.0, 0.16 * len(choices) + 1])
    entropies = [[course[step][name][0] for step in steps] for name in choices]
    for values in entropies:
        above.plot(steps, values, linewidth=0.5, alpha=0.5)
    means = [sum(values) / len(values) for values in zip(*entropies, strict=True)]
    above.plot(steps, means, color="black", linewidth=2)
    above.set(ylabel="entropy (1: undecided)")
    above.grid(alpha=0.3)
    colors = {name: f"C{number % 10}" for number, name in enumerate(operations)}
    edges = [*steps, 2 * steps[-1] - steps[-2] if len(steps) > 1 else steps[-1] + 1]
    for row, name in enumerate(choices):
        leading = [course[step][name][1:] for step in steps]
        widths = [end - begin for begin, end in pairwise(edges)]
        below.barh(
            [row] * len(steps), widths, left=steps, height=0.9, align="center",
            color=[colors[operation] for operation, _ in leading],
        )  # fmt: skip
        changed = [steps[n] for n in range(1, len(steps)) if leading[n] != leading[n - 1]]
        below.plot(changed, [row] * len(changed), "|", color="black", markersize=5)
    for name, color in colors.items():
        below.bar(steps[0], 0, color=color, label=name)
    below.set_yticks(range(len(choices)), choices, fontsize=5)
    below.set(xlabel="step", ylim=(len(choices) - 0.5, -0.5))
    below.legend(
        fontsize=6, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=7
    )  # so many letters below the axis, however high it is
    return save(figure, path)
