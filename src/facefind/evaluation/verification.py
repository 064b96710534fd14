"""Face verification with embeddings: LFW-style folds, and IJB-C's 1:1 templates.

Detectors are judged by it too: better landmarks align faces better.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facefind.datasets.files import bad_line, numbers, read_text
from facefind.errors import DataError, ProtocolError

Floats = npt.NDArray[np.float64]
FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


@dataclass(frozen=True)
class FoldResult:
    """Accuracy and validation rate, means and standard deviations over the folds."""

    protocol: str
    pairs: int
    accuracy: float
    accuracy_std: float
    val: float
    val_std: float
    far: float
    thresholds: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """The result in plain types, ready for JSON."""
        return vars(self) | {"thresholds": list(self.thresholds)}


def embed(features: Floats, flipped: Floats | None = None) -> Floats:
    """(N, D) unit embeddings from features and, if given, those of the mirrored pictures."""
    values = np.asarray(features, np.float64)
    if flipped is not None:
        values = values + np.asarray(flipped, np.float64)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.maximum(length, 1e-12))


def folds(
    first: Floats,
    second: Floats,
    same: npt.NDArray[np.bool_],
    fold: npt.NDArray[np.int64] | int = 10,
    far: float = 1e-3,
) -> FoldResult:
    """Accuracy over folds, as LFW, CFP-FP and AgeDB-30 take it.

    For each fold the threshold of squared distance (0 to 4 by .01) that is best on all other
    folds judges it; of equals the lowest. VAL is the part of same pairs accepted at the
    threshold where the other folds' false accept rate interpolates to `far` (steps of .001).

    Args:
        first: (P, D) unit embeddings, as `embed` gives.
        second: (P, D) those of the other picture of each pair.
        same: (P,) whether both are one person.
        fold: (P,) fold of each pair, or a number of contiguous equal folds.
        far: false accept rate for VAL.

    Raises:
        DataError: where the shapes do not fit.
        ProtocolError: with fewer than two folds, or pairs of one kind only in some.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    same = np.asarray(same, bool)
    if first.shape != second.shape or first.ndim != 2 or same.shape != (len(first),):
        raise DataError(
            f"embeddings {first.shape} and {second.shape}, same {same.shape}; expected (P, D) "
            "twice and (P,)"
        )
    number = np.asarray(_contiguous(len(same), fold) if isinstance(fold, int) else fold)
    groups = np.unique(number)
    if len(groups) < 2:
        raise ProtocolError(f"{len(groups)} fold of {len(same)} pairs; expected two or more")
    distance = np.sum((first - second) ** 2, axis=1)
    coarse, fine = np.arange(0, 4, 0.01), np.arange(0, 4, 0.001)
    accuracy, val, chosen = [], [], []
    for group in groups:
        test, train = number == group, number != group
        for part in (test, train):
            if same[part].all() or not same[part].any():
                raise ProtocolError(f"fold {group}: expected pairs of both kinds in and outside it")
        rates = _accuracy(distance[train], same[train], coarse)
        threshold = float(coarse[np.argmax(rates)])
        accuracy.append(float(_accuracy(distance[test], same[test], np.array([threshold]))[0]))
        accepts = _below(distance[train & ~same], fine) / np.sum(train & ~same)
        cut = _at_rate(accepts, fine, far)
        val.append(float(np.mean(distance[test & same] < cut)))
        chosen.append(threshold)
    return FoldResult(
        protocol=f"{len(groups)} folds, squared distance, VAL at FAR {far:g}",
        pairs=len(same),
        accuracy=float(np.mean(accuracy)),
        accuracy_std=float(np.std(accuracy)),
        val=float(np.mean(val)),
        val_std=float(np.std(val)),
        far=far,
        thresholds=tuple(chosen),
    )


@dataclass(frozen=True)
class TemplateResult:
    """True accept rates at false accept rates, over template pairs."""

    protocol: str
    templates: int
    genuine: int
    impostor: int
    tar: dict[float, float]

    def to_dict(self) -> dict[str, Any]:
        """The result in plain types, ready for JSON."""
        return vars(self) | {"tar": {f"{far:g}": rate for far, rate in self.tar.items()}}


