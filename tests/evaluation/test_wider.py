from __future__ import annotations

import json
import math
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facefind.datasets import Sample, partial
from facefind.errors import DataError, ProtocolError
from facefind.evaluation import detections as files
from facefind.evaluation import voc, wider, wider_matching
from facefind.evaluation.curves import average_precision

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "reference"))
import wider_protocol as oracle

# Coarse numbers make ties, exact halves and equal overlaps common.
coordinate = st.integers(0, 24)
side = st.integers(0, 12)
face = st.tuples(coordinate, coordinate, side, side)
eighth = st.integers(-8, 200).map(lambda n: n / 8)
small = st.integers(0, 96).map(lambda n: n / 8)
score = st.one_of(st.integers(0, 10).map(lambda n: n / 10), st.floats(0, 1, width=32))
box = st.tuples(eighth, eighth, small, small, score)


@st.composite
def problems(draw):
    truth, found = {}, {}
    for index in range(draw(st.integers(1, 4))):
        faces = draw(st.lists(face, max_size=5))
        easy = [draw(st.booleans()) for _ in faces]
        hard = [flag or draw(st.booleans()) for flag in easy]
        rows = draw(st.lists(box, max_size=7))
        near = draw(st.lists(st.tuples(st.sampled_from(faces), score), max_size=5)) if faces else []
        rows = rows + [(x + 0.5, y, w, h, s) for (x, y, w, h), s in near]
        truth[f"e/{index}"] = (
            [(x, y, x + w, y + h) for x, y, w, h in faces],
            {"easy": easy, "hard": hard},
        )
        if draw(st.integers(0, 9)):
            found[f"e/{index}"] = [((x, y, x + w, y + h), s) for x, y, w, h, s in rows]
    return truth, found


def as_ground_truth(truth):
    return wider.GroundTruth(
        tuple(truth),
        tuple(np.array(faces, np.float64).reshape(-1, 4) for faces, _ in truth.values()),
        {
            subset: tuple(np.array(counted[subset], bool) for _, counted in truth.values())
            for subset in ("easy", "hard")
        },
        "made up",
    )


def as_detections(found):
    return {
        f"{name}.jpg": (
            np.array([b for b, _ in rows]).reshape(-1, 4),
            np.array([s for _, s in rows]),
        )
        for name, rows in found.items()
    }


@settings(max_examples=150, deadline=None)
@given(problem=problems(), mode=st.sampled_from(["official", "strict"]))
def test_same_curves_as_the_protocol_step_by_step(problem, mode):
    truth, found = problem
    result = wider.evaluate(as_detections(found), as_ground_truth(truth), mode)
    for subset in ("easy", "hard"):
        points = oracle.curve(found, truth, subset, whole=mode == "official")
        ours = result.curves[subset]
        np.testing.assert_array_equal(ours.precision, [p for p, _ in points])
        np.testing.assert_array_equal(ours.recall, [r for _, r in points])
        assert math.isclose(result.ap[subset], oracle.ap(points), abs_tol=1e-12)
    assert set(result.missing) == set(truth) - set(found)


@pytest.mark.parametrize("mode", ["official", "strict"])
def test_same_curves_where_most_boxes_are_far_from_most_faces(mode, monkeypatch):
    monkeypatch.setattr(wider_matching, "_PAIRS", 50)
    rng = np.random.default_rng(1)
    truth, found = {}, {}
    for name, count in (("e/a", 25), ("e/b", 0), ("e/c", 40), ("e/d", 1)):
        corners, sides = rng.integers(0, 900, (count, 2)), rng.integers(2, 60, (count, 2))
        faces = np.concatenate([corners, corners + sides], axis=1)
        flags = {"easy": (sides[:, 1] > 30).tolist(), "hard": [True] * count}
        near = faces.repeat(2, axis=0) + rng.normal(0, 3, (2 * count, 4)).round(1)
        far = rng.uniform(0, 900, (20, 2))
        boxes = np.concatenate([near, np.concatenate([far, far + 15], axis=1)])
        truth[name] = ([tuple(face) for face in faces.tolist()], flags)
        scores = rng.random(len(boxes)).round(2).tolist()
        found[name] = [(tuple(b), s) for b, s in zip(boxes.tolist(), scores, strict=True)]
    result = wider.evaluate(as_detections(found), as_ground_truth(truth), mode)
    for subset in ("easy", "hard"):
        points = oracle.curve(found, truth, subset, whole=mode == "official")
        np.testing.assert_array_equal(result.curves[subset].precision, [p for p, _ in points])
        np.testing.assert_array_equal(result.curves[subset].recall, [r for _, r in points])
        assert 0.2 < result.ap[subset] < 0.95


