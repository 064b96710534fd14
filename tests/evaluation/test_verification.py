from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facefind.errors import DataError, ProtocolError
from facefind.evaluation import verification

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "reference"))
import verification_protocol as oracle


def pairs(seed, count=40, noise=0.8, width=6):
    rng = np.random.default_rng(seed)
    same = np.tile([True, True, False, False], count // 4)
    first = rng.normal(size=(count, width))
    second = np.where(same[:, None], first, rng.normal(size=first.shape))
    second = second + noise * rng.normal(size=first.shape)
    return verification.embed(first), verification.embed(second), same


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([2, 5, 10]), st.sampled_from([0.03, 0.11, 0.37]))
def test_same_figures_as_the_protocol_step_by_step(seed, count, far):
    first, second, same = pairs(seed)
    result = verification.folds(first, second, same, count, far)
    accuracy, val = oracle.folds(first, second, same, count, far)
    assert result.accuracy == pytest.approx(accuracy, abs=1e-12)
    assert result.val == pytest.approx(val, abs=1e-12)


def test_perfect_embeddings_are_perfect():
    first, second, same = pairs(0, noise=0.0)
    result = verification.folds(first, second, same, 10)
    assert (result.accuracy, result.accuracy_std, result.val) == (1.0, 0.0, 1.0)
    assert result.to_dict()["pairs"] == 40
    given_folds = verification.folds(first, second, same, np.repeat(np.arange(10), 4))
    assert given_folds == result


def test_embeddings_are_of_unit_length_with_their_mirror_added():
    a, b = np.random.default_rng(0).normal(size=(2, 5, 8))
    for embedded, total in ((verification.embed(a), a), (verification.embed(a, b), a + b)):
        np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1)
        expected = total / np.linalg.norm(total, axis=1, keepdims=True)
        np.testing.assert_allclose(embedded, expected)


def test_wrong_pairs_are_refused():
    first, second, same = pairs(0)
    with pytest.raises(DataError, match="expected"):
        verification.folds(first, second[:-1], same)
    with pytest.raises(ProtocolError, match="equal folds"):
        verification.folds(first, second, same, 7)
    with pytest.raises(ProtocolError, match="both kinds"):
        verification.folds(first, second, np.ones_like(same))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_templates_pool_media_first(seed, keep_norm):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 25))
    features = rng.normal(size=(count, 4)) * rng.uniform(0.5, 2, (count, 1))
    template, media = rng.integers(0, 4, count) * 10, rng.integers(0, 5, count)
    scores = rng.uniform(0.2, 1, count)
    numbers, pooled = verification.templates(features, template, media, scores, keep_norm=keep_norm)
    weighed = features if keep_norm else features / np.linalg.norm(features, axis=1)[:, None]
    expected = oracle.pool(weighed * scores[:, None], template, media)
    assert numbers.tolist() == list(expected)
    np.testing.assert_allclose(pooled, np.array(list(expected.values())), atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=30))
def test_roc_keeps_the_curve_and_only_its_corners(rows):
    score = np.array([float(s) for s, _ in rows])
    genuine = np.array([kind for _, kind in rows])
    if genuine.all() or not genuine.any():
        genuine[0] = not genuine[0]
    false_rate, true_rate = verification.roc(score, genuine)
    for threshold in np.unique(score):
        x = np.mean(score[~genuine] >= threshold)
        y = np.mean(score[genuine] >= threshold)
        assert np.any(
            np.isclose(np.interp(x, false_rate, true_rate), y)
            | (np.isclose(false_rate, x).sum() > 1)
        )
    assert (false_rate[0], true_rate[0]) == (0, 0)
    assert (false_rate[-1], true_rate[-1]) == (1, 1)
    assert (np.diff(false_rate) >= 0).all()
    assert (np.diff(true_rate) >= 0).all()


def test_true_accepts_are_read_at_the_nearest_false_rate():
    numbers = np.array([1, 2, 3, 4])
    features = np.array([[1.0, 0], [0.8, 0.6], [0, 1.0], [-1.0, 0]])
    table = np.array([[1, 2, 1], [3, 2, 1], [1, 3, 0], [1, 4, 0], [4, 3, 0]])
    result = verification.evaluate_templates(numbers, features, table, (1e-3, 0.6))
    assert result.tar == {1e-3: 1.0, 0.6: 1.0}
    worse = table.copy()
    worse[:, 2] = [0, 1, 1, 0, 0]
    result = verification.evaluate_templates(numbers, features, worse, (1e-3, 0.3, 0.6))
    assert result.tar == {1e-3: 0.0, 0.3: 0.5, 0.6: 1.0}
    assert (result.genuine, result.impostor, result.templates) == (2, 3, 4)
    assert result.to_dict()["tar"] == {"0.001": 0.0, "0.3": 0.5, "0.6": 1.0}
    with pytest.raises(DataError, match="no features"):
        verification.evaluate_templates(numbers, features, np.array([[1, 9, 1]]))
    with pytest.raises(ProtocolError, match="one person"):
        verification.evaluate_templates(numbers, features, table[:2])


def test_ijb_files(tmp_path):
    (tmp_path / "meta.txt").write_text("1.jpg 69544 3\n2.jpg 69544 4\n")
    (tmp_path / "pairs.txt").write_text("1 11065 1\n1 11066 0\n")
    template, media = verification.read_ijb_templates(tmp_path / "meta.txt")
    assert (template.tolist(), media.tolist()) == ([69544, 69544], [3, 4])
    assert verification.read_ijb_pairs(tmp_path / "pairs.txt").tolist() == [
        [1, 11065, 1], [1, 11066, 0]
    ]  # fmt: skip
    (tmp_path / "pairs.txt").write_text("1 11065\n")
    with pytest.raises(DataError, match="expected lines"):
        verification.read_ijb_pairs(tmp_path / "pairs.txt")
