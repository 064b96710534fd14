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


def test_linked_folders_are_followed_and_everything_is_found_once(folder, tmp_path):
    other = tmp_path / "other"
    (other / "more").mkdir(parents=True)
    for name in ("x.jpg", "more/y.jpg"):
        (other / name).write_bytes(b"x")
    os.symlink(folder, other / "back", target_is_directory=True)  # a loop through both
    for name in ("1-link", "sub/2-link"):
        os.symlink(other, folder / name, target_is_directory=True)
    os.symlink(folder / "sub", folder / "0-inside", target_is_directory=True)
    os.symlink(folder / ".cache", folder / "seen", target_is_directory=True)
    own = ["a.PNG", "b.jpg", "seen/e.jpg", "sub/c.webp", "sub/deep/d.tif"]
    assert names(folder) == ["1-link/more/y.jpg", "1-link/x.jpg", *own]
    linked = ["1-link/more/y.jpg", "1-link/x.jpg"]
    assert names(f"{folder}/**/*.jpg") == [*linked, "b.jpg", "seen/e.jpg"]
    assert names(f"{folder}/**/deep/*") == ["sub/deep/d.tif"]
    assert names(f"{folder}/**") == names(folder)
    assert names(f"{folder}/*/*.jpg") == ["1-link/x.jpg", "seen/e.jpg"]


def test_folders_to_skip_are_passed_over_by_any_way(folder):
    os.symlink(folder / "sub", folder / "way", target_is_directory=True)
    for source in (folder, f"{folder}/**/*"):
        found = list(images.find(source, skip=[folder / "sub" / "deep"]))
        assert [item.name for item in found] == ["a.PNG", "b.jpg", "sub/c.webp"]


def test_a_folder_that_cannot_be_listed_is_named_and_passed_over(folder, monkeypatch):
    scandir = os.scandir

    def refusing(path):
        if os.fspath(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    said = []
    found = list(images.find(folder, on_error=lambda *what: said.append(what)))
    assert [item.name for item in found] == ["a.PNG", "b.jpg", "sub/c.webp"]
    ((path, error),) = said
    assert path == folder / "sub" / "deep"
    assert "cannot be listed" in str(error)
    with pytest.raises(ImageError, match="deep' cannot be listed"):
        list(images.find(folder))


def test_missing_source_is_an_error_at_once(folder):
    with pytest.raises(ImageError, match=r"nowhere\.jpg' does not exist"):
        images.find([folder, folder / "nowhere.jpg"])


def test_nothing_found_is_an_error(tmp_path):
    for sources in (tmp_path, f"{tmp_path}/*.jpg", []):
        with pytest.raises(ImageError, match="no pictures in"):
            list(images.find(sources))
