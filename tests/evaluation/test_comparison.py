"""Differences between two detectors on the same pictures, and results read back."""

from __future__ import annotations

import json

import pytest
from test_report import problem

from facefind.errors import DataError, ProtocolError
from facefind.evaluation import comparison


def test_comparing_pictures_by_pairs():
    truth, weak = problem(skill=0.5)
    _, strong = problem(skill=0.9)
    found = comparison.compare(weak, strong, truth)["hard"]
    assert found.low < found.value < found.high
    assert found.low > 0
    same = comparison.compare(weak, weak, truth)["hard"]
    assert (same.value, same.error) == (0.0, 0.0)
    with pytest.raises(ProtocolError, match="rounds"):
        comparison.compare(weak, weak, truth, rounds=1)


def test_results_are_called_by_what_tells_them_apart(tmp_path):
    def kept(place, **content):
        path = tmp_path / place
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"protocol": "p"} | content))
        return path

    first, second = kept("a/x.json", name="mine"), kept("b/x.json", name="yours")
    assert list(comparison.read_results([first, second])) == ["mine", "yours"]
    third = kept("a/z.json", name="mine")
    assert list(comparison.read_results([first, third])) == ["x", "z"]
    fourth = kept("b/x.json", name="mine")
    assert list(comparison.read_results([first, fourth])) == [str(first), str(fourth)]
    with pytest.raises(DataError, match="given twice"):
        comparison.read_results([first, first])


def test_only_results_whose_detections_are_at_hand_are_paired(tmp_path):
    with pytest.raises(DataError, match="official"):
        comparison.compare_kept({"a": {}, "b": {}}, _official(tmp_path))
    labels = tmp_path / "x_bbx_gt.txt"
    labels.write_text("e/a.jpg\n1\n4 5 10 12 0 0 0 0 0 0\n")
    with pytest.raises(DataError, match="a: --data takes results of evaluate wider"):
        comparison.compare_kept({"a": {"measure": "wider"}, "b": {}}, labels)
    (tmp_path / "found.jsonl").write_text("")
    other = {"measure": "wider", "digest": "0", "detections_from": str(tmp_path / "found.jsonl")}
    with pytest.raises(DataError, match="measured on other labels"):
        comparison.compare_kept({"a": other, "b": other}, labels)


def _official(folder):
    (folder / "mat").mkdir()
    (folder / "mat" / "wider_face_val.mat").write_bytes(b"")
    return folder / "mat"
