"""Results as Markdown tables, curves as figures, and how sure a difference is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facefind.errors import ProtocolError
from facefind.evaluation.detections import Detections
from facefind.evaluation.fddb import FddbResult
from facefind.evaluation.landmarks import LandmarkResult, cumulative
from facefind.evaluation.voc import VocResult
from facefind.evaluation.wider import GroundTruth, Mode, WiderResult, tally

Result = WiderResult | FddbResult | VocResult | LandmarkResult


def table(results: Mapping[str, Result]) -> str:
    """A Markdown table, a row a name; percentages, with the protocol and image set below.

    Raises:
        ProtocolError: where the results are not of one protocol and image set: such numbers
            cannot stand in one table.
    """
    if not results:
        return ""
    kinds = {(result.protocol, result.digest) for result in results.values()}
    if len(kinds) > 1:
        told = "; ".join(f"{protocol} on {digest[:12]}" for protocol, digest in sorted(kinds))
        raise ProtocolError(f"these results cannot be compared: {told}")
    rows = {name: _figures(result) for name, result in results.items()}
    columns = list(next(iter(rows.values())))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, figures in rows.items():
        cells = (f"{100 * figures[column]:.2f}" for column in columns)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    protocol, digest = next(iter(kinds))
    return "\n".join([*lines, "", f"Protocol: {protocol}. Labels: sha256 {digest[:12]}."])


def _figures(result: Result) -> dict[str, float]:
    if isinstance(result, WiderResult):
        return {name.capitalize(): ap for name, ap in result.ap.items()}
    if isinstance(result, FddbResult):
        discrete = {f"discrete @{limit}": rate for limit, rate in result.discrete.items()}
        return discrete | {f"continuous @{k}": rate for k, rate in result.continuous.items()}
    if isinstance(result, VocResult):
        return {"AP": result.ap}
    return {"NME": result.nme, "failures": result.failure_rate, "AUC": result.auc}


def draw(results: Mapping[str, Result], path: str | Path) -> None:
    """Write the results' curves to an image file (.png, .svg, .pdf).

    Precision over recall a panel a subset (WIDER), ROC curves to 2,000 false positives (FDDB),
    precision over recall (AFW, PASCAL), or cumulative errors (points). Needs matplotlib.

    Raises:
        ProtocolError: where there is nothing to draw, or results are of several kinds.
    """
    from matplotlib.figure import Figure

    kinds = {type(result) for result in results.values()}
    if len(kinds) != 1:
        raise ProtocolError(f"wanted results of one kind to draw, given {len(kinds)} kinds")
    panels = _panels(results)
    figure = Figure(figsize=(5 * len(panels), 4.2), layout="constrained")
    for number, (title, (x_label, y_label, lines)) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), number)
        for name, (x, y) in lines.items():
            axes.plot(x, y, label=name)
        axes.set(title=title, xlabel=x_label, ylabel=y_label, ylim=(0, 1))
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.savefig(path)


Lines = dict[str, tuple[Sequence[float], Sequence[float]]]


def _panels(results: Mapping[str, Result]) -> dict[str, tuple[str, str, Lines]]:
    panels: dict[str, tuple[str, str, Lines]] = {}

    def add(title: str, axes: tuple[str, str], name: str, x: object, y: object) -> None:
        lines = panels.setdefault(title, (*axes, {}))[2]
        lines[name] = (np.asarray(x).tolist(), np.asarray(y).tolist())

    for name, result in results.items():
        if isinstance(result, WiderResult):
            for subset, curve in result.curves.items():
                label = f"{name} ({100 * result.ap[subset]:.2f})"
                add(subset, ("recall", "precision"), label, curve.recall, curve.precision)
        elif isinstance(result, FddbResult):
            roc = result.roc
            shown = roc.false_positives <= 2000
            for kind, rates in (("discrete", roc.discrete), ("continuous", roc.continuous)):
                axes = ("false positives", "true-positive rate")
                add(kind, axes, name, roc.false_positives[shown], rates[shown])
        elif isinstance(result, VocResult):
            label = f"{name} ({100 * result.ap:.2f})"
            axes = ("recall", "precision")
            add("average precision", axes, label, result.recall, result.precision)
        else:
            at = np.linspace(0, result.limit, 201)
            label = f"{name} (NME {100 * result.nme:.2f})"
            add("cumulative error", ("NME", "faces"), label, at, cumulative(result.errors, at))
    return panels


@dataclass(frozen=True)
class Difference:
    """A difference in average precision, its standard error, and its 95 % interval."""

    value: float
    error: float
    low: float
    high: float


def compare(
    first: Detections,
    second: Detections,
    ground_truth: GroundTruth,
    mode: Mode = "strict",
    *,
    rounds: int = 200,
    seed: int = 0,
) -> dict[str, Difference]:
    """How much higher `second` scores than `first` on the same pictures, by subset.

    Pictures are drawn anew with replacement, the same ones for both, and both are measured:
    far sharper than comparing two figures with an error each, because hard pictures are hard for
    both.

    Raises:
        ProtocolError: with fewer than two rounds.
    """
    if rounds < 2:
        raise ProtocolError(f"rounds is {rounds}, wanted 2 or more")
    tallies = [tally(found, ground_truth, mode) for found in (first, second)]
    count = len(ground_truth.names)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(count, np.full(count, 1 / count), rounds)
    result = {}
    for subset in ground_truth.subsets:
        low, high = (counts[subset] for counts in tallies)
        drawn = high.ap(weights) - low.ap(weights)
        once = np.ones((1, count), np.int64)
        edges = np.percentile(drawn, [2.5, 97.5])
        result[subset] = Difference(
            float(high.ap(once)[0] - low.ap(once)[0]),
            float(np.std(drawn, ddof=1)),
            float(edges[0]),
            float(edges[1]),
        )
    return result
