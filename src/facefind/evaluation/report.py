"""Results as Markdown tables, and whether they may stand in one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from facefind import files
from facefind.errors import DataError, ProtocolError
from facefind.evaluation.fddb import FddbResult
from facefind.evaluation.landmarks import LandmarkResult
from facefind.evaluation.tracking import TrackingResult
from facefind.evaluation.verification import FoldResult, TemplateResult
from facefind.evaluation.voc import VocResult
from facefind.evaluation.wider import WiderResult

Result = (
    WiderResult
    | FddbResult
    | VocResult
    | LandmarkResult
    | FoldResult
    | TemplateResult
    | TrackingResult
    | Mapping[str, Any]
)
"""A result, or what its `to_dict` gave: a report read back from JSON, for example."""

SAME = ("measure", "protocol", "mode", "shape", "image_set", "digest", "images", "faces", "pairs",
        "images_absent", "test_protocol", "min_score")  # fmt: skip
"""What two reports must share for their figures to be compared."""


def plain(result: Result) -> dict[str, Any]:
    """The result in the types JSON gives back, curves included; what is not finite is None."""
    if isinstance(result, FoldResult | TemplateResult | TrackingResult):
        content: Any = result.to_dict()
    elif isinstance(result, Mapping):
        content = result
    else:
        content = result.to_dict(curves=True)
    copy: dict[str, Any] = files.plain(finite(content))
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
    difference. A difference inside `test_protocol` is reported as `test_protocol.sizes` and so on;
    its name is not compared, its settings are.
    """
    flat = {name: dict(_said(plain(result))) for name, result in results.items()}
    fields = dict.fromkeys(field for said in flat.values() for field in said)
    found = {}
    for field in fields:
        values = {name: said[field] for name, said in flat.items() if field in said}
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
            cannot be in one table, unless `force` says so.
    """
    if not results:
        return ""
    differ = unlike(results)
    if differ and not force:
        raise ProtocolError(f"these results cannot be compared: {describe(differ)}")
    rows = {name: figures(plain(result)) for name, result in results.items()}
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = (percent(row.get(column)) for column in columns)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if differ:
        return "\n".join([*lines, "", f"NOT COMPARABLE: {describe(differ)}."])
    return "\n".join([*lines, "", _footer(plain(next(iter(results.values()))))])


def describe(differ: Mapping[str, Mapping[str, Any]]) -> str:
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
    if "hota" in report:
        return {name.upper(): report[name] for name in ("mota", "idf1", "hota")}
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
