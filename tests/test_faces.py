"""Faces: checked on construction, sorted, read-only, and taken into every form and back."""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
import pickle
import sys
import types
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import facefind
from facefind.errors import ImageError
from facefind.faces import Face, Faces


@st.composite
def some_faces(draw):
    n = draw(st.integers(0, 7))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    corner = rng.uniform(-20, 400, (n, 2))
    return Faces(
        np.concatenate([corner, corner + rng.uniform(0, 99, (n, 2))], 1),
        rng.integers(0, 5, n) / 4,
        rng.uniform(0, 400, (n, 5, 2)) if draw(st.booleans()) else None,
        rng.normal(size=(n, 11, 3)) if n and draw(st.booleans()) else None,
        rng.integers(0, 99, n) if draw(st.booleans()) else None,
        image_size=(300, 400),
    )


def two(**more):
    return Faces([[1, 2, 3, 4], [5, 6, 9, 8.5]], [0.25, 0.75], image_size=(10, 20), **more)


def test_sorted_by_score_with_all_that_belongs_to_a_face():
    points = np.arange(20).reshape(2, 5, 2)
    faces = two(landmarks=points, mesh=np.arange(12).reshape(2, 2, 3), ids=[7, 8])
    assert faces.scores.tolist() == [0.75, 0.25]
    assert faces.boxes.tolist() == [[5, 6, 9, 8.5], [1, 2, 3, 4]]
    assert faces.ids.tolist() == [8, 7]
    np.testing.assert_array_equal(faces.landmarks, points[::-1])
    assert faces.mesh[0, 0, 0] == 6
    types_ = [faces.boxes.dtype, faces.scores.dtype, faces.landmarks.dtype, faces.mesh.dtype]
    assert types_ == [np.float32] * 4
    assert faces.ids.dtype == np.int64


def test_equal_scores_keep_their_order():
    boxes = [[i, 0, i + 1, 1] for i in range(40)]
    faces = Faces(boxes, [0.5] * 40, image_size=(9, 99))
    np.testing.assert_array_equal(faces.boxes, boxes)


def test_arrays_are_copies_that_cannot_be_written():
    boxes = np.array([[1, 2, 3, 4]], np.float32)
    faces = Faces(boxes, np.array([0.5], np.float32), image_size=(9, 9))
    boxes[:] = 0
    assert faces.boxes.tolist() == [[1, 2, 3, 4]]
    with pytest.raises(ValueError, match="read-only"):
        faces.boxes[0, 0] = 9
    with pytest.raises(ValueError, match="read-only"):
        faces[0].box[0] = 9
    with pytest.raises(dataclasses.FrozenInstanceError):
        faces.scores = boxes
    boxes[:] = 5  # what was given stays writable
    for again in (pickle.loads(pickle.dumps(faces)), copy.deepcopy(faces), copy.copy(faces)):
        assert again == faces
        with pytest.raises(ValueError, match="read-only"):
            again.boxes[0, 0] = 9


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"boxes": np.zeros((2, 5))}, r"boxes must have shape \(2, 4\), got \(2, 5\)"),
        ({"boxes": np.zeros((3, 4))}, r"boxes must have shape \(2, 4\), got \(3, 4\)"),
        ({"boxes": np.zeros(4)}, r"boxes must have shape \(2, 4\), got \(4,\)"),
        ({"boxes": []}, r"boxes must have shape \(2, 4\)"),
        ({"boxes": np.full((2, 4), np.nan)}, "boxes must be finite, got 8 NaN or inf"),
        ({"boxes": np.full((2, 4), 1e300)}, "boxes must be finite"),
        ({"scores": [0.5, 1.5]}, r"scores must lie in 0\.\.1, got 0\.5 to 1\.5"),
        ({"scores": [-0.1, 0.5]}, r"scores must lie in 0\.\.1"),
        ({"scores": [np.nan, 0.5]}, "scores must be finite, got 1"),
        ({"scores": [[0.5, 0.5]]}, r"scores must have shape \(N\), got \(1, 2\)"),
        ({"scores": 0.5}, "scores must have shape"),
        ({"landmarks": np.zeros((2, 10))}, r"landmarks must have shape \(2, 5, 2\)"),
        ({"landmarks": np.full((2, 5, 2), np.inf)}, "landmarks must be finite"),
        ({"mesh": np.zeros((2, 7, 2))}, r"mesh must have shape \(2, V, 3\), got \(2, 7, 2\)"),
        ({"ids": [1]}, "ids must be 2 whole numbers"),
        ({"ids": [1.5, 2.5]}, "ids must be 2 whole numbers, got float64"),
        ({"image_size": (-1, 5)}, r"image_size must be \(height, width\)"),
        ({"image_size": (9, 9, 3)}, r"image_size must be \(height, width\), got \(9, 9, 3\)"),
        ({"image_size": None}, r"image_size must be \(height, width\), got None"),
    ],
)
def test_what_does_not_fit_says_so(fields, message):
    good = {"boxes": np.zeros((2, 4)), "scores": [0.5, 0.5], "image_size": (9, 9)}
    Faces(**good)
    with pytest.raises(ValueError, match=message):
        Faces(**{**good, **fields})