def templates(
    features: Floats,
    template: npt.NDArray[np.int64],
    media: npt.NDArray[np.int64],
    scores: Floats | None = None,
    *,
    keep_norm: bool = True,
) -> tuple[npt.NDArray[np.int64], Floats]:
    """(T,) template numbers and (T, D) unit features, as IJB-B and IJB-C pool them.

    Pictures of one medium (a video) are averaged, media are added up, the sum is made unit.

    Args:
        features: (N, D) of the pictures, flipped ones already added.
        template: (N,) numbers from `face_tid_mid`.
        media: (N,) numbers from the same file; a video's frames share one.
        scores: (N,) face scores that weigh the pictures, from `name_5pts_score`; None: equal.
        keep_norm: leave the features' lengths as weights too; otherwise make them unit first.
    """
    values = np.asarray(features, np.float64)
    if not keep_norm:
        values = embed(values)
    if scores is not None and len(scores) != len(values):
        raise DataError(f"{len(scores)} face scores for {len(values)} features")
    if scores is not None:
        values = values * np.asarray(scores, np.float64)[:, None]
    if not len(values) == len(template) == len(media):
        raise DataError(
            f"{len(values)} features, {len(template)} templates, {len(media)} media; expected as "
            "many of each"
        )
    both = np.stack([template, media], axis=1)
    groups, member, count = np.unique(both, axis=0, return_inverse=True, return_counts=True)
    pooled = np.zeros((len(groups), values.shape[1]))
    np.add.at(pooled, member.ravel(), values)
    pooled /= count[:, None]
    numbers, owner = np.unique(groups[:, 0], return_inverse=True)
    total = np.zeros((len(numbers), values.shape[1]))
    np.add.at(total, owner.ravel(), pooled)
    return numbers, embed(total)


def evaluate_templates(
    numbers: npt.NDArray[np.int64],
    features: Floats,
    pairs: npt.NDArray[np.int64],
    fars: tuple[float, ...] = FARS,
) -> TemplateResult:
    """True accept rates of template pairs by dot product.

    Args:
        numbers: (T,) from `templates`.
        features: (T, D) from `templates`.
        pairs: (P, 3) template, template, 1 for one person or 0, from `template_pair_label`.
        fars: false accept rates; each takes the point of the ROC curve whose rate is nearest,
            of equally near ones the one with more true accepts.

    Raises:
        DataError: where a pair names an unknown template.
        ProtocolError: where all pairs are of one kind.
    """
    pairs = np.asarray(pairs, np.int64)
    order = np.argsort(numbers)
    at = np.searchsorted(numbers, pairs[:, :2], sorter=order)
    index = order[np.minimum(at, len(numbers) - 1)]
    if not np.array_equal(numbers[index], pairs[:, :2]):
        raise DataError("a pair names a template that has no features")
    score = np.empty(len(pairs))
    for start in range(0, len(pairs), 1 << 18):
        part = index[start : start + (1 << 18)]
        score[start : start + len(part)] = np.einsum(
            "ij,ij->i", features[part[:, 0]], features[part[:, 1]]
        )
    genuine = pairs[:, 2] == 1
    if genuine.all() or not genuine.any():
        raise ProtocolError("expected pairs of one person and pairs of two")
    false_rate, true_rate = roc(score, genuine)
    tar = {}
    for far in fars:
        off = np.abs(false_rate - far)
        tar[far] = float(true_rate[np.flatnonzero(off == off.min())[-1]])
    return TemplateResult(
        protocol="IJB 1:1, dot product of pooled templates",
        templates=len(numbers),
        genuine=int(genuine.sum()),
        impostor=int((~genuine).sum()),
        tar=tar,
    )


