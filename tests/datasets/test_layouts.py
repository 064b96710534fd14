from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from facefind import datasets
from facefind.datasets import Sample
from facefind.errors import DataError

LAYOUTS = ("wider", "coco", "retinaface", "scrfd", "yolo", "voc")
KEEPS_POINTS = {"wider", "coco", "retinaface", "scrfd", "yolo"}
KEEPS_IGNORED = {"wider", "coco", "scrfd", "voc"}


@st.composite
def sets(draw):
    """Pictures of 80 x 60 with whole-pixel boxes, so that every layout can hold them."""
    samples = []
    for number in range(draw(st.integers(1, 3))):
        count = draw(st.integers(0, 4))
        corner = draw(
            st.lists(
                st.tuples(st.integers(0, 60), st.integers(0, 40)), min_size=count, max_size=count
            )
        )
        side = draw(
            st.lists(
                st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=count, max_size=count
            )
        )
        boxes = [(x, y, x + w, y + h) for (x, y), (w, h) in zip(corner, side, strict=True)]
        pointed = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool)
        ignore = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool)
        rng = np.random.default_rng(number)
        points = rng.integers(0, 240, (count, 5, 2)) / 4
        points[~pointed | ignore] = np.nan
        samples.append(
            Sample(
                f"{draw(st.sampled_from(['party', 'office']))}/picture_{number}.jpg",
                Path("nowhere.jpg"),
                np.array(boxes, np.float32),
                points,
                ignore,
                image_size=(60, 80),
            )
        )
    return samples


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "plain.png"
    Image.new("RGB", (80, 60)).save(path)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(samples=sets())
def test_written_labels_read_the_same(layout, samples, picture, tmp_path_factory):
    root = tmp_path_factory.mktemp(layout)
    samples = [replace(sample, path=picture) for sample in samples]
    label = datasets.write(samples, root, layout, images="link")
    assert label.exists()
    again = {sample.name: sample for sample in datasets.read(root)}
    for sample in samples:
        expected = sample if layout in KEEPS_IGNORED else sample[~sample.ignore]
        name = sample.name if layout != "yolo" else sample.name.replace(".jpg", ".png")
        found = again.pop(name)
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-4)
        np.testing.assert_array_equal(found.ignore, expected.ignore)
        if layout in KEEPS_POINTS:
            np.testing.assert_allclose(found.landmarks, expected.landmarks, atol=1e-4)
        assert found.path.is_file()
        assert found.image_size in (None, (60, 80))
    assert not again


def test_attributes_survive_coco(picture, tmp_path):
    sample = Sample(
        "a.png",
        picture,
        np.array([[0, 0, 9, 9], [0, 0, 5, 5]], np.float32),
        image_size=(60, 80),
        attributes={"mask": np.array(["on", "off"]), "level": np.array([0.5, np.nan])},
    )
    datasets.write([sample], tmp_path, "coco", images="copy")
    (again,) = datasets.read(tmp_path)
    assert again.attributes["mask"].tolist() == ["on", "off"]
    np.testing.assert_array_equal(again.attributes["level"], [0.5, np.nan])


def write_wider(root, text, points=""):
    (root / "images/e").mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (80, 60)).save(root / f"images/e/{name}.png")
    (root / "some_bbx_gt.txt").write_text(text)
    if points:
        (root / "five_points.txt").write_text(points)


GOOD = "e/a.jpg\n3\n1 2 10 20 1 0 0 0 2 1 \n5 5 0 7 0 0 0 0 0 0\n9 9 5 5 0 0 0 1 0 0\n"
EMPTY = "e/b.jpg\n0\n0 0 0 0 0 0 0 0 0 0 \n"


