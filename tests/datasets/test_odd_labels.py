"""Labels that are wrong are named with file and line; those that are merely odd are read right."""

from __future__ import annotations

import codecs
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facefind import datasets
from facefind.datasets.files import numbers, read_text
from facefind.errors import DataError

FACE = "10 10 30 30 0 0 0 0 0 0"


def picture(path, size=(96, 80), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(zlib.crc32(path.name.encode())).integers(
        0, 256, (9, 11, 3), dtype=np.uint8
    )
    Image.fromarray(noise).resize(size).save(path, **options)
    return path


def wider(root, text, encoding="utf-8"):
    picture(root / "images" / "a.jpg")
    (root / "x_bbx_gt.txt").write_bytes(text.encode(encoding))
    return root


def coco(root, image=None, **annotation):
    picture(root / "a.jpg")
    given = {"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "iscrowd": 0}
    pictures = [{"id": 1, "file_name": "a.jpg", "width": 96, "height": 80} | (image or {})]
    content = {"images": pictures, "annotations": [given | annotation]}
    file = root / "labels.json"
    file.write_text(json.dumps(content | {"categories": [{"id": 1, "name": "face"}]}))
    return file


def yolo(root, text="0 .5 .5 .2 .2\n"):
    picture(root / "images" / "a.jpg")
    (root / "labels").mkdir(exist_ok=True)
    (root / "labels" / "a.txt").write_text(text)
    return root


BOX = "<bndbox><xmin>{}</xmin><ymin>5</ymin><xmax>{}</xmax><ymax>40</ymax></bndbox>"


def voc(root, *boxes, more="", head="", encoding="utf-8", each=""):
    picture(root / "JPEGImages" / "a.jpg")
    (root / "Annotations").mkdir(exist_ok=True)
    faces = "".join(f"<object><name>脸</name>{each}{BOX.format(*box)}</object>" for box in boxes)
    text = f"{head}<annotation><filename>a.jpg</filename>{more}{faces}</annotation>"
    (root / "Annotations" / "a.xml").write_bytes(text.encode(encoding))
    return root


def test_numbers_are_plain_finite_and_such_as_pixels_are():
    assert numbers(" 1  -2.5\t3e2 ") == [1.0, -2.5, 300.0]
    assert numbers("1 -2", whole=True) == [1, -2]
    wrong = ("1 x", "1 nan", "1 inf", "1 1e8", "1 9" + "9" * 5000, "1_0", "１", "1 -20000000")
    assert [numbers(text) for text in wrong] == [[]] * len(wrong)
    assert numbers("1.5", whole=True) == numbers("3.0", whole=True) == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_label_texts_may_begin_with_a_byte_order_mark(tmp_path, encoding):
    root = wider(tmp_path, f"a.jpg\n1\n{FACE}\n", encoding)
    assert datasets.read(root)[0].boxes.tolist() == [[10, 10, 40, 40]]


def test_text_in_another_encoding_is_named_with_its_line(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes(b"a.jpg\n" + "脸.jpg".encode("gbk"))
    with pytest.raises(DataError, match=r"a\.txt, line 2: expected UTF-8 text, got the byte 0xc1"):
        read_text(file)
    file.write_bytes(codecs.BOM_UTF16_LE + b"\x00")
    with pytest.raises(DataError, match="line 1"):
        read_text(file)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("1\n30", 3),
        ("1\n1 2 3 4 5 6 7 8 9", 3),
        ("1\n1 2 3 4 5 6 7 8 9 0 1", 3),
        ("1\n99999999999999999999 1 2 2 0 0 0 0 0 0", 3),
        ("1\n1 2 nan 4 0 0 0 0 0 0", 3),
        ("2\n" + FACE, 4),
        ("4000000\n" + FACE, 4),
        ("40000000000\n" + FACE, 2),
        ("9" * 5000, 2),
        ("-1", 2),
    ],
)
def test_wrong_wider_rows_and_counts_are_named(tmp_path, text, line):
    with pytest.raises(DataError, match=rf"x_bbx_gt\.txt, line {line}: expected"):
        datasets.read(wider(tmp_path, f"a.jpg\n{text}\n"))


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("label.txt", "# a.jpg\n1 2 nan 4\n", 2),
        ("label.txt", "# a.jpg\n5\n", 2),
        ("labelv2.txt", "# a.jpg 96 80\n1 2 3 1e30\n", 2),
        ("labelv2.txt", "# a.jpg 0 80\n1 2 3 4\n", 1),
        ("labelv2.txt", "# a.jpg 96 " + "9" * 5000 + "\n", 1),
        ("ellipseList.txt", "a\n1\n5\n", 3),
        ("ellipseList.txt", "a\n1\n9 8 nan 5 5 1\n", 3),
        ("ellipseList.txt", "a\n99999999999999999999\n9 8 1 5 5 1\n", 2),
    ],
)
def test_wrong_rows_of_other_texts_are_named(tmp_path, name, text, line):
    picture(tmp_path / "a.jpg")
    (tmp_path / name).write_text(text)
    layout = {"label.txt": "retinaface", "labelv2.txt": "scrfd"}.get(name, "fddb")
    with pytest.raises(DataError, match=rf"{name}, line {line}: expected"):
        datasets.read(tmp_path / name, layout=layout)