def test_empty():
    faces = Faces.empty((30, 40))
    assert len(faces) == 0
    assert list(faces) == []
    assert faces.boxes.shape == (0, 4)
    assert faces.landmarks is None
    assert Faces.empty((30, 40), landmarks=True).landmarks.shape == (0, 5, 2)
    assert Faces([], [], image_size=(30, 40)) == faces
    assert faces[faces.scores > 0.5] == faces
    assert faces.to_coco(1) == []
    assert faces.crop(np.zeros((30, 40, 3), np.uint8)) == []
    assert Faces.empty((3, 4), True).align(np.zeros((3, 4, 3), np.uint8)).shape == (0, 112, 112, 3)


def test_selecting():
    faces = Faces(np.zeros((4, 4)), [0.1, 0.4, 0.3, 0.2], ids=[1, 4, 3, 2], image_size=(9, 9))
    assert isinstance(faces[0], Face)
    assert (faces[0].id, faces[-1].id, faces[np.int64(1)].id) == (4, 1, 3)
    assert faces[faces.scores > 0.15].ids.tolist() == [4, 3, 2]
    assert faces[1:3].ids.tolist() == [3, 2]
    assert faces[[3, 0]].ids.tolist() == [4, 1]  # sorted again
    assert faces[[True, False, False, True]].ids.tolist() == [4, 1]
    assert len(faces[[]]) == 0
    assert [face.id for face in faces] == [4, 3, 2, 1]
    for bad in (faces.boxes, [0.5], "ab", True):
        with pytest.raises(IndexError):
            faces[bad]
    for bad in (4, [9], [True]):
        with pytest.raises(IndexError):
            faces[bad]


def test_one_face():
    face = two(landmarks=np.ones((2, 5, 2)))[0]
    assert (face.width, face.height, face.score) == (4, 2.5, 0.75)
    assert face.landmarks.shape == (5, 2)
    assert face.mesh is None
    assert face.id is None
    assert face.image_size == (10, 20)
    again, other = two(landmarks=np.ones((2, 5, 2)))
    assert face == again  # though indexing makes a new one each time
    assert hash(face) == hash(again)
    assert face != other
    assert face != two()[0]
    assert face != two(landmarks=np.ones((2, 5, 2)), ids=[1, 2])[0]


def test_equality_and_repr():
    assert two() == two()
    assert two() != two(ids=[1, 2])
    assert two() != Faces(two().boxes, two().scores, image_size=(10, 21))
    assert two() != "faces"
    with pytest.raises(TypeError):
        hash(two())
    assert repr(two(ids=[1, 2])) == "Faces(2, best 0.750, with ids, image 20x10)"
    assert repr(Faces.empty((3, 4))) == "Faces(0, image 4x3)"


@given(faces=some_faces())
def test_dict_and_json_go_there_and_back(faces):
    assert Faces.from_dict(faces.to_dict()) == faces
    assert Faces.from_dict(json.loads(faces.to_json())) == faces
    rounded = Faces.from_dict(json.loads(faces.to_json(digits=3)))
    np.testing.assert_allclose(rounded.boxes, faces.boxes, atol=6e-4)


def test_dict_layout_and_rounding():
    faces = Faces([[1.23456, 2, 3, 4]], [0.1234567], np.full((1, 5, 2), 0.98765), image_size=(5, 6))
    data = faces.to_dict(digits=3)
    assert list(data) == ["width", "height", "boxes", "scores", "landmarks", "mesh", "ids"]
    assert (data["width"], data["height"]) == (6, 5)
    assert data["boxes"] == [[1.235, 2, 3, 4]]
    assert data["scores"] == [0.12346]
    assert data["landmarks"] == [[[0.988, 0.988]] * 5]
    assert data["mesh"] is None
    assert data["ids"] is None
    assert "\n" not in faces.to_json()
    with pytest.raises(ValueError, match=r"\['height', 'boxes'\]"):
        Faces.from_dict({"width": 5, "scores": []})