def test_wider_flags_points_and_other_suffixes(tmp_path):
    points = (
        "# e/a.jpg\n1 2 10 20 1 2 3 4 5 6 7 8 9 10 1 0.5\n" + "9 9 5 5" + " -1" * 12 + "\n# e/b.jpg"
    )
    write_wider(tmp_path, GOOD + EMPTY, points)
    first, second = datasets.read(tmp_path)
    assert first.boxes.tolist() == [[1, 2, 11, 22], [9, 9, 14, 14]]
    assert first.ignore.tolist() == [False, True]
    assert first.landmarks[0].tolist() == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]
    assert np.isnan(first.landmarks[1]).all()
    assert first.attributes["blur"].tolist() == [1, 0]
    assert first.attributes["occlusion"].tolist() == [2, 0]
    assert first.attributes["pose"].tolist() == [1, 0]
    assert first.attributes["landmarks_visible"].tolist() == [1, -1]
    assert (first.group, first.path.name) == ("e", "a.png")
    assert len(second) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("e/a.jpg\nmany\n", "line 2: expected the number of faces, got 'many'"),
        ("e/a.jpg\n1\n1 2 3 4 5\n", "line 3.*10 whole numbers"),
        ("e/a.jpg\n1\n1 2 3 4.5 0 0 0 0 0 0\n", "line 3.*10 whole numbers"),
        ("e/a.jpg\n2\n1 2 3 4 0 0 0 0 0 0\n", "line 4: .*got ''"),
        ("e/a.jpg\n0\ne/a.jpg\n0\n", "line 3.*not come before"),
        ("1 2 3 4\n", "image name"),
    ],
)
def test_wrong_wider_lines_are_named(tmp_path, text, message):
    write_wider(tmp_path, text)
    with pytest.raises(DataError, match=message):
        datasets.read(tmp_path, layout="wider")


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ("1 2 10 20 1 2 3 4 5 6 7 8 9 10 1 0.5\n", "line 1.*'# event/name.jpg' first"),
        ("# e/a.jpg\n1 2 10 20 1 2\n", "line 2.*16 numbers"),
        ("# e/a.jpg\n1 2 10 21 1 2 3 4 5 6 7 8 9 10 1 0.5\n", "no such face"),
    ],
)
def test_wrong_five_points_are_named(tmp_path, points, message):
    write_wider(tmp_path, GOOD, points)
    with pytest.raises(DataError, match=message):
        datasets.read(tmp_path)
    assert np.isnan(datasets.read(tmp_path, landmarks=False)[0].landmarks).all()


def test_missing_images_stop_or_are_skipped(tmp_path, caplog):
    write_wider(tmp_path, GOOD + "e/gone.jpg\n0\n")
    with pytest.raises(DataError, match=r"1 of 2 labeled images.*e/gone\.jpg"):
        datasets.read(tmp_path)
    assert [s.name for s in datasets.read(tmp_path, missing="skip")] == ["e/a.jpg"]
    assert "1 labeled images are missing" in caplog.text
    assert len(datasets.read(tmp_path, missing="keep")) == 2


def coco(root, **changes):
    Image.new("RGB", (80, 60)).save(root / "a.png")
    content = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 80, "height": 60}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 10, 20], "mask": "on"},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [1, 2, 10, 20], "iscrowd": 1},
            {"id": 3, "image_id": 7, "category_id": 1, "bbox": [1, 2, 0, 20]},
        ],
        "categories": [{"id": 1, "name": "face"}],
    } | changes
    (root / "labels.json").write_text(json.dumps(content))


def test_coco_labels(tmp_path):
    coco(tmp_path)
    (one,) = datasets.read(tmp_path)
    assert one.boxes.tolist() == [[1, 2, 11, 22]] * 2
    assert one.ignore.tolist() == [False, True]
    assert one.attributes["mask"].tolist() == ["on", ""]
    assert one.image_size == (60, 80)


def test_coco_points_of_no_visibility_are_not_labeled(tmp_path):
    keypoints = [1, 2, 2, 3, 4, 1, 5, 6, 0, 7, 8, 2, 9, 10, 2]
    entry = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 9, 9], "keypoints": keypoints}
    coco(tmp_path, annotations=[entry])
    (one,) = datasets.read(tmp_path)
    assert np.isnan(one.landmarks[0, 2]).all()
    assert one.landmarks[0, 1].tolist() == [3, 4]


