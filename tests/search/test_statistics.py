"""The bootstrap finds what is there, and says how sure it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facefind.errors import DataError
from facefind.search.statistics import agreement, bootstrap, error_distribution, standing


def test_it_finds_a_peak() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, 320)
    score = 0.7 - (x - 0.3) ** 2 + rng.normal(0, 0.002, 320)
    found = bootstrap(x, score)
    assert found.low < 0.3 < found.high
    assert found.high - found.low < 0.2
    assert abs(found.median - 0.3) < 0.05
    noise = bootstrap(x, rng.uniform(0, 1, 320))
    assert noise.high - noise.low > 0.4


def test_it_is_a_plain_loop_made_fast() -> None:
    rng = np.random.default_rng(1)
    x, score = rng.uniform(0, 1, 40), rng.uniform(0, 1, 40)
    kept = []
    other = np.random.default_rng(5)
    for _ in range(20_000):
        rows = other.integers(40, size=10)
        kept.append(x[max(rows, key=lambda row: score[row])])
    found = bootstrap(x, score, rounds=20_000)
    wanted = np.percentile(kept, [2.5, 50, 97.5])
    ladder = np.sort(x)
    for mine, theirs in zip((found.low, found.median, found.high), wanted, strict=True):
        assert abs(np.searchsorted(ladder, mine) - np.searchsorted(ladder, theirs)) <= 1


pairs = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30)


@given(pairs)
def test_it_stays_among_the_networks_and_only_the_order_counts(
    values: list[tuple[float, float]],
) -> None:
    x, score = np.array(values).T
    found = bootstrap(x, score, rounds=200)
    assert x.min() <= found.low <= found.median <= found.high <= x.max()
    ranks = np.unique(score, return_inverse=True)[1]
    assert bootstrap(x, ranks, rounds=200) == found
    low, high = found.widened(0.1)
    assert 0 <= low <= found.low
    assert found.high <= high


def test_what_is_no_population_is_an_error() -> None:
    with pytest.raises(DataError):
        bootstrap([], [])
    with pytest.raises(DataError):
        bootstrap([0.1], [float("nan")])


def test_error_distribution() -> None:
    errors, fraction = error_distribution([0.5, 0.9, 0.7])
    assert errors == pytest.approx([0.1, 0.3, 0.5])
    assert fraction == pytest.approx([1 / 3, 2 / 3, 1])


def test_agreement() -> None:
    assert agreement([1, 2, 3, 4], [10, 20, 30, 40]).kendall == pytest.approx(1)
    assert agreement([1, 2, 3, 4], [4, 3, 2, 1]).spearman == pytest.approx(-1)
    assert agreement([1, 2, 3], [1, 3, 2]).kendall == pytest.approx(1 / 3)
    assert agreement([1, 2], [1, 2]).kendall is None
    assert agreement([1, 1, 1], [1, 2, 3]).spearman is None


def test_where_one_stands_among_others() -> None:
    rng = np.random.default_rng(0)
    others = rng.normal(0.5, 0.01, (8, 5))
    best = standing(others.max() + rng.normal(0.1, 0.01, 5), others)
    assert (best.rank, best.of) == (1, 9)
    assert (best.rank_interval.low, best.rank_interval.high) == (1, 1)
    assert 0.05 < best.lead.low < best.lead.median < best.lead.high < 0.2
    worst = standing(np.zeros(5), others)
    assert worst.rank == 9
    assert worst.lead.high < -0.4
    # One among its like: nothing is sure, and the interval says so.
    middle = others.mean(1).argsort()[4]
    alike = standing(others[middle], np.delete(others, middle, 0))
    assert alike.rank_interval.high - alike.rank_interval.low >= 3
    assert alike.lead.low < 0 < alike.lead.high
    once = standing([0.5], [[0.4], [0.5], [0.7]])
    assert (once.rank, once.rank_interval.low, once.rank_interval.high) == (2, 2, 2)
    assert once.lead.median == pytest.approx(-1 / 30, abs=0.04)
    with pytest.raises(DataError, match=r"\(2,\) and \(1, 3\)"):
        standing([1, 2], [[1, 2, 3]])
