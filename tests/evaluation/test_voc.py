from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facefind.datasets import Sample
from facefind.errors import DataError, ProtocolError
from facefind.evaluation import voc

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "reference"))
import face_eval_protocol as oracle

corner = st.integers(0, 60)
side = st.integers(15, 70)
score = st.integers(0, 12).map(lambda n: n / 12)


@st.composite
def problems(draw):
    truth, found = {}, []
    for number in range(draw(st.integers(1, 3))):
        name = f"picture_{number}"
        faces = draw(st.lists(st.tuples(corner, corner, side, side, st.booleans()), max_size=4))
        truth[name] = [((x, y, x + w, y + h), ignored) for x, y, w, h, ignored in faces]
        for x, y, w, h in draw(st.lists(st.tuples(corner, corner, side, side), max_size=4)):
            found.append((name, draw(score), (x + 0.25, y, x + w, y + h + 0.5)))
        for box, _ in truth[name]:
            for _ in range(draw(st.integers(0, 2))):
                dx, dy = draw(st.integers(-3, 9)), draw(st.integers(-3, 9))
                moved = (box[0] + dx, box[1] + dy, box[2] + dx, box[3] + 2 * dy + 8)
                found.append((name, draw(score), moved))
    return truth, found


def samples_of(truth):
    return [
        Sample(
            f"somewhere/{name}.jpg",
            Path("none"),
            np.array([box for box, _ in faces], np.float32).reshape(-1, 4),
            ignore=np.array([ignored for _, ignored in faces], bool),
        )
        for name, faces in truth.items()
    ]


def detections_of(found):
    grouped = {}
    for name, value, box in found:
        grouped.setdefault(name, []).append((value, box))
    return {
        name: (np.array([b for _, b in rows]), np.array([v for v, _ in rows]))
        for name, rows in grouped.items()
    }


@settings(max_examples=200, deadline=None)
@given(problems(), st.integers(0, 4))
def test_same_ap_as_the_protocol_step_by_step(problem, refits):
    truth, found = problem
    # the toolbox reads detections in file order; ours are grouped by picture
    order = {name: number for number, name in enumerate(detections_of(found))}
    found = sorted(found, key=lambda d: order[d[0]])
    result = voc.evaluate(detections_of(found), samples_of(truth), refits=refits)
    expected = oracle.average_precision(found, truth, refits)
    assert math.isclose(result.ap, expected, abs_tol=1e-9)
    assert set(result.missing) == {f"somewhere/{n}.jpg" for n in set(truth) - set(order)}


def test_refit_mends_a_steady_offset():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 900, (50, 2)) * [1, 0] + np.arange(50)[:, None] * [0, 120]
    faces = np.concatenate([corners, corners + 60], axis=1)
    shifted = faces + np.array([4, 10, 2, 14])
    shifted[25:] += np.array([4, 4, 4, 6])  # too far for a hit before the refit
    sample = Sample("a", Path("n"), faces.astype(np.float32))
    found = {"a": (shifted, np.linspace(1, 0, 50))}
    off, on = voc.evaluate(found, [sample], refits=0), voc.evaluate(found, [sample])
    assert off.ap == 0.5
    assert on.ap == 1.0
    assert on.refit.shift_y < -0.15
    assert on.refit.scale_x == pytest.approx(60 / 58, abs=0.02)


def test_ignored_and_small_faces_count_neither_way():
    boxes = np.array([[0, 0, 60, 60], [100, 0, 160, 60], [200, 0, 229, 60], [300, 0, 360, 60]])
    sample = Sample("a", Path("n"), boxes, ignore=np.array([False, True, False, False]))
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    result = voc.evaluate({"a": (boxes, scores)}, [sample], refits=0)
    assert (result.faces, result.ignored, result.ap) == (2, 2, 1.0)
    tiny = {"a": (np.array([[0, 0, 21, 21]]), np.ones(1))}
    assert voc.evaluate(tiny, [sample]).detections == 0
    assert result.to_dict(curves=True)["curve"]["recall"][-1] == 1.0


def test_top_shift_lowers_the_top():
    face = np.array([[0.0, 20, 100, 100]])
    sample = Sample("a", Path("n"), face)
    found = {"a": (np.array([[0.0, 0, 100, 100]]), np.ones(1))}
    result = voc.evaluate(found, [sample], refits=1, top_shift=0.2)
    assert result.refit == voc.Refit()


def test_files_round_trip_and_name_wrong_lines(tmp_path):
    found = {"in/a.jpg": (np.array([[1.5, 2, 30, 40], [3, 4, 50, 60]]), np.array([0.9, 0.8]))}
    voc.write_detections(found, tmp_path / "d.txt")
    again = voc.read_detections(tmp_path / "d.txt")
    np.testing.assert_allclose(again["a"][0], found["in/a.jpg"][0])
    np.testing.assert_allclose(again["a"][1], found["in/a.jpg"][1])
    (tmp_path / "d.txt").write_text("a 0.9 1 2 3\n")
    with pytest.raises(DataError, match="line 1"):
        voc.read_detections(tmp_path / "d.txt")


def test_wrong_calls_are_refused():
    sample = Sample("a", Path("n"), np.zeros((0, 4)))
    with pytest.raises(DataError, match="not among"):
        voc.evaluate({"b": (np.zeros((0, 4)), np.zeros(0))}, [sample])
    with pytest.raises(DataError, match="share a name"):
        voc.evaluate({}, [sample, sample])
    with pytest.raises(ProtocolError, match="refits"):
        voc.evaluate({}, [sample], refits=-1)
