"""Our tracker beside another package's, on the same detections of moving faces.

`benchmarks/other_trackers.py` made the frozen file. Where they differ: that tracker gives a face no
number in the first frame, and compares boxes as they are, so that it loses faces that hide for some
frames or move by half their width; ours lets boxes grow.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facefind.evaluation.mot import Trajectories, of_faces
from facefind.evaluation.tracking import TrackingResult, evaluate
from facefind.video.tracking import Tracker, TrackerConfig, with_ids

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "reference"))
import moving_faces

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "trackers.json"


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text())


@pytest.fixture(scope="module")
def scenes() -> dict[str, moving_faces.Scene]:
    return {scene.name: scene for scene in moving_faces.scenes()}


@pytest.fixture(scope="module")
def found(scenes, theirs) -> dict[str, list]:
    """The faces of each scene's frames; the file is of as many."""
    every = {name: moving_faces.detections(scene) for name, scene in scenes.items()}
    for name, faces in every.items():
        counts = [len(ids) for ids in theirs["scenes"][name]["ids"]]
        assert [len(one) for one in faces] == counts, "make the file again: the scenes are others"
    return every


@pytest.fixture(scope="module")
def ours(scenes, found) -> dict[str, list[np.ndarray]]:
    def ids(scene: moving_faces.Scene) -> Iterator[np.ndarray]:
        tracker = Tracker(TrackerConfig(min_score=0.5, low_score=0.15, keep=1.0))
        for number, (time, faces) in enumerate(zip(scene.times, found[scene.name], strict=True)):
            yield tracker.assign(faces, time=float(time), cut=number in scene.cut_frames)

    return {name: [*ids(scene)] for name, scene in scenes.items()}


def trajectories(faces: list, ids: list[np.ndarray]) -> Trajectories:
    return of_faces((number, with_ids(one, own)) for number, (one, own) in
                    enumerate(zip(faces, ids, strict=True)))  # fmt: skip


def counted(scene: moving_faces.Scene) -> Trajectories:
    truth = scene.truth()
    return truth[truth.scores > 0]


def test_our_evaluation_gives_the_figures_of_theirs(scenes, found, theirs) -> None:
    for name, scene in scenes.items():
        kept = theirs["scenes"][name]
        ids = [np.array(own, np.int64) + 1 for own in kept["ids"]]
        result = evaluate(trajectories(found[name], ids), counted(scene))
        for figure, value in kept["figures"].items():
            assert getattr(result, figure) == pytest.approx(value, abs=1e-9), (name, figure)


def test_our_tracks_are_at_least_as_good(scenes, found, ours, theirs) -> None:
    def measured(ids: dict[str, list[np.ndarray]]) -> TrackingResult:
        tracks = {name: trajectories(found[name], own) for name, own in ids.items()}
        return evaluate(tracks, {name: scene.truth() for name, scene in scenes.items()})

    their_ids = {
        name: [np.array(own, np.int64) + 1 for own in kept["ids"]]
        for name, kept in theirs["scenes"].items()
    }
    own, other = measured(ours), measured(their_ids)
    assert own.hota > other.hota
    assert own.idf1 > other.idf1
    assert own.assa > other.assa
    assert own.mota > other.mota


@pytest.mark.parametrize("name", ["crossing", "near and far", "cut"])
def test_faces_are_parted_alike_where_tracking_is_easy(name, ours, theirs) -> None:
    """Of faces with a number in both, those that two tracks share are nearly all of each."""
    own = np.concatenate(ours[name])
    other = np.concatenate([np.array(ids) for ids in theirs["scenes"][name]["ids"]])
    both = (own > 0) & (other >= 0)
    assert both.mean() > 0.8
    table = np.zeros((own.max() + 1, other.max() + 1))
    np.add.at(table, (own[both], other[both]), 1)
    assert table.max(axis=1).sum() >= 0.99 * both.sum()
    assert table.max(axis=0).sum() >= 0.99 * both.sum()