@pytest.mark.parametrize(
    "row", ["0 nan .5 .2 .2", "1e30 .5 .5 .2 .2", "-1 .5 .5 .2 .2", "0.5", "a b c d e"]
)
def test_wrong_yolo_rows_are_named(tmp_path, row):
    with pytest.raises(DataError, match=r"a\.txt, line 2: expected class"):
        datasets.read(yolo(tmp_path, f"0 .5 .5 .2 .2\n{row}\n"))


def test_what_tools_leave_beside_yolo_labels_is_passed_over(tmp_path):
    root = yolo(tmp_path)
    (root / "labels" / "classes.txt").write_text("face\n")
    (root / "labels" / "names.txt").write_bytes("脸\n".encode("gbk"))
    (root / "labels" / "._a.txt").write_bytes(b"\0\5\26\7")
    (root / "images" / "._a.jpg").write_bytes(b"\0\5\26\7")
    (root / "images" / ".cache").mkdir()
    (root / "images" / ".cache" / "b.jpg").write_bytes(b"")
    samples = datasets.read(root)
    assert [sample.name for sample in samples] == ["a.jpg"]
    assert len(samples[0]) == 1
    (root / "labels" / "b.txt").write_text("0 .5 .5 .2 .2\n")
    with pytest.raises(DataError, match=r"no image.*b\.txt"):
        datasets.read(root)


def test_a_split_of_yolo_pictures_has_the_labels_of_its_own_folder(tmp_path):
    for split in ("train", "val"):
        picture(tmp_path / "images" / split / f"{split}.jpg")
        (tmp_path / "labels" / split).mkdir(parents=True)
        (tmp_path / "labels" / split / f"{split}.txt").write_text("0 .5 .5 .2 .2\n")
    (only,) = datasets.read(f"{tmp_path},images={tmp_path / 'images' / 'train'}")
    assert (only.name, len(only)) == ("train.jpg", 1)
    assert [len(sample) for sample in datasets.read(tmp_path)] == [1, 1]


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff"], ids=["empty", "damaged"])
def test_a_yolo_picture_that_cannot_be_opened(tmp_path, caplog, content):
    root = yolo(tmp_path)
    (root / "images" / "b.jpg").write_bytes(content)
    (root / "labels" / "b.txt").write_text("0 .5 .5 .2 .2\n")
    with pytest.raises(DataError, match=r"b\.jpg"):
        datasets.read(root)
    kept = datasets.read(root, unreadable="keep")
    assert datasets.check(kept).counts == {"file": 1}
    training, _ = datasets.read_sets([root])
    assert [sample.name for sample in training] == ["a.jpg"]
    assert "b.jpg" in caplog.text


