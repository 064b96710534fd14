from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facefind import datasets
from facefind.datasets import Sample

FACE = np.array([[30, 40], [70, 40], [50, 60], [35, 80], [65, 80]], np.float32)


def noise(path, seed=0, size=(120, 100)):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8).astype(np.uint8))
    coarse.resize(size, Image.Resampling.BICUBIC).save(path, quality=95)
    return path


def sample(path, boxes, points=None, name="a", **more):
    return Sample(name, path, np.array(boxes, np.float32).reshape(-1, 4), points, **more)


def kinds(*samples, **options):
    return datasets.check(samples, **options).counts


def test_a_sound_set_has_no_findings(tmp_path):
    path = noise(tmp_path / "a.png")
    report = datasets.check([sample(path, [[20, 30, 80, 95]], FACE[None], image_size=(100, 120))])
    assert report.findings == ()
    assert (report.images, report.faces, report.with_landmarks, report.empty_images) == (1, 1, 1, 0)
    assert report.sizes == {
        "<8": 0, "8-16": 0, "16-32": 0, "32-64": 1, "64-128": 0, "128-256": 0, ">=256": 0
    }  # fmt: skip
    assert json.loads(json.dumps(report.to_dict()))["faces"] == 1


@pytest.mark.parametrize(
    ("boxes", "kind"),
    [
        ([[5, 5, 5, 9]], "area"),
        ([[5, np.nan, 50, 50]], "area"),
        ([[5, 5, 8, 50]], "tiny"),
        ([[100, 5, 130, 50]], "outside"),
        ([[-5, 5, 30, 50]], "outside"),
        ([[5, 5, 30, 50], [5, 5, 30, 50]], "twice"),
    ],
)
def test_wrong_boxes_are_found(boxes, kind):
    assert kinds(sample(Path("none"), boxes, image_size=(100, 120)), files=False) == {kind: 1}


def test_wrong_files_are_found(tmp_path):
    path = noise(tmp_path / "a.png")
    assert kinds(sample(path, [], image_size=(100, 121))) == {"size": 1}
    assert kinds(sample(tmp_path / "gone.png", [])) == {"file": 1}
    assert kinds(sample(path, []), sample(path, []), files=False) == {"name": 1}


def test_copies_are_found_across_formats_and_sets(tmp_path):
    first = noise(tmp_path / "a.png")
    Image.open(first).save(tmp_path / "copy.jpg", quality=92)
    other = noise(tmp_path / "b.png", seed=1)
    own = [sample(first, [], name="a"), sample(other, [], name="b")]
    assert datasets.check(own).counts == {}
    report = datasets.check(own, [sample(tmp_path / "copy.jpg", [], name="test")])
    assert report.counts == {"copy": 1}
    assert report.findings[0].image == "a"
    assert "test of the other set" in report.findings[0].detail


def test_plain_pictures_are_copies_only_if_equal(tmp_path):
    for name, level in (("a", 10), ("b", 200), ("c", 10)):
        Image.new("RGB", (40, 40), (level,) * 3).save(tmp_path / f"{name}.png")
    samples = [sample(tmp_path / f"{n}.png", [], name=n) for n in "abc"]
    assert [f.image for f in datasets.check(samples).findings] == ["c"]


@given(st.floats(-3.1, 3.1), st.floats(0.5, 3))
def test_turned_faces_are_in_order_and_exchanged_points_are_not(angle, scale):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (FACE - 50) @ turn.T * scale + 300
    box = [[300 - 60 * scale, 300 - 60 * scale, 300 + 60 * scale, 300 + 60 * scale]]
    good = sample(Path("none"), box, points[None])
    assert kinds(good, files=False) == {}
    for order in ([1, 0, 2, 4, 3], [1, 0, 2, 3, 4], [0, 1, 2, 4, 3]):
        assert kinds(replace(good, landmarks=points[None][:, order]), files=False) == {"order": 1}


def test_points_far_from_their_box_are_found():
    assert kinds(sample(Path("n"), [[200, 200, 300, 300]], FACE[None]), files=False) == {
        "landmarks": 1
    }


def test_real_points_are_almost_all_in_order(shared):
    samples = datasets.read(shared / "data/lfw_points/test.json")
    assert datasets.check(samples, files=False).counts.get("order", 0) == 0