@settings(max_examples=20, deadline=None)
@given(problem=problems())
def test_mean_ap_is_the_mean_of_ten_overlaps(problem):
    truth, found = problem
    result = wider.evaluate(as_detections(found), as_ground_truth(truth), "strict")
    single = [
        wider.evaluate(as_detections(found), as_ground_truth(truth), "strict", iou=iou).ap["hard"]
        for iou in wider.MAP_IOUS
    ]
    assert result.mean_ap is not None
    assert math.isclose(result.mean_ap["hard"], float(np.mean(single)), abs_tol=1e-12)
    points = oracle.curve(found, truth, "hard", iou=0.75)
    assert math.isclose(single[5], oracle.ap(points), abs_tol=1e-12)


@given(problem=problems(), data=st.data())
@settings(max_examples=30, deadline=None)
def test_order_of_the_detections_does_not_matter(problem, data):
    truth, found = problem
    shuffled = {name: data.draw(st.permutations(rows)) for name, rows in found.items()}
    first, second = (
        wider.evaluate(as_detections(rows), as_ground_truth(truth), "strict")
        for rows in (found, shuffled)
    )
    assert first.ap == second.ap


def ground_truth(**faces):
    truth = {
        f"e/{name}": (boxes, {"easy": [True] * len(boxes), "hard": [True] * len(boxes)})
        for name, boxes in faces.items()
    }
    return as_ground_truth(truth)


def test_perfect_detections_score_one():
    boxes = np.array([[0, 0, 20, 20], [40, 40, 70, 80]])
    truth = ground_truth(a=boxes, b=boxes[:1])
    found = {"e/a": (boxes, np.array([0.9, 0.5])), "e/b": (boxes[:1], np.array([0.7]))}
    result = wider.evaluate(found, truth)
    assert result.ap == {"easy": 1.0, "hard": 1.0}
    assert result.ap_98 == {"easy": 1.0, "hard": 1.0}


def test_faces_of_an_image_without_detections_are_missed():
    boxes = np.array([[0, 0, 20, 20]])
    result = wider.evaluate({"e/a": (boxes, np.array([1.0]))}, ground_truth(a=boxes, b=boxes))
    assert result.ap["hard"] == 0.5
    assert result.missing == ("e/b",)
    assert result.to_dict()["images_without_detections"] == ["e/b"]


def test_modes_part_where_two_faces_pass_one_half():
    # The detection fits the second face exactly, yet the first one passes one half too.
    truth = ground_truth(a=np.array([[0, 0, 9, 9], [0, 0, 9, 12]]))
    found = {"e/a": (np.array([[0, 0, 9, 12], [0, 0, 9, 12.4]]), np.array([0.9, 0.8]))}
    official, strict = (wider.evaluate(found, truth, mode) for mode in ("official", "strict"))
    assert official.ap["hard"] == strict.ap["hard"] == 0.5
    truth = wider.GroundTruth(
        truth.names, truth.boxes, {"hard": (np.array([False, True]),)}, truth.title
    )
    assert wider.evaluate(found, truth, "official").ap["hard"] == 0.0
    assert wider.evaluate(found, truth, "strict").ap["hard"] == 1.0


