from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from facefind import datasets
from facefind.datasets import Sample
from facefind.errors import DataError, ProtocolError
from facefind.evaluation import landmarks

POINTS = np.array([[30, 40], [70, 40], [50, 60], [35, 80], [65, 80]], float)
BOX = np.array([20, 20, 80, 100], float)


def sample(name="a", boxes=(BOX,), points=(POINTS,), **more):
    return Sample(name, Path("n"), np.array(boxes), np.array(points), **more)


def oracle(found, truth, size):
    """NME of one face straight from its definition."""
    off = [
        ((fx - tx) ** 2 + (fy - ty) ** 2) ** 0.5
        for (fx, fy), (tx, ty) in zip(found, truth, strict=True)
        if tx == tx
    ]
    return sum(off) / len(off) / size if off else float("nan")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 8))
def test_nme_is_the_mean_distance_of_labeled_points(seed, count):
    rng = np.random.default_rng(seed)
    truth, found = rng.uniform(0, 99, (2, count, 5, 2))
    truth[rng.uniform(size=(count, 5)) < 0.3] = np.nan
    size = rng.uniform(5, 50, count)
    expected = [oracle(*row) for row in zip(found, truth, size, strict=True)]
    np.testing.assert_allclose(landmarks.nme(found, truth, size), expected)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 0.3), min_size=1, max_size=12), st.floats(0.02, 0.2))
def test_auc_is_the_integral_of_the_cumulative_curve(errors, limit):
    values = np.array(errors)

    def curve(x):
        return landmarks.cumulative(values, np.array([x]))[0]

    breaks = sorted({e for e in errors if 0 < e < limit})
    expected = quad(curve, 0, limit, points=breaks or None, limit=200)[0] / limit
    assert landmarks.auc(values, limit) == pytest.approx(expected, abs=1e-6)


def test_faces_take_the_best_detection_and_missed_ones_fail():
    shifted = POINTS + np.array([3, 4])
    far = BOX + 500
    truth = sample(boxes=[BOX, far], points=[POINTS, POINTS + 500])
    found = {"a.jpg": (np.array([BOX, BOX + 4]), np.array([shifted, POINTS]))}
    result = landmarks.evaluate(found, [truth])
    assert (result.faces, result.missed) == (2, 1)
    assert result.nme == pytest.approx(5 / np.sqrt(60 * 80))
    assert result.failure_rate == 0.5
    assert result.auc == pytest.approx((0.1 - result.nme) / 0.1 / 2)
    assert len(result.per_landmark) == 5
    assert result.to_dict(curves=True)["errors"][1] == np.inf


def test_errors_by_size_are_those_of_the_faces_of_that_size():
    sizes = (10, 16, 20, 200, 300)
    boxes = np.array([[1000 * i, 0, 1000 * i + side, side] for i, side in enumerate(sizes)], float)
    shape = (POINTS - BOX[:2]) / 100
    points = np.array([box[:2] + shape * side for box, side in zip(boxes, sizes, strict=True)])
    truth = sample(boxes=boxes, points=points)
    shift = np.array([0.02, 0.04, 0.3, 0.08])[:, None, None] * np.array(sizes[:4])[:, None, None]
    found = {"a": (boxes[:4], points[:4] + shift * np.array([1, 0]))}  # the last one is missed
    result = landmarks.evaluate(found, [truth])
    assert sorted(result.sizes) == pytest.approx(list(sizes))
    assert result.sizes[-1] == pytest.approx(300)
    bins = landmarks.by_size(result)
    assert list(bins) == ["0-16", "16-32", ">=128"]
    assert bins["0-16"] == pytest.approx({"faces": 1, "missed": 0, "nme": 0.02, "failure_rate": 0})
    wanted = {"faces": 2, "missed": 0, "nme": 0.17, "failure_rate": 0.5}
    assert bins["16-32"] == pytest.approx(wanted)
    wanted = {"faces": 2, "missed": 1, "nme": 0.08, "failure_rate": 0.5}
    assert bins[">=128"] == pytest.approx(wanted)
    nothing = landmarks.evaluate({}, [truth])
    assert np.isnan(landmarks.by_size(nothing)["0-16"]["nme"])
    assert "sizes" not in result.to_dict(curves=True)