def roc(score: Floats, genuine: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """False and true accept rates (K,), from 0 to 1: the corners of the ROC curve.

    Points between two others on a straight line are left out, as in scikit-learn, on whose
    curve IJB's figures are read.
    """
    order = np.argsort(-score, kind="stable")
    ranked, kind = score[order], genuine[order]
    last = np.append(ranked[1:] != ranked[:-1], True)
    accepted = np.cumsum(kind)[last]
    wrong = np.flatnonzero(last) + 1 - accepted
    corner = np.ones(len(accepted), bool)
    corner[1:-1] = (np.diff(accepted, 2) != 0) | (np.diff(wrong, 2) != 0)
    zero = np.zeros(1)
    return (
        np.concatenate([zero, wrong[corner] / (~genuine).sum()]),
        np.concatenate([zero, accepted[corner] / genuine.sum()]),
    )


@dataclass(frozen=True, eq=False)
class Ijb:
    """IJB's meta files: template and medium of each picture, (N,), and template pairs, (P, 3)."""

    template: npt.NDArray[np.int64]
    media: npt.NDArray[np.int64]
    pairs: npt.NDArray[np.int64]
    digest: str


def read_ijb(folder: str | Path) -> Ijb:
    """The meta files below a folder: `*face_tid_mid*.txt` and `*template_pair_label*.txt`.

    Raises:
        DataError: if one is missing or not as its format demands.
    """
    faces, labels = (
        _one(Path(folder), name) for name in ("*face_tid_mid*.txt", "*template_pair_label*.txt")
    )
    digest = hashlib.sha256(faces.read_bytes() + labels.read_bytes()).hexdigest()
    return Ijb(*read_ijb_templates(faces), read_ijb_pairs(labels), digest)


def _one(folder: Path, pattern: str) -> Path:
    files = sorted(folder.rglob(pattern))
    if len(files) != 1:
        raise DataError(f"{folder}: expected one file {pattern} below it, found {len(files)}")
    return files[0]


def read_ijb_scores(path: str | Path) -> Floats:
    """(N,) face scores, the last number of each line of a `name_5pts_score` file.

    Raises:
        DataError: with file and line, where a line does not end in a number.
    """
    values = []
    for number, line in enumerate(read_text(Path(path)), 1):
        if not line.strip():
            continue
        score = numbers(line.split()[-1])
        if not score:
            raise bad_line(Path(path), number, line, "a line that ends in the face's score")
        values += score
    return np.array(values)


def read_ijb_templates(path: str | Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(N,) template and (N,) medium of each picture, from `ijbc_face_tid_mid.txt`."""
    table = _table(path, "'picture template medium'", (1, 2))
    return table[:, 0], table[:, 1]


def read_ijb_pairs(path: str | Path) -> npt.NDArray[np.int64]:
    """(P, 3) template, template, same, from `ijbc_template_pair_label.txt`."""
    return _table(path, "'template template same'", (0, 1, 2))


def _table(path: str | Path, expected: str, columns: tuple[int, ...]) -> npt.NDArray[np.int64]:
    try:
        return np.loadtxt(path, np.int64, usecols=columns, ndmin=2)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected lines {expected} ({error})") from None


def _contiguous(count: int, folds: int) -> npt.NDArray[np.int64]:
    if folds < 2 or count % folds:
        raise ProtocolError(f"{count} pairs do not make {folds} equal folds")
    return np.arange(count) // (count // folds)


def _accuracy(distance: Floats, same: npt.NDArray[np.bool_], thresholds: Floats) -> Floats:
    right = _below(distance[same], thresholds) + np.sum(~same) - _below(distance[~same], thresholds)
    return np.asarray(right / len(same))


def _below(values: Floats, thresholds: Floats) -> Floats:
    return np.searchsorted(np.sort(values), thresholds, side="left").astype(np.float64)


def _at_rate(rates: Floats, thresholds: Floats, rate: float) -> float:
    """The threshold where the rising rates interpolate to `rate`; 0 if none reaches it."""
    if rates.max() < rate:
        return 0.0
    above = int(np.searchsorted(rates, rate, side="left"))
    if above == 0:
        return float(thresholds[0])
    part = (rate - rates[above - 1]) / (rates[above] - rates[above - 1])
    return float(thresholds[above - 1] + part * (thresholds[above] - thresholds[above - 1]))