def test_precision_floor_cuts_the_curve():
    # Forty-nine hits, then a false alarm (precision exactly .98), then ten more hits.
    cells = np.array([[30 * i, 0, 30 * i + 20, 20] for i in range(60)], float)
    boxes = np.concatenate([cells[:49], [[0, 500, 20, 520]], cells[49:59]])
    found = {"e/a": (boxes, np.linspace(1, 0, len(boxes)))}
    result = wider.evaluate(found, ground_truth(a=cells))
    assert math.isclose(result.ap_98["hard"], 59 / 60 * 59 / 60 + 49 / 60 * (1 / 60), abs_tol=1e-9)
    few = {"e/a": (boxes[:50], np.linspace(1, 0, 50))}
    assert math.isclose(
        wider.evaluate(few, ground_truth(a=cells)).ap_98["hard"], 49 / 60, abs_tol=1e-9
    )


def test_only_the_listed_images_count():
    boxes = np.array([[0, 0, 20, 20]])
    truth = ground_truth(a=boxes, b=boxes)
    found = {"e/a": (boxes, np.ones(1)), "e/b": (boxes + 100, np.ones(1))}
    result = wider.evaluate(found, truth, subset=["e/a.jpg\n"])
    assert (result.images, result.ap["hard"]) == (1, 1.0)
    assert result.digest != wider.evaluate(found, truth).digest
    with pytest.raises(DataError, match="not in made up"):
        wider.evaluate(found, truth, subset=["e/z.jpg"])


def test_names_may_carry_folders_and_suffixes():
    boxes = np.array([[0, 0, 20, 20]])
    found = {"/somewhere/images/e/a.png": (boxes, np.ones(1))}
    assert wider.evaluate(found, ground_truth(a=boxes)).missing == ()


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"e/z": (np.zeros((0, 4)), np.zeros(0))}, "not in made up"),
        ({"e/a": (np.zeros((2, 4)), np.zeros(1))}, "expected"),
        ({"e/a": (np.full((1, 4), np.nan), np.ones(1))}, "NaN"),
    ],
)
def test_wrong_detections_are_refused(found, message):
    with pytest.raises(DataError, match=message):
        wider.evaluate(found, ground_truth(a=np.array([[0, 0, 5, 5]])))


def test_unknown_modes_are_refused():
    truth = ground_truth(a=np.array([[0, 0, 5, 5]]))
    with pytest.raises(ProtocolError, match="official"):
        wider.evaluate({}, truth, "fair")  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match="only"):
        wider.evaluate({}, truth, "official", iou=0.7)


def test_samples_count_by_height_and_never_ignored_ones():
    sample = Sample(
        "e/a.jpg",
        Path("a.jpg"),
        np.array([[0, 0, 10, 12], [0, 50, 40, 100], [50, 50, 99, 99]], np.float32),
        ignore=np.array([False, False, True]),
    )
    truth = wider.from_samples([sample], min_heights=(40, 9))
    result = wider.evaluate({"e/a": (sample.boxes[1:], np.array([0.5, 0.9]))}, truth)
    assert result.faces == {"height>=40": 1, "height>=9": 2}
    assert result.ap == {"height>=40": 1.0, "height>=9": 0.5}


def test_pictures_with_unlabeled_faces_cannot_be_measured():
    whole = Sample("e/a.jpg", Path("a.jpg"), np.array([[0, 0, 10, 12]]), image_size=(50, 60))
    with pytest.raises(DataError, match="unlabeled faces"):
        wider.from_samples([partial(whole)])
    with pytest.raises(DataError, match="unlabeled faces"):
        voc.evaluate({}, [partial(whole)])
    assert len(wider.from_samples([whole, partial(whole)]).names) == 2  # ignored, as its labels say


