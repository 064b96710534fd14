from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facefind.datasets import Sample
from facefind.errors import DataError, ProtocolError
from facefind.evaluation import fddb, landmarks, published, report, voc, wider
from facefind.plots.curves import draw_curves


def problem(seed=0, images=40, skill=0.5):
    """Ground truth and detections of which about `skill` are right."""
    rng = np.random.default_rng(seed)
    names, boxes, keep, found = [], [], [], {}
    for number in range(images):
        corners = np.stack([np.arange(6) * 60.0, np.zeros(6)], axis=1)
        faces = np.concatenate([corners, corners + 40], axis=1)
        right = np.random.default_rng(number).uniform(size=6) < skill
        names.append(f"e/{number}")
        boxes.append(faces)
        keep.append(np.random.default_rng(number + 999).uniform(size=6) < 0.7)
        found[f"e/{number}"] = (faces + 500 * ~right[:, None], rng.uniform(size=6))
    return wider.GroundTruth(tuple(names), tuple(boxes), {"hard": tuple(keep)}, "made up"), found


def test_tally_of_every_picture_once_is_the_evaluation():
    truth, found = problem()
    for mode in ("official", "strict"):
        counts = wider.tally(found, truth, mode)["hard"]
        once = np.ones((1, len(truth.names)), np.int64)
        assert counts.ap(once)[0] == pytest.approx(wider.evaluate(found, truth, mode).ap["hard"])
        assert counts.ap(0 * once)[0] == 0


def test_weights_are_repeated_pictures():
    truth, found = problem()
    weights = np.random.default_rng(1).integers(1, 4, len(truth.names))
    rows = [(i, k) for i, weight in enumerate(weights) for k in range(weight)]
    again = wider.GroundTruth(
        tuple(f"e/{i}_{k}" for i, k in rows),
        tuple(truth.boxes[i] for i, _ in rows),
        {"hard": tuple(truth.subsets["hard"][i] for i, _ in rows)},
    )
    repeated = {f"e/{i}_{k}": found[f"e/{i}"] for i, k in rows}
    expected = wider.evaluate(repeated, again, "strict").ap["hard"]
    assert wider.tally(found, truth)["hard"].ap(weights[None])[0] == pytest.approx(expected)


def test_tables_hold_comparable_results_only():
    truth, found = problem()
    result = wider.evaluate(found, truth, "strict")
    text = report.table({"one": result, "two": result})
    assert text.splitlines()[0] == "| | Hard |"
    assert f"| one | {100 * result.ap['hard']:.2f} |" in text
    assert "WIDER FACE, strict, IoU 0.5" in text
    assert truth.digest()[:12] in text
    other = wider.evaluate(found, truth, "official")
    with pytest.raises(ProtocolError, match="cannot be compared"):
        report.table({"one": result, "two": other})
    assert report.table({}) == ""


def test_curves_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    truth, found = problem()
    result = wider.evaluate(found, truth)
    draw_curves(tmp_path / "curves.svg", {"one": result})
    text = (tmp_path / "curves.svg").read_text()
    assert "<svg" in text
    assert text.count("<path") > 10
    with pytest.raises(ProtocolError, match="one kind"):
        draw_curves(tmp_path / "none.png", {})


def test_other_protocols_have_tables_and_curves(tmp_path):
    pytest.importorskip("matplotlib")
    face = np.array([[10.0, 10, 60, 60]])
    points = np.array([[[20, 20], [50, 20], [35, 35], [22, 50], [48, 50]]], float)
    sample = Sample(
        "a", Path("n"), face, points, image_size=(99, 99),
        attributes={"ellipse": np.array([[30.0, 25, 1.57, 35, 35]])},
    )  # fmt: skip
    found = {"a": (face, np.ones(1))}
    results = {
        "discrete @1000": fddb.evaluate(found, [sample], "exact"),
        "AP": voc.evaluate(found, [sample]),
        "NME": landmarks.evaluate({"a": (face, points)}, [sample]),
    }
    for column, result in results.items():
        assert column in report.table({"model": result}).splitlines()[0]
        draw_curves(tmp_path / "curves.svg", {"model": result})
        assert "<path" in (tmp_path / "curves.svg").read_text()
    with pytest.raises(ProtocolError, match="3 kinds"):
        draw_curves(tmp_path / "mixed.svg", results)


def test_reports_read_back_are_told_apart_by_what_they_depend_on():
    truth, found = problem()
    first = report.plain(wider.evaluate(found, truth, "strict"))
    rules = {"name": "vga", "sizes": [640], "flip": False}
    first |= {"test_protocol": rules, "min_score": 0.02}
    other = first | {
        "test_protocol": rules | {"name": "x", "sizes": [None]},
        "images_absent": ["a"],
    }
    unsaid = {key: value for key, value in first.items() if key != "test_protocol"}
    assert report.unlike({"a": first, "b": unsaid}) == {}
    differ = report.unlike({"a": first, "b": other})
    assert differ == {"test_protocol.sizes": {"a": [640], "b": [None]}}
    differ = report.unlike({"a": first | {"images_absent": []}, "b": other})
    assert differ["images_absent"] == {"a": 0, "b": 1}
    assert "NOT COMPARABLE: test_protocol.sizes differs" in report.table(
        {"a": first, "b": other}, force=True
    )


def test_published_curves_of_wider_and_fddb(tmp_path, shared):
    pytest.importorskip("matplotlib")
    folder = shared / "data/wider_reference/baseline_curves"
    curves, problems = published.read_published(folder)
    assert set(curves["ACF-WIDER"]) == {"easy", "medium", "hard"}
    assert all("pip install h5py" in problem for problem in problems)
    truth, found = problem()
    result = wider.evaluate(found, truth)
    draw_curves(tmp_path / "curves.svg", {"mine": result}, curves)
    (tmp_path / "Other-DiscROC.txt").write_text("0.5 10\n0.7 500\n0.8 3000\n")
    curves, problems = published.read_published(tmp_path)
    assert curves == {"Other": {"discrete": ([10, 500, 3000], [0.5, 0.7, 0.8])}}
    assert problems == []
    with pytest.raises(DataError, match="expected wider_pr_info"):
        published.read_published(shared / "papers")
