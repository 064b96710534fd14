from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facefind import datasets
from facefind.datasets import Sample
from facefind.errors import DataError

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


FACE_ROW = "10 10 30 30 0 0 0 0 0 0"
BOX = (
    "<object><bndbox><xmin>{}</xmin><ymin>5</ymin><xmax>40</xmax><ymax>40</ymax></bndbox></object>"
)
COCO = {
    "images": [{"id": i, "file_name": name} for i, name in enumerate(("a.jpg", "b.jpg", None))],
    "annotations": [
        {"id": 5, "image_id": 0, "bbox": [1, 2, 3, 4]},
        {"id": 6, "image_id": 0, "bbox": [1, 2, 3]},
        {"id": 7, "image_id": 2, "bbox": [1, 2, 3, 4]},
        {"id": 8, "image_id": 9, "bbox": [1, 2, 3, 4]},
        {"id": 9, "image_id": 1, "bbox": [1, 2, 3, 4]},
    ],
}
WRONG = {
    # The count of a.jpg is too large, a row of b.jpg is wrong, c.jpg has no count, a.jpg is twice.
    "wider": (
        {
            "x_bbx_gt.txt": f"a.jpg\n2\n{FACE_ROW}\nb.jpg\n3\n{FACE_ROW}\n1 2 nan 4\n{FACE_ROW}\n"
            f"c.jpg\n{FACE_ROW}\na.jpg\n1\n{FACE_ROW}\n{FACE_ROW}\nd.jpg\n1\n{FACE_ROW}\n"
        },
        [f"x_bbx_gt.txt, line {line}: " for line in (4, 7, 10, 11)],
        [1, 2, 0, 1],
    ),
    "fddb": (
        {"x-ellipseList.txt": "i/a\n2\n9 8 1 5 5 1\n9 -8 1 5 5 1\ni/b\nx y\ni/c\n1\n9 8 1 5 5 1\n"},
        ["x-ellipseList.txt, line 4: ", "x-ellipseList.txt, line 6: "],
        [1, 0, 1],
    ),
    "retinaface": (
        {"label.txt": "1 2 3 4\n# a.jpg\n1 2 3 4\n5\n# a.jpg\n5\n# b.jpg\n1 2 3 x\n5 5 9 9\n"},
        [f"label.txt, line {line}: " for line in (1, 4, 5, 8)],
        [1, 1],
    ),
    "scrfd": (
        {"labelv2.txt": "# a.jpg 90 90\n1 2 3 4\n1 2 3\n# b.jpg 0 9\n1 2 3 4\n# c.jpg 9 9\n"},
        ["labelv2.txt, line 3: ", "labelv2.txt, line 4: "],
        [1, 0],
    ),
    "yolo": (
        {
            "labels/a.txt": "0 .5 .5 .2 .2\n0 .5 .5\n",
            "labels/b.txt": "0 50 50 20 20\n0 .5 .5 .2 .2\n",
            "labels/c.txt": b"\xff\xff",
            "labels/d.txt": "0 .5 .5 .2 .2\n",
        },
        ["a.txt, line 2: ", "b.txt, line 1: ", "c.txt, line 1: ", "d.txt"],
        [1, 1, 0],
    ),
    "ultralytics": (
        {
            "data.yaml": "train: list.txt\nnames: [face]\n",
            "list.txt": "images/a.jpg\nimages/no.jpg\nimages/b.jpg\n",
            "labels/b.txt": "1 .5 .5 .2 .2\n0 .5 .5 .2 .2\n",
        },
        ["list.txt, line 2: ", "b.txt, line 1: "],
        [0, 1],
    ),
    "voc": (
        {
            "a.xml": f"<annotation>{BOX.format('x')}{BOX.format(5)}</annotation>",
            "b.xml": "<annotation>",
            "c.xml": f"<annotation>{BOX.format(5)}{BOX.format('')}</annotation>",
        },
        ["a.xml, object 1: ", "b.xml: ", "c.xml, object 2: "],
        [1, 1],
    ),
    "coco": (
        {"labels.json": json.dumps(COCO)},
        ["labels.json, image id 2: ", "annotation id 6: ", "annotation id 8: "],
        [1, 1],
    ),
}


@pytest.mark.parametrize("layout", WRONG)
def test_all_wrong_labels_are_named_and_the_others_are_read(layout, tmp_path):
    files, wrong, faces = WRONG[layout]
    (tmp_path / "images").mkdir()
    for name in "abc":
        noise(tmp_path / "images" / f"{name}.jpg")
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with datasets.collected_faults() as faults:
        samples = datasets.read_labels(tmp_path, layout=layout)
    assert [len(sample) for sample in samples] == faces
    assert len(faults) == len(wrong)
    for fault, part in zip(faults, wrong, strict=True):
        assert part in str(fault)
    report = datasets.check(samples, files=False, faults=faults)
    assert report.counts["label"] == len(wrong)
    with pytest.raises(DataError) as first:
        datasets.read_labels(tmp_path, layout=layout)
    assert str(first.value) == str(faults[0])


def test_wrong_labels_of_databases_are_named_too(tmp_path):
    scipy_io = pytest.importorskip("scipy.io")
    entry = np.zeros((1, 2), [("imgname", "O"), ("objects", "O")])
    objects = [[[1, 2, np.nan, 4, 0, 0], [1, 2, 9, 9, 0, 0]], [[1, 2, 3]]]
    entry["imgname"][0], entry["objects"][0] = ["a.jpg", "b.jpg"], [np.array(o) for o in objects]
    scipy_io.savemat(tmp_path / "x_annotations.mat", {"Annotations": entry})
    with datasets.collected_faults() as faults:
        samples = datasets.read_labels(tmp_path, layout="face-eval")
    assert [len(sample) for sample in samples] == [1, 0]
    assert ["a.jpg, object 1" in str(faults[0]), "b.jpg, object 1" in str(faults[1])] == [True] * 2

    with sqlite3.connect(tmp_path / "aflw.sqlite") as base:
        base.executescript(
            "CREATE TABLE Faces(face_id, file_id); INSERT INTO Faces VALUES (1, 1), (2, 1), (3, 1);"
            "CREATE TABLE FaceImages(file_id, filepath, width, height);"
            "INSERT INTO FaceImages VALUES (1, 'a.jpg', 90, 80);"
            "CREATE TABLE FaceRect(face_id, x, y, w, h);"
            "INSERT INTO FaceRect VALUES (1, 1, 2, 'x', 9), (2, 1, 2, 9, 9), (3, 1, 2, NULL, 9);"
            "CREATE TABLE FeatureCoords(face_id, feature_id, x, y);"
            "INSERT INTO FeatureCoords VALUES (2, 77, 1, 1), (2, 8, 5, 5);"
            "CREATE TABLE FacePose(face_id, roll, pitch, yaw);"
            "INSERT INTO FacePose VALUES (2, 0, 0, 'x');"
        )
    base.close()
    with datasets.collected_faults() as faults:
        (sample,) = datasets.read_labels(tmp_path, layout="aflw")
    assert sample.landmarks[0, 0].tolist() == [5, 5]
    wanted = ("feature 77", "pose of face 2", "rectangle of face 1", "rectangle of face 3")
    assert len(faults) == 4
    for fault, part in zip(faults, wanted, strict=True):
        assert part in str(fault)
