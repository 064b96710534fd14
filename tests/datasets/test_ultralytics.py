"""Ultralytics' `data.yaml`: which pictures it means, and where their labels are."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facefind import datasets
from facefind.errors import DataError

BOX = "0 0.5 0.5 0.25 0.5"
POINTS = (0.4, 0.4, 0.6, 0.4, 0.5, 0.5, 0.45, 0.6, 0.55, 0.6)
POSE = BOX + "".join(f" {x} {y} 2" for x, y in zip(POINTS[::2], POINTS[1::2], strict=True))


def picture(path: Path, label: str | None = None, labels: Path | None = None) -> None:
    """A picture of 40 x 20 and, where given, its label file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 20)).save(path)
    if labels is not None:
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text(label or "")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """images/ and labels/ with a training folder of three pictures and one of validation."""
    root = tmp_path / "home"
    picture(root / "images/train/a.png", POSE + "\n" + BOX, root / "labels/train/a.txt")
    picture(root / "images/train/deep/empty.png", "", root / "labels/train/deep/empty.txt")
    picture(root / "images/train/none.png")
    picture(root / "images/val/b.png", BOX, root / "labels/val/b.txt")
    return root


def write(home: Path, text: str, name: str = "data.yaml") -> Path:
    (home / name).write_text(text)
    return home / name


def names(samples):
    return [sample.name for sample in samples]


SPLITS = "train: images/train\nval: images/val\n"


def test_labels_landmarks_and_pictures_without_faces(home):
    file = write(home, SPLITS + "kpt_shape: [5, 3]\nnames:\n  0: face\n")
    samples = datasets.read(file, split="train")
    assert names(samples) == ["train/a.png", "train/deep/empty.png", "train/none.png"]
    assert [len(sample) for sample in samples] == [2, 0, 0]
    first = samples[0]
    assert first.boxes[0].tolist() == [15, 5, 25, 15]
    np.testing.assert_allclose(first.landmarks[0].ravel(), np.array(POINTS) * ([40, 20] * 5))
    assert np.isnan(first.landmarks[1]).all()
    assert first.attributes["category"].tolist() == ["face", "face"]
    assert first.image_size == (20, 40)


def test_without_a_split_every_picture_counts_once(home):
    file = write(home, "train: [images/train, images/val]\nval: images/val\n")
    assert names(datasets.read(file)) == names(datasets.read(file, split="train"))
    assert names(datasets.read(file, split="val")) == ["val/b.png"]
    assert datasets.digest(datasets.read(home / "data.yaml")) == datasets.digest(
        datasets.read(f"{home},layout=ultralytics")
    )


@pytest.mark.parametrize("path", ["{home}", "../home", "home", "."])
def test_path_is_absolute_or_starts_from_the_file_s_or_the_working_folder(home, path, monkeypatch):
    monkeypatch.chdir(home.parent)
    text = f"path: {path.format(home=home)}\n{SPLITS}"
    assert names(datasets.read(write(home, text), split="val")) == ["val/b.png"]


def test_an_exported_set_whose_folders_are_beside_the_file(tmp_path):
    picture(tmp_path / "train/images/a.png", BOX, tmp_path / "train/labels/a.txt")
    picture(tmp_path / "valid/images/a.png", BOX, tmp_path / "valid/labels/a.txt")
    write(tmp_path, "train: ../train/images\nval: ../valid/images\nnames: [face]\n")
    assert datasets.detect_format(tmp_path) == "ultralytics"
    samples = datasets.read(tmp_path)
    assert names(samples) == ["train/a.png", "valid/a.png"]
    assert [len(sample) for sample in samples] == [1, 1]


def test_lists_of_pictures_and_labels_beside_them(home, tmp_path):
    apart = tmp_path / "apart"
    picture(apart / "c.png", BOX, apart / "c.txt")
    (home / "lists").mkdir()
    (home / "lists/train.txt").write_text(f"../images/train/a.png\nimages/val/b.png\n{apart}/c.png")
    samples = datasets.read(write(home, "train: lists/train.txt\n"))
    assert [len(sample) for sample in samples] == [2, 1, 1]
    assert names(samples)[:2] == ["train/a.png", "val/b.png"]
    (home / "lists/train.txt").write_text("\nimages/train/gone.png\n")
    with pytest.raises(DataError, match=r"train\.txt, line 2: expected the path of an image"):
        datasets.read(home / "data.yaml")


def test_a_training_learns_from_train_and_is_measured_on_val(home):
    file = write(home, SPLITS)
    training, held_out = datasets.read_sets([file], hold_out=0.9)
    assert names(training) == ["train/a.png", "train/deep/empty.png", "train/none.png"]
    assert names(held_out) == ["val/b.png"]
    other = datasets.read_sets([file], val=[f"{file},split=train"])[1]
    assert names(other) == names(training)
    training, held_out = datasets.read_sets([f"{file},split=train"])
    assert (len(training), held_out) == (3, [])
    assert datasets.read_sets([f"partial:{file}"])[1] == []
    assert names(datasets.read_sets([home / "images/.."], val=[file])[1]) == ["val/b.png"]


def test_learning_from_what_is_measured_is_said(home, caplog):
    file = write(home, "train: images/train\nval: images/train\n")
    with caplog.at_level(logging.WARNING):
        datasets.read_sets([file])
    assert "3 held-out images" in caplog.text


def test_a_folder_of_images_and_labels_is_yolo_s_with_a_yaml_too(home):
    write(home, SPLITS)
    assert datasets.detect_format(home) == "yolo"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [face]\n", "expected `train:` or `val:`"),
        ("a: [\n", "cannot be read as YAML"),
        ("- images\n", "expected `train:` or `val:`"),
        ("train: 3\n", "expected a path or a list of paths as `train:`, got 3"),
        ("train: images/gone\n", "`train: images/gone` is not there: looked for .*images/gone"),
        ("train: labels\n", "no pictures in"),
        ("train: images/train\nkpt_shape: [17, 3]\n", r"kpt_shape \[17, 3\]: expected \[5, 2\]"),
        ("train: images/train\nkpt_shape: [5, 2]\n", r"a\.txt, line 1: .*5 numbers.*15 numbers"),
        ("train: images/train\nnames: {1: dog}\n", r"a\.txt, line 1: expected a class of 1"),
        ("train: images/train\nnames: 3\n", "expected `names:` as a list or as `number: name`"),
    ],
)
def test_mistakes_are_named(home, text, message):
    with pytest.raises(DataError, match=message):
        datasets.read(write(home, text))


def test_a_split_that_is_not_there(home):
    file = write(home, "train: images/train\n")
    with pytest.raises(DataError, match=r"names no val images, but train.*data\.yaml,split=NAME"):
        datasets.read(f"{file},split=val")
    with pytest.raises(DataError, match="split=all: expected one of train, val, test"):
        datasets.read(f"{file},split=all")
    write(home, "", "other.yaml")
    file.rename(home / "third.yaml")
    with pytest.raises(DataError, match="expected one file"):
        datasets.read(home, layout="ultralytics")


def test_without_pyyaml_the_command_says_what_to_install(home, monkeypatch, capsys):
    from facefind.cli import main

    monkeypatch.setitem(sys.modules, "yaml", None)
    assert main(["data", "stats", str(write(home, SPLITS))]) == 2
    assert "needs yaml: pip install 'facefind[train]'" in capsys.readouterr().err
