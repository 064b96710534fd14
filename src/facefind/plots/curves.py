"""Curves of evaluations: precision over recall, ROC, cumulative error of landmarks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facefind.errors import ProtocolError
from facefind.evaluation.curves import average_precision
from facefind.evaluation.landmarks import cumulative
from facefind.evaluation.published import Line, Published
from facefind.evaluation.report import Result, percent, plain
from facefind.plots.figure import new_figure, save

__all__ = ["draw_curves"]


def draw_curves(
    path: str | Path, results: Mapping[str, Result], published: Published | None = None
) -> Path:
    """Write the results' curves to an image file (.png, .svg, .pdf); return its path.

    Precision over recall a panel a subset (WIDER), ROC curves to 2,000 false positives (FDDB),
    precision over recall (AFW, PASCAL), or cumulative errors (landmarks). Curves of `published`
    methods, as `evaluation.published` reads them, are drawn thin and dashed. Needs matplotlib.

    Raises:
        ProtocolError: where there is nothing to draw, or results are of several kinds.
    """
    drawn = [_panels(name, plain(result)) for name, result in results.items()]
    kinds = {(panel.x_label, panel.y_label) for panels in drawn for panel in panels.values()}
    if len(kinds) != 1:
        raise ProtocolError(f"expected results of one kind to draw, got {len(kinds)} kinds")
    titles = list(dict.fromkeys(title for panels in drawn for title in panels))
    sheet = new_figure(5.2 * len(titles), 4.4)
    for number, title in enumerate(titles, 1):
        axes = sheet.add_subplot(1, len(titles), number)
        shown = [panels[title] for panels in drawn if title in panels]
        lowest = 1.0
        for name, curves in (published or {}).items():
            if title in curves:
                x, y = _within(curves[title], shown[0].x_label)
                label = _label(name, x, y, shown[0].x_label)
                axes.plot(x, y, "--", linewidth=1, alpha=0.8, label=label)
                lowest = min(lowest, *y[-1:]) if len(y) else lowest
        for panel in shown:
            axes.plot(*panel.line, linewidth=2.2, label=panel.label)
            lowest = min(lowest, *np.asarray(panel.line[1])[-1:])
        rates = shown[0].x_label == _ALARMS
        bottom = max(0.0, math.floor(10 * lowest) / 10 - 0.3) if rates else 0.0
        axes.set(title=title, xlabel=shown[0].x_label, ylabel=shown[0].y_label)
        axes.set(ylim=(bottom, 1.01), xlim=(0, shown[0].x_end))
        axes.grid(alpha=0.3)
        low = rates or shown[0].x_label == _ERROR
        axes.legend(fontsize="small", loc="lower right" if low else "lower left")
    return save(sheet, path)


_ALARMS = "false positives"
_RECALL = "recall"
_ERROR = "NME"


@dataclass(frozen=True)
class _Panel:
    label: str
    line: Line
    x_label: str
    y_label: str
    x_end: float


def _panels(name: str, report: Mapping[str, Any]) -> dict[str, _Panel]:
    """The curves of one report by the title of their panel.

    Raises:
        ProtocolError: where the report holds none.
    """
    if "curves" in report:
        return {
            subset: _Panel(
                f"{name} ({percent(report['ap'][subset])})",
                (curve["recall"], _floats(curve["precision"])),
                _RECALL,
                "precision",
                1,
            )
            for subset, curve in report["curves"].items()
        }
    if "roc" in report:
        panels = {}
        for kind in ("discrete", "continuous"):
            line = _within((report["roc"]["false_positives"], report["roc"][kind]), _ALARMS)
            label = f"{name} ({percent(report[kind].get('1000'))} at 1,000)"
            panels[kind] = _Panel(label, line, _ALARMS, "true-positive rate", 2000)
        return panels
    if "curve" in report:
        line = report["curve"]["recall"], report["curve"]["precision"]
        label = f"{name} ({percent(report['ap'])})"
        return {"average precision": _Panel(label, line, _RECALL, "precision", 1)}
    if "errors" in report:
        errors = _floats(report["errors"])
        errors[np.isnan(errors)] = np.inf  # faces that were missed
        at = np.linspace(0, report["limit"], 201)
        line = (at.tolist(), cumulative(errors, at).tolist())
        label = f"{name} (NME {percent(report['nme'])} %, {percent(report['failure_rate'])} % fail)"
        return {"cumulative error": _Panel(label, line, _ERROR, "part of faces", report["limit"])}
    raise ProtocolError(f"{name} has no curves to draw; measure it with --curves")


def _floats(values: Sequence[float | None]) -> Any:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _within(line: Line, x_label: str) -> Line:
    x, y = (np.asarray(values, np.float64) for values in line)
    if x_label == _ALARMS:
        keep = x <= 2000
        x, y = x[keep], y[keep]
    return x.tolist(), y.tolist()


def _label(name: str, x: Sequence[float], y: Sequence[float], x_label: str) -> str:
    if x_label == _RECALL:
        return f"{name} ({percent(average_precision(np.asarray(x), np.asarray(y)))})"
    return name
