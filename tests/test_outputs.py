"""Outputs are never what is read, never inside of it unseen, and never two in one file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from facefind.errors import DataError
from facefind.outputs import (
    LABELS,
    below,
    check_distinct,
    check_outputs,
    folds_case,
    output_path,
)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.jpg", "deep/b.jpg"):
        (folder / name).write_bytes(b"picture")
    (tmp_path / "linked").symlink_to(folder)
    (tmp_path / "link.jpg").symlink_to(folder / "a.jpg")
    os.link(folder / "a.jpg", tmp_path / "hard.jpg")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize(
    ("read", "written"),
    [
        ("photos/a.jpg", "photos/a.jpg"),
        ("photos/a.jpg", "photos/deep/../a.jpg"),
        ("photos/a.jpg", "link.jpg"),
        ("photos/a.jpg", "hard.jpg"),
        ("photos", "photos/deep/new.JPG"),
        ("linked", "photos/new.png"),
        ("photos/*.jpg", "photos/new.png"),
        ("link.jpg", "photos/a.jpg"),
    ],
)
def test_a_file_that_is_read_or_would_be_is_never_written(
    photos: Path, read: str, written: str
) -> None:
    with pytest.raises(DataError, match=r"^--out .* (is read|lies in)"):
        check_outputs([read], files={"--out": written})


@pytest.mark.parametrize(
    ("read", "written"),
    [
        ("photos", "photos"),
        ("photos", "linked"),
        ("linked", "photos/deep/.."),
        ("photos", "."),
        ("photos/a.jpg", "photos"),
        ("link.jpg", "."),
        ("photos/**/*.jpg", "photos"),
    ],
)
def test_a_folder_is_never_what_is_read_nor_holds_it(photos: Path, read: str, written: str) -> None:
    with pytest.raises(DataError, match=r"^--draw .* is or holds .*, which is read"):
        check_outputs([read], folders={"--draw": written})


def test_a_folder_inside_is_handed_back_to_be_left_out(photos: Path) -> None:
    inside = check_outputs(
        ["photos", "linked"],
        files={"--out": "photos/faces.jsonl", "--failures": None},
        folders={"--draw": "photos/drawn", "--mesh-out": "meshes"},
    )
    assert inside == [Path("photos/drawn")]
    assert check_outputs(["nowhere", "photos/a.jpg"], folders={"--draw": "drawn"}) == []


def test_label_files_count_where_a_set_is_read(photos: Path) -> None:
    check_outputs([photos], files={"--out": photos / "report.json"})
    with pytest.raises(DataError, match="lies in"):
        check_outputs([photos], files={"--out": photos / "report.json"}, suffixes=LABELS)


def test_outputs_are_of_their_kind_and_apart(photos: Path) -> None:
    with pytest.raises(DataError, match="is a folder: expected the name of a file"):
        check_outputs([], files={"--out": photos})
    with pytest.raises(DataError, match="is a file: expected a folder"):
        check_outputs([], folders={"--draw": photos / "a.jpg"})
    with pytest.raises(DataError, match=r"--out hidden\.JPG is the name .* such as hidden$"):
        check_outputs([photos], folders={"--out": "hidden.JPG"})
    with pytest.raises(DataError, match="--draw and --mesh-out are both"):
        check_outputs([], folders={"--draw": "new", "--mesh-out": "photos/../new"})


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("a.jpg", "a.jpg"),
        ("deep/a.jpg", "deep/a.jpg"),
        ("/x/a.jpg", "a.jpg"),
        ("../a.jpg", "a.jpg"),
        ("x/../../a.jpg", "a.jpg"),
    ],
)
def test_what_is_made_of_an_image_stays_below_the_output_folder(name: str, place: str) -> None:
    assert output_path(name) == Path(place)


def test_names_from_outside_lead_nowhere_else(photos: Path, tmp_path: Path) -> None:
    assert below("out", "x/y.txt") == Path("out/x/y.txt")
    assert Path("out/x").is_dir()
    Path("out/away").symlink_to(photos)
    for name in ("/etc/y.txt", "../y.txt", "x/../../y.txt", "away/y.txt"):
        with pytest.raises(DataError, match="leads out of out"):
            below("out", name)
    assert sorted(path.name for path in photos.iterdir()) == ["a.jpg", "deep"]


def test_two_images_never_make_one_file() -> None:
    twins = [(Path("x/a.jpg"), "a"), (Path("x/a.png"), Path("a"))]
    with pytest.raises(DataError, match=r"crops of x/a\.jpg and x/a\.png would both be a: give"):
        check_distinct(twins, "out", "crops")
    check_distinct([*twins[:1], *twins[:1], (Path("x/b.jpg"), "b")], "out", "crops")


def test_names_that_differ_in_case_are_one_file_on_disks_that_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    twins = [(name, f"deep/{name}") for name in ("É.jpg", "e\u0301.JPG", "b.jpg")]
    check_distinct(twins, "out", "crops")
    monkeypatch.setattr("facefind.outputs.folds_case", lambda folder: folder == "out")
    check_distinct(twins, "elsewhere", "crops")
    with pytest.raises(DataError, match=r"crops of É\.jpg and .*JPG, as this disk takes upper for"):
        check_distinct(twins, "out", "crops")


def test_a_disk_that_folds_case_is_seen_by_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out" / "new"
    before = folds_case(folder)
    assert not folder.parent.exists()
    (tmp_path / "Photos").mkdir()
    assert folds_case(folder) == before
    if not before:
        (tmp_path / "pHOTOS").symlink_to("Photos")  # what such a disk shows
        assert folds_case(folder)
        (tmp_path / "pHOTOS").unlink()
        (tmp_path / "pHOTOS").mkdir()
        assert not folds_case(folder)