def test_coco():
    plain = two().to_coco("a.jpg", category_id=3)
    assert plain[0] == {
        "image_id": "a.jpg",
        "category_id": 3,
        "bbox": [5, 6, 4, 2.5],
        "score": 0.75,
    }
    points = two(landmarks=np.arange(20).reshape(2, 5, 2)).to_coco(5)[1]
    assert points["keypoints"][:6] == [0, 1, 2, 2, 3, 2]
    assert points["num_keypoints"] == 5
    json.dumps(plain)


def test_supervision(monkeypatch):
    class Detections:
        def __init__(self, **fields):
            self.__dict__.update(fields)

    stand_in = types.ModuleType("supervision")
    stand_in.Detections = Detections
    monkeypatch.setitem(sys.modules, "supervision", stand_in)
    faces = two(landmarks=np.ones((2, 5, 2)), ids=[4, 5])
    got = faces.to_supervision()
    np.testing.assert_array_equal(got.xyxy, faces.boxes)
    np.testing.assert_array_equal(got.confidence, faces.scores)
    assert got.class_id.tolist() == [0, 0]
    assert got.tracker_id.tolist() == [5, 4]
    assert got.data["landmarks"].shape == (2, 5, 2)
    assert two().to_supervision().tracker_id is None
    got.xyxy[:] = 0  # a copy of its own


def test_supervision_itself_takes_them():
    pytest.importorskip("supervision")
    assert len(two(ids=[1, 2]).to_supervision()) == 2
    assert len(Faces.empty((5, 5), landmarks=True).to_supervision()) == 0


def test_supervision_that_is_missing_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match="pip install supervision"):
        two().to_supervision()


def test_largest_and_top():
    boxes = [[0, 0, 5, 5], [0, 0, 9, 9], [0, 0, 7, 7], [0, 0, 9, 9]]
    faces = Faces(boxes, [0.9, 0.3, 0.5, 0.2], ids=[1, 2, 3, 4], image_size=(20, 20))
    assert faces.largest.id == 2  # of equal ones the one of higher score
    assert faces.top(2).ids.tolist() == [1, 3]
    assert faces.top(2, by="size").ids.tolist() == [2, 4]
    assert faces.top(9) == faces.top(9, by="size") == faces
    assert len(faces.top(0)) == 0
    none = Faces.empty((20, 20))
    assert none.largest is None
    assert none.top(3, by="size") == none
    with pytest.raises(ValueError, match="n must be at least 0, got -1"):
        faces.top(-1)
    with pytest.raises(TypeError, match=r"n must be a whole number, got 2\.0"):
        faces.top(2.0)
    with pytest.raises(ValueError, match="'score' or 'size', got 'area'"):
        faces.top(1, by="area")


def test_one_face_as_a_dict():
    face = Faces(
        [[1.23456, 2, 3, 4]], [0.1234567], np.full((1, 5, 2), 0.98765), ids=[4], image_size=(5, 6)
    )[0]
    assert face.to_dict(digits=3) == {
        "box": [1.235, 2, 3, 4],
        "score": 0.12346,
        "landmarks": [[0.988, 0.988]] * 5,
        "mesh": None,
        "id": 4,
    }
    assert json.loads(json.dumps(face.to_dict()))["box"] == face.box.tolist()


def test_notebooks_show_an_outline_to_scale_and_a_table():
    points = np.array([[[30, 40], [60, 40], [45, 60], [33, 80], [57, 80]]])
    faces = Faces([[20, 30, 70, 90]], [0.875], points, image_size=(100, 400))
    page = ElementTree.fromstring(faces._repr_html_())
    (svg,) = page.iter("svg")
    assert svg.attrib["viewBox"] == "0 0 400 100"
    assert (svg.attrib["width"], svg.attrib["height"]) == ("240", "60")
    (box,) = svg.iter("rect")
    assert [box.attrib[k] for k in ("x", "y", "width", "height")] == [
        "20.0",
        "30.0",
        "50.0",
        "60.0",
    ]
    dots = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in svg.iter("circle")]
    assert dots == [tuple(map(float, point)) for point in points[0]]
    cells = [cell.text for cell in page.iter("td")]
    assert cells == ["0", "0.875", "20.0", "30.0", "70.0", "90.0"]
    assert page.find("p").text == repr(faces)


