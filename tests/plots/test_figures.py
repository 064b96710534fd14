"""Every figure of the project is drawn from plain data, and says what it shows."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from facefind.datasets.statistics import Geometry
from facefind.errors import DataError
from facefind.plots.cells import draw_context, draw_pyramid
from facefind.plots.faces import draw_faces
from facefind.plots.figure import new_figure, save
from facefind.plots.mining import draw_skipped
from facefind.plots.samples import draw_counts, draw_matching
from facefind.plots.search import Panel, draw_choices, draw_scores

pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def texts_stay_texts():
    """SVG files hold words as words, so that tests can read them."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        yield


def words(path):
    text = path.read_text()
    assert text.count("<path") > 5
    return text


def test_counts_by_scale_with_a_bar_for_each_name(tmp_path):
    path = draw_counts(
        tmp_path / "new" / "samples.svg",
        ("<4", "4-8", ">=8"),
        {"one": (1, 2, 3), "two": (3, 2, 1)},
        {"one": {16: 3, 32: 4}, "two": {16: 1, 64: 5}},
    )
    text = words(path)
    for word in ("one", "two", "&lt;4", "&gt;=8", "ground-truth faces", "positive anchors", "64"):
        assert word in text


def test_matching_with_a_line_for_each_name(tmp_path):
    path = draw_matching(
        tmp_path / "matching.svg",
        ("<4", "4-8", ">=8"),
        {"one": (float("nan"), 2.5, 3.0), "two": (1.0, 2.0, 1.0)},
        (4.0, 8.0, 16.0),
        {"one": (3, 4, 1), "two": (1, 5, 2)},
    )
    text = words(path)
    for word in ("one", "two", "&lt;4", "anchors a face", "ground-truth faces"):
        assert word in text


def test_skipped_images_by_pass(tmp_path):
    text = words(draw_skipped(tmp_path / "mining.svg", {"run": ([0, 1, 2], [0.0, 0.25, 0.5])}))
    for word in ("run", "images skipped", "%"):
        assert word in text


def test_scores_of_a_search(tmp_path):
    panels = {name: Panel([0.1, 0.2, 0.4], 0.15, 0.3, 0.2) for name in ("C2", "C3", "C4")}
    errors = {"3 at 2 epochs": ([0.3, 0.5], [0.5, 1.0])}
    path = tmp_path / "step1.svg"
    drawn = draw_scores(
        path, panels, [0.5, 0.6, 0.7], [0, 1, 1], score_name="AP hard", errors=errors
    )
    text = words(drawn)
    for word in ("C2", "C4", "median 0.20", "AP hard", "error distribution", "3 at 2 epochs"):
        assert word in text
    with pytest.raises(DataError, match="not one trial"):
        draw_scores(path, panels, [], [], score_name="AP hard")


def test_choices_of_a_search(tmp_path):
    course = {
        1: {"level 0, node 1": (1.0, "sep_conv_3x3", 0), "level 0, node 2": (1.0, "skip", 1)},
        20: {"level 0, node 1": (0.5, "skip", 0), "level 0, node 2": (0.75, "skip", 0)},
    }
    text = words(draw_choices(tmp_path / "choices.svg", course))
    for word in ("level 0, node 2", "sep_conv_3x3", "entropy"):
        assert word in text
    with pytest.raises(DataError, match="no step"):
        draw_choices(tmp_path / "choices.svg", {})


def test_modules_as_graphs(tmp_path):
    nodes = [[("dil_conv_5x5", 1), ("conv_1x1", 0)], [("sep_conv_3x3", 0), ("conv_3x1", 1)]]
    text = words(draw_pyramid(tmp_path / "pyramid.svg", nodes, (64, 128)))
    for word in ("dil_conv_5x5", "sep_conv_3x3", "conv_3x1", "down", "up", "64", "128"):
        assert word in text
    levels = [[("sep_conv_5x5", 0), ("skip_connect", 1)], [("conv_1x5", 0)]]
    text = words(draw_context(tmp_path / "context.svg", levels, [[2], [1]], (64, 128)))
    for word in ("stride 64", "stride 128", "sep_conv_5x5", "conv_1x5"):
        assert word in text


def test_faces_of_a_set(tmp_path):
    boxes = np.array([[0, 0, 10, 12], [5, 5, 30, 40], [1, 1, 1, 9]], float)
    sizes = np.array([[60, 80], [np.nan, np.nan]])
    path = draw_faces(tmp_path / "set.svg", Geometry(boxes, np.array([2, 1]), sizes))
    for word in ("2 images, 3 faces", "size of faces", "where faces are"):
        assert word in words(path)
    with pytest.raises(DataError, match="no labeled face"):
        draw_faces(path, Geometry(boxes[:0], np.array([0, 0]), sizes))


def test_an_unknown_suffix_says_which_are_known_and_writes_nothing(tmp_path):
    figure = new_figure(2, 2)
    for name in ("figure", "figure.jsonl"):
        with pytest.raises(DataError, match=r"expected an image file.*\.png.*\.svg"):
            save(figure, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    assert save(figure, tmp_path / "figure.PNG").read_bytes().startswith(b"\x89PNG")


def test_no_window_is_ever_opened():
    new_figure(1, 1)
    assert "matplotlib.pyplot" not in sys.modules
