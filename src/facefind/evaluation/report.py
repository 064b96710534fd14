"""Results as Markdown tables, curves as figures, and how sure a difference is."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facefind.datasets.files import is_hdf5_mat, read_mat
from facefind.errors import DataError, ProtocolError
from facefind.evaluation.curves import average_precision
from facefind.evaluation.detections import Detections
from facefind.evaluation.fddb import FddbResult
from facefind.evaluation.landmarks import LandmarkResult, cumulative
from facefind.evaluation.verification import FoldResult, TemplateResult
from facefind.evaluation.voc import VocResult
from facefind.evaluation.wider import GroundTruth, Mode, WiderResult, tally

Result = (
    WiderResult
    | FddbResult
    | VocResult
    | LandmarkResult
    | FoldResult
    | TemplateResult
    | Mapping[str, Any]
)
"""A result, or what its `to_dict` gave: a report read back from JSON, for example."""

SAME = ("measure", "protocol", "mode", "shape", "image_set", "digest", "images", "faces", "pairs",
        "images_absent", "test_protocol", "min_score")  # fmt: skip
"""What two reports must share for their figures to stand side by side."""


def plain(result: Result) -> dict[str, Any]:
    """The result in the types JSON gives back, curves included; what is not finite is None."""
    if isinstance(result, FoldResult | TemplateResult):
        content: Any = result.to_dict()
    elif isinstance(result, Mapping):
        content = result
    else:
        content = result.to_dict(curves=True)
    copy: dict[str, Any] = json.loads(json.dumps(finite(content)))
    return copy


def finite(value: Any) -> Any:
    """`value` with None for every float in it that JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def unlike(results: Mapping[str, Result]) -> dict[str, dict[str, Any]]:
    """The fields of `SAME` in which results differ: field -> name -> value.

    What one of them does not say (the test protocol of detections made elsewhere) is no
    difference. A difference inside `test_protocol` is told as `test_protocol.sizes` and so on;
    its name is not compared, its settings are.
    """
    flat = {name: dict(_said(plain(result))) for name, result in results.items()}
    fields = dict.fromkeys(field for told in flat.values() for field in told)
    found = {}
    for field in fields:
        values = {name: told[field] for name, told in flat.items() if field in told}
        if len({json.dumps(value, sort_keys=True) for value in values.values()}) > 1:
            found[field] = values
    return found


