"""Pictures in tar files and Parquet tables, from lists and stdin: each once, under its own name."""

from __future__ import annotations

import io
import sys
import tarfile
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facefind import images
from facefind.errors import DataError, ImageError
from facefind.images import Found
from facefind.pipeline import list_images, lists_quickly

pa = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402


def picture(value: int, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 6, 3), value, np.uint8)).save(file, form)
    return file.getvalue()


def tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def values(found: Any) -> dict[str, int]:
    """Names of pictures and the value of their pixels, in order."""
    return {one.name: int(images.read(one.picture)[0, 0, 0]) for one in found}


@pytest.mark.parametrize("end", [".tar", ".tar.gz"])
def test_a_tar_files_pictures_are_read_from_start_to_end(tmp_path: Path, end: str) -> None:
    files = {f"{n:04}{kind}": picture(n) for n in range(3) for kind in (".png", ".json")}
    files |= {"deep/x.PNG": picture(9), "._0001.png": b"", ".hidden/a.png": b""}
    path = tar(tmp_path / f"shard{end}", files, "w:gz" if end == ".tar.gz" else "w")
    names = [f"{path}/{name}" for name in ("0000.png", "0001.png", "0002.png", "deep/x.PNG")]
    assert values(list_images([path])) == dict(zip(names, (0, 1, 2, 9), strict=True))
    found = next(list_images([path]))
    assert found.load is not None
    with pytest.raises(ImageError, match=r"0000\.png.*no picture"):
        images.read(Found(found.path, found.name, lambda: b"no picture").picture)


def test_the_tar_files_of_a_pattern_are_called_by_their_path_below_it(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tar(tmp_path / f"{name}.tar", {"1.png": picture(1), "2.png": picture(2)})
    (tmp_path / "c.tar").write_bytes(b"no tar file" * 100)
    failed: dict[Path, ImageError] = {}
    found = list_images([tmp_path / "*.tar"], on_error=lambda *one: failed.update([one]))
    assert list(values(found)) == ["a.tar/1.png", "a.tar/2.png", "b.tar/1.png", "b.tar/2.png"]
    assert list(failed) == [Path("c.tar")]
    assert "no tar file" in str(failed[Path("c.tar")])
    with pytest.raises(ImageError, match="does not exist"):
        list_images([tmp_path / "none.tar"])
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[:1700])
    with pytest.raises(ImageError, match="damaged"):
        list(list_images([tmp_path / "a.tar"]))


def test_a_name_that_comes_twice_is_a_failure_and_no_picture(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for value in (1, 2):
            member = tarfile.TarInfo("x.png")
            member.size = len(picture(value))
            archive.addfile(member, io.BytesIO(picture(value)))
    first, second = list_images([tmp_path / "a.tar"])
    assert values([first]) == {f"{tmp_path}/a.tar/x.png": 1}
    assert second.name == f"{first.name} (2)"
    with pytest.raises(ImageError, match="comes 2 times"):
        second.open()


def test_only_what_waits_of_a_tar_file_is_in_memory(tmp_path: Path) -> None:
    content = picture(1) + bytes(1 << 16)
    path = tar(tmp_path / "a.tar", {f"{n}.png": content for n in range(400)})
    tracemalloc.start()
    assert sum(len(found.open().read()) for found in list_images([path])) == 400 * len(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 << 20


@pytest.mark.parametrize("form", ["plain", "struct", "numbered"])
def test_a_row_of_a_parquet_table_is_a_picture(tmp_path: Path, form: str) -> None:
    pictures = [picture(n) for n in range(70)]
    names = [f"{n}.png" for n in range(70)]
    columns: dict[str, Any] = {
        "plain": {"label": [1] * 70, "file_name": names, "photo": pictures},
        "struct": {
            "image": [{"bytes": b, "path": n} for b, n in zip(pictures, names, strict=True)]
        },
        "numbered": {"jpg": pictures, "thumb": pictures},
    }[form]
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=20)
    found = values(list_images([tmp_path / "a.parquet"]))
    assert list(found.values()) == list(range(70))
    names = [f"{n:06}" for n in range(70)] if form == "numbered" else names
    assert list(found) == [f"{tmp_path}/a.parquet/{name}" for name in names]


def test_what_a_table_does_not_hold_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"one": [b"1"], "two": [b"2"]}), path)
    with pytest.raises(DataError, match="2 columns of bytes among one, two"):
        list(list_images([path]))
    parquet.write_table(pa.table({"image": [picture(1), None], "name": ["a", "b"]}), path)
    good, missing = list_images([path])
    assert values([good]) == {f"{path}/a": 1}
    with pytest.raises(ImageError, match=r"row 1 of .* holds no bytes"):
        missing.open()
    path.write_bytes(b"PAR1")
    with pytest.raises(ImageError, match="no Parquet table"):
        list(list_images([path]))


def test_a_list_is_read_no_further_than_needed_and_may_name_what_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a b.png", "[1].png"):
        (tmp_path / name).write_bytes(picture(5))
    tar(tmp_path / "s.tar", {"x.png": picture(7)})
    (tmp_path / "list.txt").write_text("a b.png\n\n[1].png\r\nnone.png\ns.tar\n")
    found = list(list_images([], files_from="list.txt"))
    assert [one.name for one in found] == ["a b.png", "[1].png", "none.png", "s.tar/x.png"]
    assert values(found[:2] + found[3:]) == {"a b.png": 5, "[1].png": 5, "s.tar/x.png": 7}
    with pytest.raises(ImageError, match=r"'none\.png' does not exist"):
        images.read(found[2].picture)
    with pytest.raises(DataError, match="no file: expected a list"):
        list_images([], files_from="gone.txt")

    def endless() -> Any:
        number = 0
        while True:
            yield f"{number}.png\n".encode()
            number += 1

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=endless()))
    listed = list_images([], files_from="-")
    assert [next(listed).name for _ in range(3)] == ["0.png", "1.png", "2.png"]


def test_a_picture_comes_on_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(picture(3))))
    assert values(list_images(["-"])) == {"-": 3}
    with pytest.raises(ImageError, match="stdin has no bytes"):
        list(list_images(["-"]))


def test_what_costs_nothing_to_list_is_known() -> None:
    assert lists_quickly(["a", Path("b/*.jpg")])
    for source in ("-", "a.tar", "b/*.parquet", "s3://bucket/photos"):
        assert not lists_quickly(["a", source])
    assert not lists_quickly([], "list.txt")