def test_partial_sets_by_prefix_argument_or_in_the_file(tmp_path):
    coco(tmp_path)
    (by_prefix,) = datasets.read(f"partial:{tmp_path}")
    (by_argument,) = datasets.coco.read(tmp_path, exhaustive=False)
    coco(tmp_path, info={"exhaustive": False})
    (by_file,) = datasets.read(tmp_path)
    for one in (by_prefix, by_argument, by_file):
        assert one.boxes[-1].tolist() == [0, 0, 80, 60]
        assert one.ignore[-1]
    assert len(datasets.coco.read(tmp_path, exhaustive=True)[0]) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": [{"id": 3, "image_id": 1, "bbox": [0, 0, 1, 1]}]}, "id 3: image_id 1"),
        ({"annotations": [{"id": 3, "image_id": 7, "bbox": [0, 0, 1]}]}, "four numbers"),
        (
            {"annotations": [{"id": 3, "image_id": 7, "bbox": [0, 0, 1, 1], "keypoints": [1]}]},
            "expected 15 keypoint numbers",
        ),
        ({"images": None}, "expected COCO JSON"),
    ],
)
def test_wrong_coco_is_named(tmp_path, changes, message):
    coco(tmp_path, **changes)
    with pytest.raises(DataError, match=message):
        datasets.read(tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("label.txt", "1 2 3 4\n", "line 1.*'# name' first"),
        ("label.txt", "# a.png\n1 2 3\n", "line 2.*20 numbers"),
        ("labelv2.txt", "# a.png 80 60\n1 2 3 x\n", "line 2.*19 numbers"),
        ("labelv2.txt", "# a.png 80 60\n# a.png 80 60\n", "line 2.*once"),
        ("labels/a.txt", "0 0.5 0.5 0.1\n", "line 1.*fractions"),
        ("labels/a.txt", "0 50 50 10 10\n", "line 1.*not pixels"),
        ("labels/z.txt", "", "no image"),
        ("a.xml", "<annotation><object><name>f</name></object></annotation>", "object 1.*bndbox"),
        ("a.xml", "<other/>", "expected <annotation>"),
        ("a.xml", "text", "no XML"),
        ("FDDB-fold-01-ellipseList.txt", "a\n1\n1 2 3\n", "line 3.*major_radius"),
        ("FDDB-fold-01-ellipseList.txt", "a\nx\n", "line 2.*number of faces"),
    ],
)
def test_wrong_lines_of_other_layouts_are_named(tmp_path, file, text, message):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (80, 60)).save(tmp_path / "images/a.png")
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    with pytest.raises(DataError, match=message):
        datasets.read(tmp_path)


def test_labelv2_bare_boxes_and_ignored_ones(tmp_path):
    Image.new("RGB", (80, 60)).save(tmp_path / "a.png")
    (tmp_path / "labelv2.txt").write_text("# a.png 80 60\n1 2 3 4\n1 2 3 5 1\n9 9 9 12\n")
    (one,) = datasets.read(tmp_path)
    assert one.boxes.tolist() == [[1, 2, 3, 4], [1, 2, 3, 5]]
    assert one.ignore.tolist() == [False, True]
    assert one.image_size == (60, 80)


def test_fddb_boxes_span_their_ellipses(tmp_path):
    Image.new("RGB", (80, 60)).save(tmp_path / "img_1.jpg")
    (tmp_path / "FDDB-fold-07-ellipseList.txt").write_text(
        "img_1\n2\n20 10 0 40 30 1\n20 10 1.5707963 40 30 1\n"
    )
    (one,) = datasets.read(tmp_path)
    np.testing.assert_allclose(one.boxes, [[20, 20, 60, 40], [30, 10, 50, 50]], atol=1e-4)
    assert one.group == "07"
    assert one.attributes["ellipse"].shape == (2, 5)


@given(st.floats(1, 50), st.floats(1, 50), st.floats(-4, 4), st.floats(-50, 50), st.floats(-50, 50))
def test_ellipse_boxes_touch_the_outline(major, minor, angle, x, y):
    turn = np.linspace(0, 2 * np.pi, 20001)
    along, across = major * np.cos(turn), minor * np.sin(turn)
    px = x + along * np.cos(angle) - across * np.sin(angle)
    py = y + along * np.sin(angle) + across * np.cos(angle)
    box = datasets.fddb.bounding_boxes(np.array([[major, minor, angle, x, y]]))[0]
    np.testing.assert_allclose(box, [px.min(), py.min(), px.max(), py.max()], atol=1e-4)