def _said(report: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for field in SAME:
        value = report.get(field)
        if isinstance(value, Mapping) and field == "test_protocol":
            for key, item in value.items():
                if key not in ("name", "min_score"):  # the floor in force is a field of its own
                    yield f"{field}.{key}", item
        elif isinstance(value, list):
            yield field, len(value)
        elif value is not None:
            yield field, value


def table(results: Mapping[str, Result], *, force: bool = False) -> str:
    """A Markdown table, a row a name; percentages, with the protocol and image set below.

    Raises:
        ProtocolError: where the results are not of one protocol and image set: such numbers
            cannot stand in one table, unless `force` says so.
    """
    if not results:
        return ""
    differ = unlike(results)
    if differ and not force:
        raise ProtocolError(f"these results cannot be compared: {tell(differ)}")
    rows = {name: figures(plain(result)) for name, result in results.items()}
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = (percent(row.get(column)) for column in columns)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if differ:
        return "\n".join([*lines, "", f"NOT COMPARABLE: {tell(differ)}."])
    return "\n".join([*lines, "", _footer(plain(next(iter(results.values()))))])


def tell(differ: Mapping[str, Mapping[str, Any]]) -> str:
    """What `unlike` found, in one line."""
    parts = []
    for field, values in differ.items():
        shown = (
            f"{name}: {value[:12] if field == 'digest' else json.dumps(value)}"
            for name, value in values.items()
        )
        parts.append(f"{field} differs ({', '.join(shown)})")
    return "; ".join(parts)


def figures(report: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures of a report by the name of their column, as parts of one."""
    if isinstance(report.get("ap"), Mapping):
        return {name.capitalize(): ap for name, ap in report["ap"].items()}
    if "discrete" in report:
        discrete = {f"discrete @{limit}": rate for limit, rate in report["discrete"].items()}
        return discrete | {f"continuous @{k}": rate for k, rate in report["continuous"].items()}
    if "ap" in report:
        return {"AP": report["ap"]}
    if "nme" in report:
        found = {"NME": report["nme"], "failures": report["failure_rate"], "AUC": report["auc"]}
        yaw = report.get("nme_by_yaw") or {}
        return found | {f"NME {name}": value for name, value in yaw.items()}
    if "accuracy" in report:
        return {"accuracy": report["accuracy"], f"VAL @{report['far']:g}": report["val"]}
    if "tar" in report:
        return {f"TAR @{far}": rate for far, rate in report["tar"].items()}
    raise DataError("this is no result of facefind evaluate: it has none of the known figures")


def percent(value: float | None) -> str:
    """A part of one as a percentage with two decimals; a dash where there is no number."""
    return "-" if value is None or not math.isfinite(value) else f"{100 * value:.2f}"


def _footer(report: Mapping[str, Any]) -> str:
    parts = [f"Protocol: {report['protocol']}."]
    if "test_protocol" in report:
        parts.append(f"Test protocol: {report['test_protocol']['name']}.")
    if "images" in report:
        parts.append(f"Images: {report['images']}.")
    if "digest" in report:
        parts.append(f"Labels: sha256 {report['digest'][:12]}.")
    return " ".join(parts)


Line = tuple[Sequence[float], Sequence[float]]
Published = Mapping[str, Mapping[str, Line]]
"""Method -> panel ("easy", "discrete", ...) -> x and y of its curve."""


def draw(
    results: Mapping[str, Result], path: str | Path, published: Published | None = None
) -> None:
    """Write the results' curves to an image file (.png, .svg, .pdf).

    Precision over recall a panel a subset (WIDER), ROC curves to 2,000 false positives (FDDB),
    precision over recall (AFW, PASCAL), or cumulative errors (points). Curves of `published`
    methods, as `read_published` gives them, are drawn thin and dashed. Needs matplotlib.

    Raises:
        ProtocolError: where there is nothing to draw, or results are of several kinds.
    """
    from matplotlib.figure import Figure

    drawn = [_panels(name, plain(result)) for name, result in results.items()]
    kinds = {(panel.x_label, panel.y_label) for panels in drawn for panel in panels.values()}
    if len(kinds) != 1:
        raise ProtocolError(f"wanted results of one kind to draw, given {len(kinds)} kinds")
    titles = list(dict.fromkeys(title for panels in drawn for title in panels))
    sheet = Figure(figsize=(5.2 * len(titles), 4.4), layout="constrained")
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
    sheet.savefig(path, dpi=120)


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
    if "recall" in report:
        line = report["recall"], report["precision"]
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


def read_published(folder: str | Path) -> tuple[dict[str, dict[str, Line]], list[str]]:
    """Curves of other methods, and what could not be read.

    Reads WIDER FACE's `wider_pr_info_<method>_<subset>_val.mat` (`pr_cruve`: precision, recall;
    `legend_name`) and FDDB's `*DiscROC.txt` and `*ContROC.txt` (lines `rate false-positives`),
    anywhere below the folder. MATLAB's v7.3 files need h5py.

    Raises:
        DataError: where there is none of either.
    """
    place = Path(folder)
    curves: dict[str, dict[str, Line]] = {}
    problems: list[str] = []
    files = sorted(place.rglob("wider_pr_info_*.mat")) + sorted(place.rglob("*ROC.txt"))
    if not files:
        raise DataError(f"{place}: wanted wider_pr_info_*.mat or *DiscROC.txt files below it")
    for file in files:
        try:
            if file.suffix == ".mat":
                name, panel, line = _wider_curve(file)
            else:
                panel = "discrete" if "Disc" in file.stem else "continuous"
                name = file.stem.replace("DiscROC", "").replace("ContROC", "").rstrip("-_ ")
                rows = np.loadtxt(file, ndmin=2)
                line = (rows[:, 1].tolist(), rows[:, 0].tolist())
        except ModuleNotFoundError:
            problems.append(f"{file.name} is a MATLAB v7.3 file: pip install h5py")
        except (DataError, OSError, KeyError, ValueError, IndexError) as error:
            problems.append(f"{file.name}: no curve of WIDER FACE or FDDB ({error!r})")
        else:
            curves.setdefault(name, {})[panel] = line
    return curves, problems


def _wider_curve(file: Path) -> tuple[str, str, Line]:
    *_, subset, _ = file.stem.split("_")
    if not is_hdf5_mat(file):
        content = read_mat(file)
        rows, name = content["pr_cruve"], str(content["legend_name"].ravel()[0])
    else:  # MATLAB v7.3: an HDF5 file, its arrays transposed
        import h5py

        with h5py.File(file) as stored:
            rows = np.asarray(stored["pr_cruve"]).T
            name = "".join(chr(code) for code in np.asarray(stored["legend_name"]).ravel())
    return name, subset, (rows[:, 1].tolist(), rows[:, 0].tolist())


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