@pytest.mark.parametrize("layout", ["wider", "coco"])
def test_a_partial_set_with_a_picture_that_cannot_be_opened(tmp_path, caplog, layout):
    if layout == "wider":
        root = wider(tmp_path, f"a.jpg\n1\n{FACE}\nb.jpg\n1\n{FACE}\n")
        (root / "images" / "b.jpg").write_bytes(b"")
    else:
        root = coco(tmp_path, image={"width": None})
        (tmp_path / "a.jpg").rename(tmp_path / "b.jpg")
        (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"[ab]\.jpg"):
        datasets.read(f"partial:{root}")
    training, _ = datasets.read_sets([f"partial:{root}"])
    assert [sample.name for sample in training] == ["a.jpg"] * (layout == "wider")
    assert "skipped an image" in caplog.text
    kept = datasets.read(f"partial:{root},unreadable=keep")
    assert datasets.check(kept).counts["file"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": ["1", "2", "30", "40"]}, "annotation id 5: expected a bbox of four numbers"),
        ({"bbox": [1, 2, float("nan"), 4]}, "annotation id 5: expected a bbox"),
        ({"bbox": [1, 2, 1e300, 4]}, "annotation id 5: expected a bbox"),
        ({"bbox": [1, 2, True, 4]}, "annotation id 5: expected a bbox"),
        ({"bbox": None}, "annotation id 5: expected a bbox"),
        ({"image_id": [1]}, "annotation id 5: image_id"),
        ({"keypoints": ["1"] * 15}, "annotation id 5: expected 15 keypoint"),
        ({"iscrowd": "maybe"}, "annotation id 5: expected iscrowd 0 or 1"),
        ({"category_id": {}}, "annotation id 5: category_id"),
        ({"image": {"file_name": None}}, "image id 1: expected a file_name"),
        ({"image": {"width": "96"}}, "image id 1: expected width and height"),
        ({"image": {"height": -5}}, "image id 1: expected width and height"),
        ({"image": {"id": None}}, "image id None: expected a number"),
    ],
)
def test_wrong_coco_entries_are_named(tmp_path, change, message):
    with pytest.raises(DataError, match=rf"labels\.json, {message}"):
        datasets.read(coco(tmp_path, **change))


@pytest.mark.parametrize("text", ["[1, 2]", '{"images": [1], "annotations": []}', "[" * 100_000])
def test_json_that_is_no_coco_says_so(tmp_path, text):
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(DataError, match="expected COCO JSON"):
        datasets.read(tmp_path)


def test_odd_coco_is_read_right(tmp_path):
    file = coco(tmp_path, iscrowd="0", keypoints=[], track=7, huge=10**30)
    content = json.loads(file.read_text())
    content["annotations"].append(content["annotations"][0] | {"track": None, "iscrowd": "1"})
    content["images"][0] |= {"width": None, "height": 0}
    file.write_text(json.dumps(content | {"info": []}), encoding="utf-8-sig")
    (sample,) = datasets.read(file)
    assert sample.ignore.tolist() == [False, True]
    assert sample.attributes["track"].tolist() == [7, -1]
    assert sample.attributes["huge"].tolist() == [str(10**30)] * 2
    assert sample.image_size is None
    assert np.isnan(sample.landmarks).all()


def test_absolute_names_are_found(tmp_path):
    place = picture(tmp_path / "elsewhere" / "a.jpg")
    (sample,) = datasets.read(coco(tmp_path, image={"file_name": str(place)}))
    assert sample.path == place
    with pytest.raises(DataError, match=r"1 of 1 labeled images are not in"):
        datasets.read(coco(tmp_path, image={"file_name": "/no/such/a.jpg"}))


def test_voc_boxes_without_area_are_kept_to_be_found(tmp_path):
    root = voc(tmp_path, (5, 40), (20, 20), (40, 5))
    assert len(datasets.read(root)[0]) == 1
    assert datasets.check(datasets.read_labels(root, flat="keep")).counts == {"area": 2}