def test_the_most_certain_detection_of_a_face_counts():
    looser = BOX + np.array([-8, -8, 8, 8])
    found = {"a": (np.array([looser, BOX]), np.array([POINTS, POINTS + 9]))}
    assert landmarks.evaluate(found, [sample()]).nme == 0


def test_a_detection_serves_one_face():
    twins = sample(boxes=[BOX, BOX + 1], points=[POINTS, POINTS + 1])
    found = {"a": (BOX[None], POINTS[None])}
    assert landmarks.evaluate(found, [twins]).missed == 1


def test_unlabeled_and_ignored_faces_do_not_count():
    blank = np.full((5, 2), np.nan)
    one = sample(boxes=[BOX, BOX], points=[blank, POINTS], ignore=np.array([False, True]))
    result = landmarks.evaluate({}, [one])
    assert result.faces == 0
    assert np.isnan(result.nme)


def test_yaw_bins_are_averaged_evenly():
    errors = np.array([1.0, 3.0, 10.0, 20.0, 30.0, 40.0])
    result = landmarks.by_yaw(errors, np.array([0, -30, 30.1, 60, -75, 95]))
    assert result == {
        "0-30": 2.0, "30-60": 15.0, "60-90": 35.0,
        "mean": pytest.approx(52 / 3), "std": pytest.approx(np.std([2, 15, 35]))
    }  # fmt: skip
    with pytest.raises(ProtocolError, match="30-60"):
        landmarks.by_yaw(errors, np.zeros(6))


def test_balanced_draws_as_many_from_each_bin():
    yaw = np.concatenate([np.full(50, 10), np.full(20, -45), np.full(5, 80), np.full(2, -95)])
    chosen = landmarks.balanced(yaw)
    assert [int(part.sum()) for part in landmarks.yaw_bins(yaw[chosen]).values()] == [7, 7, 7]
    np.testing.assert_array_equal(chosen, landmarks.balanced(yaw))


def test_aflw2000():
    rng = np.random.default_rng(1)
    samples, found, yaws = [], {}, {}
    for number, yaw in enumerate([0, 10, 45, -80]):
        points = rng.uniform(0, 100, (68, 3))
        pose = np.array([[0.0, yaw, 0.0]])
        samples.append(
            sample(f"{number}.jpg", attributes={"points_68": points[None], "pose": pose})
        )
        found[f"{number}"] = points + np.array([3, 4, 100])
        yaws[f"{number}"] = float(yaw)
    whole = landmarks.aflw2000(found, samples, limit=0.06)
    result = whole.nme_by_yaw
    sides = [np.ptp(s.attributes["points_68"][0, :, :2], axis=0) for s in samples]
    errors = [5 / np.sqrt(s.prod()) for s in sides]
    assert result["0-30"] == pytest.approx(np.mean(errors[:2]))
    assert result["mean"] == pytest.approx(np.mean([np.mean(errors[:2]), errors[2], errors[3]]))
    assert whole.errors == pytest.approx(errors)
    assert whole.yaws.tolist() == [0, 10, 45, -80]
    assert (whole.failure_rate, whole.auc) == (
        np.mean(whole.errors > 0.06),
        landmarks.auc(whole.errors, 0.06),
    )
    assert whole.to_dict(curves=True)["errors"] == sorted(whole.errors)
    assert landmarks.aflw2000(found, samples, yaws).nme_by_yaw == result
    del found["0"]
    with pytest.raises(DataError, match="expected 68 points"):
        landmarks.aflw2000(found, samples)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"b": (BOX[None], POINTS[None])}, "not among"),
        ({"a": (BOX[None], None)}, "without landmarks"),
        ({"a": (BOX[None], POINTS)}, r"expected landmarks \(1, 5, 2\)"),
    ],
)
def test_wrong_detections_are_refused(found, message):
    with pytest.raises(DataError, match=message):
        landmarks.evaluate(found, [sample()])


def test_hand_placed_points_against_themselves(shared):
    samples = datasets.read(shared / "data/lfw_points/test.json")
    found = {s.name: (s.boxes, s.landmarks + np.float32(1)) for s in samples}
    result = landmarks.evaluate(found, samples)
    assert (result.faces, result.missed, result.failure_rate) == (800, 0, 0.0)
    mean = np.mean([2**0.5 / np.sqrt(np.prod(s.boxes[0, 2:] - s.boxes[0, :2])) for s in samples])
    assert result.nme == pytest.approx(mean, rel=1e-4)