def test_detections_survive_both_formats(tmp_path):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 500, (6, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 50, (6, 2))], axis=1)
    found = {"e/a.jpg": (boxes, rng.uniform(0, 1, 6)), "e/b.jpg": (np.zeros((0, 4)), np.zeros(0))}
    files.write_wider(found, tmp_path / "text")
    exact = [files.ExactFaces(*pair).to_record(name) for name, pair in found.items()]
    (tmp_path / "found.jsonl").write_text("".join(json.dumps(one) + "\n" for one in exact))
    for again in (files.read(tmp_path / "text"), files.read(tmp_path / "found.jsonl")):
        assert {files.key(name) for name in again} == {"e/a", "e/b"}
        order = np.argsort(-found["e/a.jpg"][1])
        read = next(rows for name, rows in again.items() if "a" in Path(name).stem)
        got, scores = files.pair("a", read)
        np.testing.assert_allclose(got, boxes[order], atol=1e-3)
        np.testing.assert_allclose(scores, found["e/a.jpg"][1][order], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n2\n1 2 3 4 .5\n", "says 2 faces, 1 lines follow"),
        ("a\n1\n1 2 3 .5\n", "line 3.*5 numbers"),
        ("a\nmany\n", "line 2.*number of faces"),
        ("a\n2\n1 2 3 4 .5\n1 2 3 nan .5\n", "line 4.*5 numbers"),
        ("a\n2\n1 2 3 4 .5\n1 2 3 4e7 .5\n", "line 4.*5 numbers"),
        ("a\n1\n1 2 3 4_0 .5\n", "line 3.*5 numbers"),
        ("a\n2\n\n1 2 3 4 .5\n", "line 3.*5 numbers"),
    ],
)
def test_wrong_text_files_name_the_line(tmp_path, text, message):
    (tmp_path / "e").mkdir()
    (tmp_path / "e/a.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        files.read(tmp_path)


def test_wrong_json_names_the_line(tmp_path):
    good = json.dumps({"image": "a", "boxes": [], "scores": []})
    (tmp_path / "f.jsonl").write_text(good + '\n{"image": "b"}\n')
    with pytest.raises(DataError, match="line 2"):
        files.read(tmp_path / "f.jsonl")


@pytest.fixture(scope="module")
def reference(shared):
    return wider.read_ground_truth(shared / "data/wider_reference/ground_truth")


def test_official_labels_have_their_published_counts(reference):
    assert len(reference.names) == 3226
    assert sum(map(len, reference.boxes)) == 39708
    counts = {name: sum(map(np.sum, keep)) for name, keep in reference.subsets.items()}
    assert counts == {"easy": 7211, "medium": 13319, "hard": 31958}


def test_published_detections_give_their_published_ap(shared, reference, tmp_path):
    archive = shared / "data/wider_reference/detections/retinaface_mobilenet025_original.tar.gz"
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    found = files.read(tmp_path / "widerface_txt")
    published = {"easy": 0.9070, "medium": 0.8816, "hard": 0.7382}
    for mode in ("official", "strict"):
        result = wider.evaluate(found, reference, mode)
        for subset, value in published.items():
            assert result.ap[subset] == pytest.approx(value, abs=1.1e-4)
        assert result.missing == ()


@pytest.mark.parametrize(
    ("method", "published"),
    [("acf", (0.659, 0.541, 0.273)), ("two_stage_cnn", (0.681, 0.618, 0.323))],
)
def test_official_curves_of_older_methods_give_their_published_ap(shared, method, published):
    from scipy.io import loadmat

    folder = shared / "data/wider_reference/baseline_curves/setting_int" / method
    for subset, expected in zip(("easy", "medium", "hard"), published, strict=True):
        table = loadmat(folder / f"wider_pr_info_{method}_{subset}_val.mat")["pr_cruve"]
        assert average_precision(table[:, 1], table[:, 0]) == pytest.approx(expected, abs=1.1e-3)