@pytest.mark.parametrize("side", ["?", "", "0", "-3", "nan", "inf", "9" * 400])
def test_a_voc_size_that_is_none_is_unknown(tmp_path, side):
    more = f"<size><width>{side}</width><height>{side}</height></size>"
    assert datasets.read(voc(tmp_path, (5, 40), more=more))[0].image_size is None


def test_voc_in_encodings_that_the_parser_lacks(tmp_path):
    head = '<?xml version="1.0" encoding="{}"?>\n'
    sample = datasets.read(voc(tmp_path, (5, 40), head=head.format("gbk"), encoding="gbk"))[0]
    assert sample.attributes["category"].tolist() == ["脸"]
    with pytest.raises(DataError, match=r"a\.xml: no XML"):
        datasets.read(voc(tmp_path, (5, 40), head=head.format("klingon")))
    with pytest.raises(DataError, match=r"a\.xml: no XML"):
        datasets.read(voc(tmp_path, (5, 40), head=head.format("gbk"), encoding="utf-16"))


@pytest.mark.parametrize(
    ("boxes", "each", "message"),
    [
        ([(5, 40), ("nan", 40)], "", "object 2: expected bndbox"),
        ([("", 40)], "", "object 1: expected bndbox"),
        ([("5 6", "")], "", "object 1: expected bndbox"),
        ([(5, "1e9")], "", "object 1: expected bndbox"),
        ([(5, 40)], "<difficult>very</difficult>", "object 1: expected difficult"),
    ],
)
def test_wrong_voc_objects_are_named(tmp_path, boxes, each, message):
    with pytest.raises(DataError, match=message):
        datasets.read(voc(tmp_path, *boxes, each=each))


def test_an_orientation_that_is_none_turns_neither_picture_nor_labels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 9
    root = yolo(tmp_path)
    picture(root / "images" / "a.jpg", (200, 100), exif=exif)
    (sample,) = datasets.read(root)
    assert sample.image_size == (100, 200)
    assert datasets.check([sample]).counts == {}


def test_the_size_before_exif_turns_a_picture_is_found(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = coco(tmp_path)
    picture(tmp_path / "a.jpg", exif=exif)
    report = datasets.check(datasets.read(file))
    assert report.counts == {"size": 1}
    assert "labels say (80, 96)" in report.findings[0].detail


def test_pictures_that_cannot_be_decoded_to_their_end_are_found(tmp_path):
    root = wider(tmp_path, "".join(f"{name}.jpg\n0\n" for name in "abcde"))
    data = (root / "images" / "a.jpg").read_bytes()
    (root / "images" / "b.jpg").write_bytes(data[:-40])
    (root / "images" / "c.jpg").write_bytes(b"")
    (root / "images" / "d.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    picture(root / "images" / "e.jpg", (200, 100))
    report = datasets.check(datasets.read(root))
    assert [(one.kind, one.image) for one in report.findings] == [
        ("file", f"{name}.jpg") for name in "bcd"
    ]
    small = datasets.check(datasets.read(root), max_pixels=19_999)
    assert ("file", "e.jpg") in [(one.kind, one.image) for one in small.findings]


def test_detections_of_a_wrong_count_of_numbers_are_named(tmp_path):
    from facefind.evaluation import detections

    file: Path = tmp_path / "d" / "a.txt"
    file.parent.mkdir()
    for row in ("30", "1 2 3 4", "1 2 3 4 nan"):
        file.write_text(f"a\n1\n{row}\n")
        with pytest.raises(DataError, match=r"a\.txt, line 3: expected 5 numbers"):
            detections.read(file.parent)
    lines = tmp_path / "d.jsonl"
    lines.write_text('{"image": "a", "boxes": [[1, 2], [3, 4]], "scores": [0.5]}\n')
    with pytest.raises(DataError, match="line 1"):
        detections.read(lines)
