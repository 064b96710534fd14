"""What a population of trained networks says: where the best lie, and how sure that is.

Legend: N networks, R rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from facefind.errors import DataError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """Median and 95 % interval of a number, such as where the best network lies."""

    median: float
    low: float
    high: float

    def widened(self, slack: float) -> tuple[float, float]:
        """Its ends, at least the fraction `slack` of the median away from it."""
        return (
            max(min(self.low, self.median * (1 - slack)), 0.0),
            max(self.high, self.median * (1 + slack)),
        )


def bootstrap(
    x: npt.ArrayLike,
    score: npt.ArrayLike,
    *,
    fraction: float = 0.25,
    rounds: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Where x of the best network lies, by the empirical bootstrap.

    In each round a fraction of the (x, score) pairs is drawn with replacement, and the x of the
    best score is kept; the result is the median and the 2.5 and 97.5 percentiles of what was kept.

    Args:
        x: (N,) a number of each network, such as its share of computation in C2.
        score: (N,) how good each is; only the order counts.
        fraction: part of the pairs in a round.
        rounds: how many rounds.
        seed: of the draws.

    Raises:
        DataError: without pairs, or where some are not finite.

    Source: RegNet (arXiv:2003.13678), sec. 3.1, which SCRFD (sec. 4.2) follows.
    """
    xs, scores = np.asarray(x, np.float64), np.asarray(score, np.float64)
    if xs.shape != scores.shape or xs.ndim != 1 or len(xs) == 0:
        raise DataError(
            f"expected as many x as scores, one or more, got {xs.shape}, {scores.shape}"
        )
    if not (np.isfinite(xs).all() and np.isfinite(scores).all()):
        raise DataError("x and scores must be finite; leave failed trials out")
    drawn = max(round(fraction * len(xs)), 1)
    rng = np.random.default_rng(seed)
    rows = rng.integers(len(xs), size=(rounds, drawn))
    best = xs[np.take_along_axis(rows, scores[rows].argmax(1)[:, None], 1)[:, 0]]
    return _interval(best)


def _interval(values: npt.NDArray[Any]) -> Interval:
    low, median, high = np.percentile(values, [2.5, 50, 97.5])
    return Interval(float(median), float(low), float(high))


@dataclass(frozen=True)
class Standing:
    """Where one network stands among others that were trained alike.

    Attributes:
        rank: by the mean score over seeds, 1 for the best; equals share the better rank.
        of: networks, itself included.
        rank_interval: its 95 % interval over other seeds.
        lead: its mean score less that of the others, over other seeds and other such networks.
    """

    rank: int
    of: int
    rank_interval: Interval
    lead: Interval


def standing(
    one: npt.ArrayLike, others: npt.ArrayLike, *, rounds: int = 10_000, seed: int = 0
) -> Standing:
    """Where a network stands among N others, by their scores with the same S seeds.

    Intervals are of the bootstrap: in each round seeds are drawn with replacement, the same for
    all, and for the lead the others too. With one seed the rank has no interval: its ends are it.

    Args:
        one: (S,) scores.
        others: (N,S) scores of the others.
        rounds: of the bootstrap.
        seed: of its draws.

    Raises:
        DataError: if the shapes do not fit, or there are none.
    """
    mine, theirs = np.asarray(one, np.float64), np.asarray(others, np.float64)
    if mine.ndim != 1 or theirs.ndim != 2 or theirs.shape[1] != len(mine) or 0 in theirs.shape:
        raise DataError(f"expected scores (S,) and (N,S), got {mine.shape} and {theirs.shape}")
    rng = np.random.default_rng(seed)
    seeds = rng.integers(len(mine), size=(rounds, len(mine)))
    drawn, means = mine[seeds].mean(1), theirs[:, seeds].mean(2)  # (R,) and (N,R)
    ranks = 1 + (means > drawn).sum(0)
    cells = rng.integers(len(theirs), size=(rounds, len(theirs)))
    leads = drawn - np.take_along_axis(means.T, cells, 1).mean(1)

    rank = 1 + int((theirs.mean(1) > mine.mean()).sum())
    return Standing(rank, len(theirs) + 1, _interval(ranks), _interval(leads))


def error_distribution(scores: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Rising errors (N,), 1 - score, and the fraction of networks with at most that error.

    Source: RegNet, eq. 1 (the empirical distribution function that compares design spaces).
    """
    errors = np.sort(1 - np.asarray(scores, np.float64))
    return errors, np.arange(1, len(errors) + 1) / max(len(errors), 1)


@dataclass(frozen=True)
class Agreement:
    """How alike two orders of the same networks are, -1 (reversed) to 1 (equal).

    None where there are fewer than three networks, or all have one score.
    """

    networks: int
    spearman: float | None
    kendall: float | None


def agreement(first: npt.ArrayLike, second: npt.ArrayLike) -> Agreement:
    """Rank correlations (Spearman's rho, Kendall's tau-b) of two scores (N,) of the networks."""
    from scipy import stats

    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Agreement(len(a), None, None)
    return Agreement(
        len(a), float(stats.spearmanr(a, b).statistic), float(stats.kendalltau(a, b).statistic)
    )
