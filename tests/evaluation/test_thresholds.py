"""Precision and recall by display threshold, counted by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facefind.datasets import Sample, partial
from facefind.errors import DataError
from facefind.evaluation import thresholds

LARGE, SMALL, TINY = [0, 0, 40, 30], [100, 0, 120, 20], [200, 0, 208, 10]
IGNORED = [300, 0, 360, 60]


def sample(name: str = "a.jpg", boxes=(LARGE, SMALL, TINY, IGNORED)) -> Sample:
    ignore = [box is IGNORED for box in boxes]
    return Sample(name=name, path=Path(name), boxes=np.array(boxes), ignore=np.array(ignore))


def measured(found, samples=None, **options):
    boxes = np.array([box for box, _ in found], float).reshape(-1, 4)
    pairs = {"a": (boxes, np.array([score for _, score in found]))}
    return thresholds.evaluate(pairs, samples or [sample()], **options)


def at(result, threshold):
    said = result.at(threshold)
    return said["precision"], *said["recall"].values()


def test_hits_false_alarms_doubles_and_ignored_faces_are_counted_by_score():
    result = measured(
        [
            (LARGE, 0.9),
            ([2, 0, 42, 30], 0.7),  # the same face again: a false alarm
            (IGNORED, 0.8),  # neither way
            ([400, 0, 440, 40], 0.5),  # nothing is there
            (SMALL, 0.6),  # found, but too small for the precision
            ([500, 0, 520, 29], 0.6),  # too small for a false alarm
        ]
    )
    assert result.faces == {30: 1, 12: 2}
    assert at(result, 0.9) == (1, 1, 0.5)
    assert at(result, 0.71) == (1, 1, 0.5)
    assert at(result, 0.7) == (0.5, 1, 0.5)
    assert at(result, 0.6) == (0.5, 1, 1)
    assert at(result, 0.5) == pytest.approx((1 / 3, 1, 1))
    assert np.isnan(result.at(0.95)["precision"])
    assert result.at(0.95)["recall"] == {"side>=30": 0, "side>=12": 0}


def test_the_least_threshold_is_the_lowest_at_which_the_precision_is_reached():
    result = measured([(LARGE, 0.9), ([400, 0, 440, 40], 0.55)])
    assert result.least(0.97) == 0.56
    assert result.least(0.5) == 0.01
    assert measured([([400, 0, 440, 40], 0.55)]).least(0.97) is None
    assert measured([]).least(0.97) is None


def test_a_face_is_found_from_an_iou_of_two_fifths():
    half = [0, 0, 20, 30]  # IoU 1/2 with LARGE
    assert at(measured([(half, 0.9)]), 0.5)[0] == 1
    assert at(measured([(half, 0.9)], iou=0.6), 0.5)[0] == 0
    assert at(measured([(half, 0.9)], min_side=31), 0.5)[1] == 1
    assert np.isnan(at(measured([(half, 0.9)], min_side=31), 0.5)[0])


def test_faces_of_pictures_without_detections_are_missed():
    result = measured([(LARGE, 0.9)], [sample(), sample("b.jpg")])
    assert at(result, 0.5) == (1, 0.5, 0.25)
    assert result.images == 2


def test_what_does_not_fit_together_is_named():
    with pytest.raises(DataError, match="'a', which is not among"):
        measured([(LARGE, 0.9)], [sample("b.jpg")])
    with pytest.raises(DataError, match="unlabeled faces"):
        measured([(LARGE, 0.9)], [partial(replace(sample(), image_size=(400, 400)))])
    twice = {"a": (np.zeros((0, 4)), np.zeros(0)), "a.jpg": (np.zeros((0, 4)), np.zeros(0))}
    with pytest.raises(DataError, match="two sets of detections"):
        thresholds.evaluate(twice, [sample()])
