"""Results read back and set side by side, and how sure a difference between two is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facefind.errors import DataError, ProtocolError
from facefind.evaluation import detections
from facefind.evaluation.detections import Detections, known_end
from facefind.evaluation.wider import GroundTruth, Mode, ground_truth, tally


def read_results(paths: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Results that `facefind evaluate --out` wrote, by the names they bear.

    Where two share a name, all are called by their files.

    Raises:
        DataError: if a file holds no result, or one is given twice.
    """
    results = [_read(path) for path in paths]
    own = [str(one.get("name") or path.stem) for path, one in zip(paths, results, strict=True)]
    for names in (own, [path.stem for path in paths], [str(path) for path in paths]):
        if len(set(names)) == len(names):
            return dict(zip(names, results, strict=True))
    raise DataError("the same file is given twice")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected a result of facefind evaluate ({error})") from None
    if not isinstance(content, dict) or "protocol" not in content:
        raise DataError(f"{path}: expected a result of facefind evaluate, with its protocol")
    return content


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

    Pictures are resampled with replacement, the same ones for both, and both are measured:
    far sharper than comparing two figures with an error each, because hard pictures are hard for
    both.

    Raises:
        ProtocolError: with fewer than two rounds.
    """
    if rounds < 2:
        raise ProtocolError(f"expected 2 rounds or more, got {rounds}")
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


def compare_kept(
    results: Mapping[str, Mapping[str, Any]], labels: str | Path, subset: Path | None = None
) -> dict[str, dict[str, Difference]]:
    """How much higher each result of WIDER FACE is than the first one, by `compare`.

    Args:
        results: from `read_results`; each names the file of its detections.
        labels: what `wider.ground_truth` takes.
        subset: list of the images that the results were measured on; None: all.

    Raises:
        DataError: if detections are not at hand, or were measured on other labels or images.
    """
    truth = ground_truth(labels)
    if subset is not None:
        truth = truth.only(subset.read_text(encoding="utf-8").splitlines())
    names = set(truth.names)
    found: dict[str, Detections] = {}
    for name, one in results.items():
        place = one.get("detections_kept") or one.get("detections_from")
        if one.get("measure") != "wider" or place is None or not Path(place).exists():
            raise DataError(
                f"{name}: --data takes results of evaluate wider whose detections are at hand: "
                "measure them with --keep"
            )
        if one["digest"] != truth.digest():
            raise DataError(f"{name}: was measured on other labels or images than {labels}")
        every = detections.read(place)
        found[name] = {image: faces for image, faces in every.items() if known_end(image, names)}
    first, *others = results
    mode = results[first]["mode"]
    return {other: compare(found[first], found[other], truth, mode) for other in others}
