from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facefind import datasets
from facefind.datasets import Sample
from facefind.errors import DataError, ProtocolError
from facefind.evaluation import fddb
from facefind.evaluation.regions import overlaps

pytest.importorskip("cv2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "reference"))
import fddb_protocol as oracle

SIZE = (90, 110)
ellipse = st.tuples(
    st.floats(6, 40), st.floats(5, 30), st.floats(-3.2, 3.2), st.floats(-5, 115), st.floats(-5, 95)
)
centered = ellipse.map(  # where a few pixels alone are seen, rounding decides
    lambda e: (*e[:3], min(max(e[3], 0), SIZE[1]), min(max(e[4], 0), SIZE[0]))
)
box = st.tuples(st.floats(-10, 100), st.floats(-10, 80), st.floats(3, 60), st.floats(3, 60)).map(
    lambda r: (r[0], r[1], r[0] + r[2], r[1] + r[3])
)
score = st.integers(0, 6).map(lambda n: n / 6)


def sample(name, ellipses, group="01", size=SIZE):
    table = np.array(ellipses, float).reshape(-1, 5)
    return Sample(
        name,
        Path("none"),
        datasets.fddb.bounding_boxes(table),
        group=group,
        image_size=size,
        attributes={"ellipse": table},
    )


@st.composite
def pictures(draw):
    result = []
    for _ in range(draw(st.integers(1, 3))):
        truth = draw(st.lists(ellipse, max_size=3))
        shape = draw(st.sampled_from([box, ellipse]))
        found = draw(st.lists(st.tuples(shape, score), max_size=4))
        if truth and shape is ellipse:
            found += draw(st.lists(st.tuples(st.sampled_from(truth), score), max_size=2))
        result.append((found, truth, SIZE))
    return result


@settings(max_examples=120, deadline=None)
@given(pictures())
def test_same_roc_as_the_protocol_step_by_step(problem):
    if not sum(len(truth) for _, truth, _ in problem):
        problem = [(problem[0][0], [(20, 12, 1.5, 40, 40)], SIZE), *problem[1:]]
    samples = [sample(f"p/{n}", truth) for n, (_, truth, _) in enumerate(problem)]
    found = {
        f"p/{n}.jpg": (np.array([r for r, _ in rows]), np.array([s for _, s in rows]))
        for n, (rows, _, _) in enumerate(problem)
    }
    roc = fddb.evaluate(found, samples).roc
    expected = np.array(oracle.roc(problem)).reshape(-1, 4)
    np.testing.assert_array_equal(roc.thresholds, expected[:, 0])
    np.testing.assert_allclose(roc.continuous, expected[:, 3], atol=1e-9)
    np.testing.assert_array_equal(roc.false_positives, expected[:, 1])
    np.testing.assert_allclose(roc.discrete, expected[:, 2], atol=1e-12)


def exact(a, b, size=SIZE):
    return overlaps(np.array([a], float), np.array([b], float), size, "exact")[0, 0]


def fine(region, y, x):
    """Whether points lie in a region, straight from its definition."""
    if len(region) == 4:
        return (x >= region[0]) & (x <= region[2]) & (y >= region[1]) & (y <= region[3])
    major, minor, angle, cx, cy = region
    along = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
    across = -(x - cx) * np.sin(angle) + (y - cy) * np.cos(angle)
    return (along / major) ** 2 + (across / minor) ** 2 <= 1


@settings(max_examples=60, deadline=None)
@given(st.one_of(box, ellipse), st.one_of(box, ellipse))
def test_exact_overlap_equals_a_fine_grid(a, b):
    step = 12
    y, x = (np.mgrid[: SIZE[0] * step, : SIZE[1] * step] + 0.5) / step
    first, second = fine(a, y, x), fine(b, y, x)
    union = (first | second).sum()
    expected = (first & second).sum() / union if union else 0.0
    assert exact(a, b) == pytest.approx(expected, abs=0.002 + 6 / max(union, 1) ** 0.5)


def test_exact_overlap_of_known_shapes():
    circle = (20, 20, 0.3, 50, 50)
    assert exact(circle, circle) == pytest.approx(1, abs=1e-5)
    assert exact(circle, (30, 30, 70, 70)) == pytest.approx(np.pi / 4, abs=1e-12)
    assert exact((20, 20, 0, 0, 0), (0, 0, 20, 20)) == pytest.approx(np.pi / 4, abs=1e-12)
    assert exact((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3, abs=1e-12)
    # center on the picture's corner but for a hair
    corner = (6, 5, 0, 1e-62, 1e-62)
    assert exact((6, 5, 0, 0, 0), corner) == pytest.approx(1, abs=1e-5)
    assert exact((6, 5, 0, 1, 0), (6, 5, 0, 0, 4e-158)) == exact((6, 5, 0, 1, 0), (6, 5, 0, 0, 0))
    # two unit circles at distance one share 2 pi / 3 - sqrt(3) / 2
    lens = 2 * np.pi / 3 - np.sqrt(3) / 2
    assert exact((10, 10, 0, 50, 50), (10, 10, 1, 60, 50)) == pytest.approx(
        lens / (2 * np.pi - lens), abs=1e-4
    )


@settings(max_examples=40, deadline=None)
@given(centered, centered)
def test_modes_agree_up_to_rounding(a, b):
    one, other = np.array([a]), np.array([b])
    pixels = overlaps(one, other, SIZE, "official")[0, 0]
    assert pixels == pytest.approx(exact(a, b), abs=0.3)
    big = np.array([[120.0, 90, 0.7, 250, 240]])
    moved = big + np.array([[0, 0, 0.2, 25, 10]])
    assert overlaps(big, moved, (500, 500), "official")[0, 0] == pytest.approx(
        exact(big[0], moved[0], (500, 500)), abs=0.01
    )


def test_rates_are_read_at_the_last_point_below_the_limit():
    roc = fddb.Roc(*(np.array(v, float) for v in (
        [5, 4, 3, 2], [0, 999, 999, 1000], [0.1, 0.5, 0.6, 0.9], [0.05, 0.2, 0.3, 0.4]
    )))  # fmt: skip
    assert roc.at(1000) == (0.6, 0.3)
    assert roc.at(2000) == (0.9, 0.4)
    assert roc.at(0) == (0.0, 0.0)


def test_pictures_without_detections_count_their_faces():
    face = (20, 15, 1.57, 50, 45)
    found = {"p/0": (np.array([face]), np.ones(1)), "p/2": (np.zeros((0, 5)), np.zeros(0))}
    result = fddb.evaluate(found, [sample(f"p/{n}", [face]) for n in range(4)])
    assert result.discrete == {1000: 0.25, 2000: 0.25}
    assert result.missing == ("p/1", "p/3")
    assert result.to_dict(curves=True)["roc"]["false_positives"] == [0.0]


def test_refit_mends_a_steady_shift_and_never_sees_its_own_fold():
    rng = np.random.default_rng(3)
    samples, found = [], {}
    for n in range(60):
        x, y, h = rng.uniform(100, 300), rng.uniform(100, 300), rng.uniform(30, 80)
        face = (h, 0.7 * h, np.pi / 2, x, y)
        samples.append(sample(f"p/{n}", [face], group=f"{n % 3}", size=(420, 420)))
        found[f"p/{n}"] = (
            np.array([[x - 0.6 * h, y - 0.55 * h, x + 0.6 * h, y + 0.95 * h]]),
            np.ones(1),
        )
    before = fddb.evaluate(found, samples, "exact").continuous[1000]
    turned = fddb.refit(found, samples, "exact")
    assert fddb.evaluate(turned, samples, "exact").continuous[1000] > 0.999 > 0.9 > before
    first = samples[0]
    samples[0] = sample("p/0", [(10, 5, 0, 100, 100)], group="0", size=(420, 420))
    again = fddb.refit(found, samples, "exact")
    np.testing.assert_allclose(again[first.name][0], turned[first.name][0])
    with pytest.raises(ProtocolError, match="1 fold"):
        fddb.refit({}, samples[:1])


def test_closed_form_ellipses_beat_boxes_on_real_faces(shared):
    samples = datasets.read(shared / "data/fddb_fold_1", missing="skip")
    rng = np.random.default_rng(0)
    rects, turned = {}, {}
    for one in samples:
        ellipses = one.attributes["ellipse"]
        h, w = ellipses[:, 0] / 0.61, ellipses[:, 1] / 0.55
        x, y = ellipses[:, 3] - 0.5 * w, ellipses[:, 4] - 0.425 * h
        boxes = np.stack([x, y, x + w, y + h], axis=1)
        scores = rng.uniform(size=len(boxes))
        rects[one.name] = (boxes, scores)
        turned[one.name] = (fddb.ellipses(boxes), scores)
    start = time.perf_counter()
    plain, closed = (fddb.evaluate(found, samples) for found in (rects, turned))
    assert time.perf_counter() - start < 20
    assert plain.images == 266
    assert closed.continuous[1000] > plain.continuous[1000] + 0.05
    exact_one = fddb.evaluate(turned, samples, "exact")
    assert exact_one.continuous[1000] == pytest.approx(closed.continuous[1000], abs=0.01)
    assert exact_one.discrete[1000] == pytest.approx(closed.discrete[1000], abs=0.01)


def test_detection_files_round_trip(tmp_path):
    found = {
        "a/1": (np.array([[1.5, 2, 30, 40], [3, 4, 5, 6]]), np.array([0.9, 0.8])),
        "a/2": (np.array([[9.0, 7, 1.5, 30, 40]]), np.array([0.5])),
        "a/3": (np.zeros((0, 4)), np.zeros(0)),
    }
    fddb.write_detections(found, list(found), tmp_path / "out.txt")
    again = fddb.read_detections(tmp_path / "out.txt")
    for name, (regions, scores) in found.items():
        np.testing.assert_allclose(again[name][0], regions)
        np.testing.assert_allclose(again[name][1], scores)
    (tmp_path / "bad.txt").write_text("a/1\n1\n1 2 3 4\n")
    with pytest.raises(DataError, match="line 3"):
        fddb.read_detections(tmp_path / "bad.txt")


def test_wrong_calls_are_refused():
    face = sample("p/0", [(20, 15, 0, 50, 45)])
    with pytest.raises(DataError, match="not among the samples"):
        fddb.evaluate({"q": (np.zeros((0, 4)), np.zeros(0))}, [face])
    with pytest.raises(ProtocolError, match="exact"):
        fddb.evaluate({}, [face], "strict")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="expected"):
        fddb.evaluate({"p/0": (np.zeros((1, 3)), np.zeros(1))}, [face])
    plain = Sample("p/0", Path("n"), np.zeros((1, 4)), image_size=SIZE)
    with pytest.raises(DataError, match="no ellipses"):
        fddb.evaluate({"p/0": (np.zeros((1, 4)), np.ones(1))}, [plain])