def test_unknown_layouts_are_refused(tmp_path):
    with pytest.raises(DataError, match="no label file of a known layout"):
        datasets.read(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        datasets.read(tmp_path / "gone")
    with pytest.raises(DataError, match=r"expected a layout of .*, got 'csv'"):
        datasets.read(tmp_path, layout="csv")
    with pytest.raises(DataError, match=r"expected a layout of .*, got 'csv'"):
        datasets.write([], tmp_path, "csv")  # type: ignore[arg-type]
    (tmp_path / "label.txt").touch()
    (tmp_path / "labels.json").touch()
    with pytest.raises(DataError, match="retinaface or coco"):
        datasets.read(tmp_path)


@pytest.mark.parametrize(
    ("folder", "images", "faces", "pointed"),
    [
        ("wider_train", 3260, 59209, 23517),
        ("masks_853", 853, 4072, 0),
        ("masks_web", 705, 3059, 0),
        ("lfw_points/train.json", 1000, 1000, 1000),
        ("fddb_fold_1", 266, None, 0),
    ],
)
def test_real_sets_have_their_counts(shared, folder, images, faces, pointed):
    samples = datasets.read(shared / "data" / folder, missing="skip")
    assert len(samples) == images
    if faces is not None:
        assert sum(map(len, samples)) == faces
    assert sum(int(np.isfinite(s.landmarks).all(axis=(1, 2)).sum()) for s in samples) == pointed


def test_labelv2_of_wider_val_equals_its_text_labels(shared):
    data = shared / "data/wider_reference"
    official = datasets.wider.read(data / "wider_face_val_bbx_gt.txt", missing="keep")
    second = datasets.read(data / "labelv2_val_boxes_only.txt", missing="keep")
    assert len(official) == len(second) == 3226
    by_name = {sample.name: sample for sample in second}
    same = sum(np.array_equal(s.boxes, by_name[s.name].boxes) for s in official)
    assert same > 3200


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("images", ["none", "copy", "link"])
def test_names_never_lead_out_of_the_folder(layout, images, tmp_path):
    """Absolute names and names that lead upwards, as label files of others have them."""
    for name in ("here/a.png", "there/b.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (80, 60)).save(tmp_path / name)
    samples = [
        Sample(name, tmp_path / path, np.array([[1, 2, 30, 40]], np.float32), image_size=(60, 80))
        for name, path in (
            (str(tmp_path / "here/a.png"), "here/a.png"),
            ("../there/b.png", "there/b.png"),
        )
    ]
    before = sorted(tmp_path.rglob("*"))
    datasets.write(samples, tmp_path / "new", layout, images=images)
    made = [path for path in tmp_path.rglob("*") if path not in before]
    assert all(path.is_relative_to(tmp_path / "new") for path in made)
    if images != "none":
        again = datasets.read(tmp_path / "new", layout=layout)
        assert sorted(sample.name for sample in again) == ["a.png", "b.png"]
        assert [len(sample) for sample in again] == [1, 1]


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        ("yolo", ("a.jpg", "a.png")),
        ("voc", ("e/a.jpg", "e/a.bmp")),
        ("coco", ("/x/a.jpg", "/y/a.jpg")),
    ],
)
def test_pictures_that_would_share_a_label_are_refused(layout, names, picture, tmp_path):
    samples = [Sample(name, picture, np.zeros((0, 4)), image_size=(60, 80)) for name in names]
    with pytest.raises(DataError, match=f"the labels of {names[0]} and {names[1]} would both be"):
        datasets.write(samples, tmp_path / "new", layout)
    assert not (tmp_path / "new").exists()


def test_no_picture_of_the_set_is_written_over(tmp_path):
    for number, name in enumerate("ab"):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("L", (80, 60), 50 * number).save(tmp_path / "images" / f"{name}.png")
    before = {path.name: path.read_bytes() for path in (tmp_path / "images").iterdir()}
    boxes = np.zeros((0, 4), np.float32)
    own, other = (
        [Sample(f"{name}.png", tmp_path / "images" / f"{path}.png", boxes, image_size=(60, 80))]
        for name, path in (("a", "a"), ("a", "b"))
    )
    datasets.write(own, tmp_path, "wider", images="copy")  # it is there already
    (tmp_path / "new" / "images").mkdir(parents=True)
    (tmp_path / "new" / "images" / "a.png").symlink_to(tmp_path / "images" / "a.png")
    datasets.write(other, tmp_path / "new", "wider", images="copy")  # the link goes, no more
    swapped = [replace(own[0], name="b.png"), replace(other[0], name="a.png")]
    with pytest.raises(DataError, match="is a picture of the set itself"):
        datasets.write(swapped, tmp_path, "coco", images="copy")
    assert {path.name: path.read_bytes() for path in (tmp_path / "images").iterdir()} == before