@given(faces=some_faces())
def test_any_faces_can_be_shown(faces):
    page = ElementTree.fromstring(faces._repr_html_())
    assert len(list(page.iter("rect"))) == len(faces)
    many = Faces(np.zeros((25, 4)), np.linspace(0, 1, 25), image_size=(0, 0))
    page = ElementTree.fromstring(many._repr_html_())
    assert len(list(page.iter("tr"))) == 11
    assert page.findall("p")[-1].text == "and 15 more"


@given(faces=some_faces())
def test_saved_as_json_and_csv(faces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    faces.save(folder / "new" / "faces.JSON")
    assert Faces.from_dict(json.loads((folder / "new" / "faces.JSON").read_text())) == faces
    faces.save(folder / "faces.csv")
    with (folder / "faces.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    boxes = np.array([[row[k] for k in ("x1", "y1", "x2", "y2")] for row in rows], np.float32)
    np.testing.assert_array_equal(boxes.reshape(-1, 4), faces.boxes)
    assert [np.float32(row["score"]) for row in rows] == faces.scores.tolist()
    if faces.landmarks is not None:
        noses = np.array([(row["nose_x"], row["nose_y"]) for row in rows], np.float32)
        np.testing.assert_array_equal(noses.reshape(-1, 2), faces.landmarks[:, 2])
    if faces.ids is not None:
        assert [int(row["id"]) for row in rows] == faces.ids.tolist()
    assert sorted(path.name for path in folder.iterdir()) == ["faces.csv", "new"]  # no draft


def test_saving_rounds_and_knows_two_suffixes(tmp_path):
    faces = Faces([[1.23456, 2, 3, 4]], [0.1234567], image_size=(5, 6))
    faces.save(tmp_path / "faces.csv", digits=2)
    assert (tmp_path / "faces.csv").read_text() == "x1,y1,x2,y2,score\n1.23,2.0,3.0,4.0,0.1235\n"
    Faces.empty((5, 6)).save(tmp_path / "none.csv")
    assert (tmp_path / "none.csv").read_text() == "x1,y1,x2,y2,score\n"
    for name in ("faces.txt", "faces"):
        with pytest.raises(ValueError, match=rf"\.json or \.csv, got '.*{name}'"):
            faces.save(tmp_path / name)
        assert not (tmp_path / name).exists()


def test_pandas(monkeypatch):
    stand_in = types.ModuleType("pandas")
    stand_in.DataFrame = dict
    monkeypatch.setitem(sys.modules, "pandas", stand_in)
    table = two(landmarks=np.arange(20).reshape(2, 5, 2), ids=[4, 5]).to_pandas()
    assert table["x1"] == [5, 1]
    assert table["score"] == [0.75, 0.25]
    assert (table["left_eye_x"], table["mouth_right_y"]) == ([10, 0], [19, 9])
    assert table["id"] == [5, 4]
    assert list(two().to_pandas()) == ["x1", "y1", "x2", "y2", "score"]


def test_pandas_itself_takes_them():
    pytest.importorskip("pandas")
    assert two(ids=[1, 2]).to_pandas().shape == (2, 6)
    assert Faces.empty((5, 5), landmarks=True).to_pandas().shape == (0, 15)


def test_pandas_that_is_missing_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        two().to_pandas()


def test_the_image_must_be_the_one_of_the_faces(tmp_path):
    faces = Faces([[1, 2, 3, 4]], [0.5], image_size=(10, 20))
    image = np.zeros((10, 20, 3), np.uint8)
    assert faces.read_image(image) is image
    with pytest.raises(ImageError, match=r"of 20x10 pixels, got one of 10x20; .* upright image"):
        faces.read_image(image.transpose(1, 0, 2))
    with pytest.raises(ImageError, match="does not exist"):
        faces.read_image(tmp_path / "none.png")
    for use in (faces.draw, faces.crop, faces[0].crop, faces[0].align):
        with pytest.raises(ImageError, match="these faces belong to an image of 20x10"):
            use(image[:5])


@pytest.mark.parametrize("use", [facefind.draw, facefind.crop, facefind.align, facefind.redact])
def test_what_is_no_faces_is_named(use):
    image = np.zeros((10, 20, 3), np.uint8)
    for wrong in (two()[0], [two()[0]], two().boxes):
        with pytest.raises(TypeError, match=rf"expected Faces, got {type(wrong).__name__}: sel"):
            use(image, wrong)


def test_draw_is_that_of_the_package():
    image = np.full((90, 120, 3), 60, np.uint8)
    faces = Faces([[20, 20, 70, 80]], [0.5], image_size=(90, 120))
    np.testing.assert_array_equal(
        faces.draw(image, box_color=(255, 0, 0)), facefind.draw(image, faces, box_color=(255, 0, 0))
    )
