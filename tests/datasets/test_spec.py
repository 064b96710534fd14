"""How sets are named: a path, `partial:` before it, and options behind it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facefind import datasets
from facefind.datasets import Sample, SetSpec
from facefind.errors import DataError

WORDS = st.text("abcXYZ019 ._-/,:", min_size=1).filter(lambda text: not text.startswith("partial:"))


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """COCO labels of a face and a dog in one of two pictures, whose folder is another one."""
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (40, 30)).save(photos / "a.png")
    entries = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 20]},
        {"id": 2, "image_id": 1, "category_id": 2, "bbox": [20, 2, 10, 20]},
    ]
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 40, "height": 30},
            {"id": 2, "file_name": "gone.png", "width": 40, "height": 30},
        ],
        "annotations": entries,
        "categories": [{"id": 1, "name": "face"}, {"id": 2, "name": "dog"}],
    }
    file = tmp_path / "labels.json"
    file.write_text(json.dumps(content))
    return file


@given(WORDS, st.booleans(), st.dictionaries(st.sampled_from(["images", "split"]), WORDS))
def test_a_spec_is_read_back_from_its_text(path, partial, options):
    spec = SetSpec(Path(path), partial, options)
    assert SetSpec.parse(str(spec)) == spec


def test_a_path_that_is_there_is_no_option(tmp_path):
    folder = tmp_path / "faces,split=val"
    folder.mkdir()
    assert SetSpec.parse(folder) == SetSpec(folder)
    assert SetSpec.parse(f"partial:{folder}") == SetSpec(folder, partial=True)


def test_a_spec_for_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    spec = SetSpec.parse("partial:set,images=photos,missing=skip").absolute()
    assert str(spec) == f"partial:{tmp_path}/set,images={tmp_path}/photos,missing=skip"


def test_options_behind_the_path_are_those_of_read(labels, caplog):
    photos = labels.parent / "photos"
    by_text = datasets.read(f"{labels},images={photos},missing=skip,category=face")
    by_name = datasets.read(labels, images=photos, missing="skip", category="face")
    assert datasets.digest(by_text) == datasets.digest(by_name)
    assert [sample.name for sample in by_text] == ["a.png"]
    assert by_text[0].boxes.tolist() == [[1, 2, 11, 22]]
    assert "categories" not in caplog.text
    assert len(datasets.read(f"{labels},layout=coco,images={photos},missing=skip")[0]) == 2
    assert "objects of all categories (dog, face) are taken for faces" in caplog.text


def test_options_work_for_partial_sets_and_both_sides_of_a_training(labels):
    one = f"partial:{labels},images={labels.parent / 'photos'},missing=skip,category=dog"
    whole = one.removeprefix("partial:").replace("dog", "face")
    training, held_out = datasets.read_sets([one], val=[whole])
    assert training[0].boxes.tolist() == [[20, 2, 30, 22], [0, 0, 40, 30]]
    assert held_out[0].boxes.tolist() == [[1, 2, 11, 22]]


def test_a_set_that_says_it_is_partial_remains_so_in_one_category(labels):
    content = json.loads(labels.read_text()) | {"info": {"exhaustive": False}}
    labels.write_text(json.dumps(content))
    found = datasets.read(labels, images=labels.parent / "photos", missing="skip", category="dog")
    assert datasets.is_partial(found[0])
    assert found[0].boxes[0].tolist() == [20, 2, 30, 22]
    complete = datasets.read(f"{labels},images={labels.parent}/photos,missing=skip,exhaustive=true")
    assert not datasets.is_partial(complete[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ",image=x",
            "have no option 'image', but layout, category, sides, unreadable, images, exhaustive",
        ),
        (",missing=odd", "missing=odd: expected one of error, skip, keep"),
        (",sides=left", "sides=left: expected one of image, subject"),
        (",exhaustive=perhaps", "exhaustive=perhaps: expected true or false"),
        (",layout=voc2", "expected a layout of .*, got 'voc2'"),
        (",images=nowhere", "images=nowhere: no such folder"),
        (",images=photos", r"labels.json,images=DIR, .* labels.json,missing=skip"),
        (",images=photos,missing=skip,category=cat", "category 'cat'; there are dog, face"),
        ("x,images=photos", "no such file"),
        (",IMAGES=photos", "no such file or folder; options follow the path as in SET,images=DIR"),
    ],
)
def test_mistakes_in_a_name_say_what_is_possible(labels, options, message, monkeypatch):
    monkeypatch.chdir(labels.parent)
    with pytest.raises(DataError, match=message):
        datasets.read(f"labels.json{options}")


def test_a_set_of_one_category_has_none_to_choose(tmp_path):
    (tmp_path / "a_bbx_gt.txt").write_text("a.png\n1\n4 5 10 12 0 0 0 0 0 0\n")
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="a set of one category"):
        datasets.read(tmp_path, category="face")


def test_labels_from_the_person_s_point_of_view_are_turned_round(tmp_path):
    Image.new("RGB", (100, 100)).save(tmp_path / "a.png")
    right_first = np.array([[70, 40], [30, 40], [50, 60], [65, 80], [35, 80]], np.float32)
    box = np.array([[20, 20, 80, 95]], np.float32)
    sample = Sample("a.png", tmp_path / "a.png", box, right_first[None], image_size=(100, 100))
    datasets.write([sample], tmp_path, "scrfd")
    file = tmp_path / "labelv2.txt"
    assert datasets.check(datasets.read(file)).counts == {"order": 1}
    (turned,) = datasets.read(f"{file},sides=subject")
    assert turned.landmarks[0, :, 0].tolist() == [30, 70, 50, 35, 65]
    assert datasets.check([turned]).counts == {}
    (same,) = datasets.read(f"{file},sides=image", sides="subject")
    assert same.landmarks[0].tolist() == right_first.tolist()
