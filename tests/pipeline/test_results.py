"""Results in the formats of others: read back by those who will, whole or not there."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facefind import datasets
from facefind.conversion import FormatName
from facefind.errors import DataError
from facefind.faces import Faces
from facefind.pipeline import FORMATS, format_of, open_results, to_record
from facefind.pipeline.tables import read_parquet, settings_of, write_parquet

POINTS = np.array([[[30, 30], [50, 30], [40, 42], [32, 52], [48, 52]]], np.float32)
ONE = Faces([[20, 15, 60, 65]], [0.75], POINTS, image_size=(80, 100))
TWO = Faces([[20, 15, 60, 65], [1.25, 2, 30, 40]], [0.75, 0.5], image_size=(80, 100))
NONE = Faces.empty((80, 100), landmarks=True)
FACES = {"a.jpg": ONE, "deep/b.png": TWO, 'odd, "name".gif': NONE}
SETTINGS = {"model": "m", "weights_sha256": "12"}


def write(out: Any, format: FormatName | None = None, **options: Any) -> None:
    with open_results(out, format, settings=SETTINGS, **options) as file:
        for name, faces in FACES.items():
            if name not in file.names:
                file.write(to_record(name, faces))


def stop(out: Any, format: FormatName | None = None) -> None:
    with open_results(out, format, settings=SETTINGS) as file:
        file.write(to_record("a.jpg", ONE))
        raise KeyboardInterrupt


def made(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_parquet_is_read_by_pandas_polars_and_duckdb(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    duckdb = pytest.importorskip("duckdb")
    pytest.importorskip("pyarrow")
    path = tmp_path / "faces.parquet"
    write(path)
    boxes = [faces.boxes.tolist() for faces in FACES.values()]
    frame = pandas.read_parquet(path)
    assert frame["image"].tolist() == list(FACES)
    assert [[list(box) for box in row] for row in frame["boxes"]] == boxes
    table = polars.read_parquet(path)
    assert table["boxes"].to_list() == boxes
    assert table["landmarks"].to_list() == [POINTS.tolist(), None, []]
    faces = f"select image, unnest(scores) as score from '{path}'"
    rows = duckdb.sql(
        f"select image, count(*), max(score) from ({faces}) group by image"
    ).fetchall()
    assert sorted(rows) == [("a.jpg", 1, 0.75), ("deep/b.png", 2, 0.75)]
    assert [Faces.from_dict(one) for one in read_parquet(path)] == list(FACES.values())
    assert settings_of(path) == SETTINGS
    assert made(tmp_path) == ["faces.parquet", "faces.parquet.source.json"]


def test_a_table_is_written_in_groups_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("facefind.pipeline.tables._GROUP", 2)
    records = [to_record(f"{n}", ONE) for n in range(5)] + [{"image": "bad", "error": "empty"}]
    write_parquet(records, tmp_path / "a.parquet", SETTINGS)
    file = parquet.ParquetFile(tmp_path / "a.parquet")
    assert [file.metadata.row_group(n).num_rows for n in range(3)] == [2, 2, 2]
    assert list(read_parquet(tmp_path / "a.parquet"))[-1] == {"image": "bad", "error": "empty"}
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="no Parquet table of facefind"):
        list(read_parquet(tmp_path / "b.parquet"))


def test_csv_has_a_row_a_face_and_one_for_an_image_without(tmp_path: Path) -> None:
    write(tmp_path / "faces.csv")
    rows = list(csv.DictReader((tmp_path / "faces.csv").read_text().splitlines()))
    assert [(row["image"], row["face"]) for row in rows] == [
        ("a.jpg", "0"),
        ("deep/b.png", "0"),
        ("deep/b.png", "1"),
        ('odd, "name".gif', ""),
    ]
    assert [float(rows[2][name]) for name in ("x1", "y1", "x2", "y2", "score")] == [
        *TWO.boxes[1].tolist(),
        0.5,
    ]
    assert (rows[0]["nose_x"], rows[1]["nose_x"]) == ("40.0", "")


def pictures(folder: Path) -> None:
    for name in FACES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 80)).save(folder / name)


def test_coco_is_a_data_set_with_scores(tmp_path: Path) -> None:
    pictures(tmp_path)
    write(tmp_path / "faces.json", "coco")
    samples = {one.name: one for one in datasets.coco.read(tmp_path / "faces.json")}
    assert list(samples) == list(FACES)
    for name, faces in FACES.items():
        np.testing.assert_allclose(samples[name].boxes, faces.boxes, atol=1e-3)
        assert samples[name].image_size == (80, 100)
    np.testing.assert_allclose(samples["a.jpg"].landmarks, POINTS, atol=1e-3)
    found = json.loads((tmp_path / "faces.json").read_text())
    assert [one["score"] for one in found["annotations"]] == [0.75, 0.75, 0.5]
    assert found["info"]["settings"] == SETTINGS


def test_yolo_is_a_folder_of_labels(tmp_path: Path) -> None:
    write(tmp_path / "set", "yolo")
    pictures(tmp_path / "set" / "images")
    samples = {one.name: one for one in datasets.yolo.read(tmp_path / "set")}
    for name, faces in FACES.items():
        np.testing.assert_allclose(samples[name].boxes, faces.boxes, atol=1e-3)
    np.testing.assert_allclose(samples["a.jpg"].landmarks, POINTS, atol=1e-3)
    assert "kpt_shape: [5, 3]" in (tmp_path / "set" / "data.yaml").read_text()
    with pytest.raises(DataError, match="is there already"):
        write(tmp_path / "set", "yolo")
    (tmp_path / "set" / "labels" / "gone.txt").touch()
    write(tmp_path / "set", "yolo", overwrite=True)
    assert made(tmp_path / "set") == ["data.yaml", "images", "labels"]  # images are not ours
    assert made(tmp_path / "set" / "labels") == ["a.txt", "deep", 'odd, "name".txt']


def test_fiftyone_and_label_studio_have_boxes_in_parts_of_the_image(tmp_path: Path) -> None:
    write(tmp_path / "labels.json", "fiftyone")
    found = json.loads((tmp_path / "labels.json").read_text())
    assert found["classes"] == ["face"]
    assert list(found["labels"]) == ["a", "deep/b", 'odd, "name"']
    assert found["labels"]["a"] == [
        {"label": "face", "bounding_box": [0.2, 0.1875, 0.4, 0.625], "confidence": 0.75}
    ]
    write(tmp_path / "tasks.json", "labelstudio")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert [task["data"]["image"].partition("?d=")[2] for task in tasks] == [
        *("a.jpg", "deep/b.png", "odd%2C%20%22name%22.gif")
    ]
    (face,) = tasks[0]["predictions"][0]["result"]
    assert face["value"] == {
        **{"x": 20.0, "y": 18.75, "width": 40.0, "height": 62.5},
        **{"rotation": 0, "rectanglelabels": ["face"]},
    }
    assert tasks[2]["predictions"][0]["result"] == []


@pytest.mark.parametrize("format", ["yolo", "fiftyone"])
def test_two_images_of_one_stem_are_not_made_into_one(tmp_path: Path, format: FormatName) -> None:
    with open_results(tmp_path / "x", format) as file:
        file.write(to_record("a.jpg", ONE))
        with pytest.raises(DataError, match=r"labels of a\.jpg and a\.png would both be a"):
            file.write(to_record("a.png", ONE))


@pytest.mark.parametrize("format", FORMATS)
def test_what_was_stopped_is_resumed_to_the_same_file(tmp_path: Path, format: FormatName) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    write(whole, format)
    with pytest.raises(KeyboardInterrupt):
        stop(out, format)
    assert format == "jsonl" or not out.exists()
    with pytest.raises(DataError, match="there already"):
        write(out, format)
    with pytest.raises(DataError, match="was made with weights_sha256"):
        open_results(out, format, settings={"weights_sha256": "13"}, resume=True)
    write(out, format, resume=True)
    files = [path.relative_to(whole) for path in whole.rglob("*.*")] if whole.is_dir() else [""]
    for file in files:
        assert (out / file).read_bytes() == (whole / file).read_bytes()
    assert made(tmp_path) == ["out", "out.source.json", "whole", "whole.source.json"]


def test_what_is_whole_is_added_to_where_it_can_be_read_back(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    write(tmp_path / "f.parquet")
    with pytest.raises(DataError, match="was made with min_score"):
        open_results(tmp_path / "f.parquet", settings={"model": "m", "min_score": 1}, resume=True)
    assert made(tmp_path) == ["f.parquet", "f.parquet.source.json"]
    with open_results(tmp_path / "f.parquet", settings=SETTINGS, resume=True) as file:
        assert file.names == set(FACES)
        file.write(to_record("new.jpg", ONE))
    assert [one["image"] for one in read_parquet(tmp_path / "f.parquet")] == [*FACES, "new.jpg"]
    write(tmp_path / "f.csv")
    with pytest.raises(DataError, match="nothing can be added"):
        open_results(tmp_path / "f.csv", settings=SETTINGS, resume=True)


def test_what_is_no_result_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("a,b\n")
    with pytest.raises(DataError, match="holds no results of facefind"):
        open_results(tmp_path / "mine.csv", overwrite=True)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").touch()
    with pytest.raises(DataError, match="holds no results of facefind"):
        open_results(tmp_path / "folder", "yolo", overwrite=True)
    assert made(tmp_path) == ["folder", "mine.csv"]


def test_a_file_goes_to_a_bucket_once_it_is_whole(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas = pytest.importorskip("pandas")
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.chdir(tmp_path)
    for format in ("parquet", "jsonl"):
        url = f"{bucket}/deep/faces.{format}"
        with pytest.raises(KeyboardInterrupt):
            stop(url)
        assert not fsspec.core.url_to_fs(bucket)[0].exists(url)
        write(url, resume=True)
        with pytest.raises(DataError, match="is there already"):
            write(url)
    assert pandas.read_parquet(f"{bucket}/deep/faces.parquet")["image"].tolist() == list(FACES)
    write(f"{bucket}/set", "yolo")
    assert fsspec.core.url_to_fs(bucket)[0].exists(f"{bucket}/set/labels/deep/b.txt")


def test_a_package_that_is_missing_is_missed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError) as missing:
        open_results(tmp_path / "a.parquet")
    assert missing.value.name == "pyarrow"
    assert made(tmp_path) == []


def test_a_suffix_that_says_no_format_is_an_error() -> None:
    assert format_of("a.PQ") == "parquet"
    assert format_of("s3://b/a.csv") == "csv"
    assert format_of("/dev/stdout") == "jsonl"
    assert format_of("a.parquet", "jsonl") == "jsonl"
    for name, said in (("a.xlsx", "suffix .xlsx says no format"), ("a.json", "--format coco")):
        with pytest.raises(DataError, match=said):
            format_of(name)
    with pytest.raises(DataError, match="no format 'xml'"):
        format_of("a", "xml")  # type: ignore[arg-type]
