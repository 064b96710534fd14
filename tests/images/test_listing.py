"""Finding pictures in folders and by patterns."""

from __future__ import annotations

import os

import pytest

from facefind import images
from facefind.errors import ImageError


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.PNG", "note.txt", ".hidden.jpg", "sub/c.webp", "sub/deep/d.tif"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "set" / ".cache").mkdir()
    (tmp_path / "set" / ".cache" / "e.jpg").write_bytes(b"x")
    (tmp_path / "set" / "folder.jpg").mkdir()
    return tmp_path / "set"


def names(sources):
    found = list(images.find(sources))
    assert all(item.path.is_file() for item in found)
    return [item.name for item in found]


def test_folder_is_searched_in_order_of_names(folder):
    assert names(folder) == ["a.PNG", "b.jpg", "sub/c.webp", "sub/deep/d.tif"]
    assert names(str(folder)) == names([folder])


def test_file_is_taken_whatever_its_suffix(folder):
    assert names([folder / "note.txt", folder / "b.jpg"]) == ["note.txt", "b.jpg"]


def test_patterns(folder):
    assert names(f"{folder}/*.jpg") == ["b.jpg"]
    assert names(f"{folder}/**/*") == ["a.PNG", "b.jpg", "sub/c.webp", "sub/deep/d.tif"]
    assert names(f"{folder}/s*/*.webp") == ["sub/c.webp"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path):
    path = tmp_path / "party[1].jpg"
    path.write_bytes(b"x")
    assert names(path) == ["party[1].jpg"]
    inside = tmp_path / "album [2020]"
    inside.mkdir()
    (inside / "x.jpg").write_bytes(b"x")
    assert names(inside) == ["x.jpg"]


def test_relative_sources_and_patterns(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert names("sub") == ["c.webp", "deep/d.tif"]
    assert names("*.jpg") == ["b.jpg"]
    assert names("sub/*/d.*") == ["deep/d.tif"]


def test_links_that_go_round_do_not_trap(folder):
    os.symlink(folder, folder / "sub" / "again", target_is_directory=True)
    assert len(names(folder)) == 4


def test_a_link_that_leads_nowhere_is_found_for_reading_to_tell(folder):
    for name, target in (("gone.jpg", "nowhere"), ("itself.jpg", "itself.jpg"), ("note", "no")):
        os.symlink(target, folder / name)
    for sources in (folder, f"{folder}/*.jpg"):
        lost = [item for item in images.find(sources) if not item.path.exists()]
        assert [item.name for item in lost] == ["gone.jpg", "itself.jpg"]
        for item in lost:
            with pytest.raises(ImageError, match=item.name):
                images.read(item.path)


def test_missing_source_is_an_error_at_once(folder):
    with pytest.raises(ImageError, match=r"nowhere\.jpg' does not exist"):
        images.find([folder, folder / "nowhere.jpg"])


def test_nothing_found_is_an_error(tmp_path):
    for sources in (tmp_path, f"{tmp_path}/*.jpg", []):
        with pytest.raises(ImageError, match="no pictures in"):
            list(images.find(sources))
