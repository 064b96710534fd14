"""Images by name: listed lazily, each under a name of its own, shared out the same everywhere."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facefind import images
from facefind.detector import FaceDetector
from facefind.errors import DataError, ImageError
from facefind.images import Found
from facefind.pipeline import Shard, detect_files, list_images, reason
from facefind.runtimes import Candidates, Card


@pytest.fixture
def album(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.png", "deep/a.png", "deep/z.gif"):
        path = tmp_path / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "album" / "notes.txt").touch()
    return tmp_path / "album"


def names(*sources: Any, shard: Shard | None = None) -> list[str]:
    return [file.name for file in list_images(sources, shard)]


def test_a_file_is_called_as_it_was_given_and_one_of_a_folder_by_its_path_below(
    album: Path,
) -> None:
    single = str(album / "b.jpg")
    assert names(album) == ["a.png", "b.jpg", "deep/a.png", "deep/z.gif"]
    assert names(single) == [single]
    assert names(single, album / "deep") == [single, "a.png", "z.gif"]
    assert names(str(album / "*.png"), single) == ["a.png", single]
    assert [file.path for file in list_images([album / "deep"])] == [
        album / "deep" / "a.png",
        album / "deep" / "z.gif",
    ]


def test_the_same_file_comes_once_and_two_files_never_share_a_name(album: Path) -> None:
    single = str(album / "b.jpg")
    assert names(single, single) == [single]
    assert names(album, album) == names(album)
    with pytest.raises(DataError, match=r"would both be called a\.png"):
        list_images([album, album / "deep"])  # before the first file comes


def test_a_folder_is_listed_no_further_than_needed(
    album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def find(source: Any, **_: Any) -> Any:
        for number in range(10**9):
            seen.append(number)
            yield Found(Path(f"{number}.jpg"), f"{number}.jpg")

    monkeypatch.setattr(images, "find", find)
    files = list_images([album])
    assert [next(files).name for _ in range(3)] == ["0.jpg", "1.jpg", "2.jpg"]
    assert len(seen) == 3


def test_what_cannot_be_listed_is_named(album: Path) -> None:
    with pytest.raises(DataError, match="no images given"):
        list_images([])
    with pytest.raises(ImageError, match=r"nowhere\.jpg"):
        list_images([album, "nowhere.jpg"])
    (album / "deep" / "a.png").unlink()
    (album / "deep" / "z.gif").unlink()
    with pytest.raises(ImageError, match="no pictures"):
        names(album / "deep")


@given(st.sets(st.text(min_size=1), max_size=30), st.integers(1, 5))
def test_shards_part_all_images_by_name_alone(found: set[str], count: int) -> None:
    parts = [{name for name in found if Shard(i, count).holds(name)} for i in range(count)]
    assert set().union(*parts) == found
    assert sum(map(len, parts)) == len(found)


def test_shards_stay_as_they_are_from_run_to_run(album: Path) -> None:
    """CRC-32 of the names, by hand: unlike Python's own hash, it is the same in every process."""
    assert [Shard(i, 2).holds("a.png") for i in range(2)] == [False, True]
    every = names(album)
    parts = [names(album, shard=Shard(i, 3)) for i in range(3)]
    assert sorted(name for part in parts for name in part) == sorted(every)
    (album / "0.png").touch()
    again = [names(album, shard=Shard(i, 3)) for i in range(3)]
    assert [[n for n in part if n != "0.png"] for part in again] == parts
    assert sum("0.png" in part for part in again) == 1


@pytest.mark.parametrize("text", ["4/4", "1", "a/b", "-1/3", "0/0", "1/2/3", ""])
def test_a_shard_that_cannot_be_is_refused(text: str) -> None:
    assert Shard.from_text("3/4") == Shard(3, 4)
    with pytest.raises(DataError, match="shard"):
        Shard.from_text(text)


def test_a_source_that_cannot_be_listed_stops_no_other(album: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    said: dict[Path, str] = {}

    def note(folder: Path, error: ImageError) -> None:
        said[folder] = str(error)

    files = list(list_images([empty, album], on_error=note))
    assert [file.name for file in files] == names(album)
    assert "no pictures" in said[empty]
    with pytest.raises(ImageError, match="no pictures"):
        list(list_images([empty, empty], on_error=note))
    assert [f.name for f in list_images([album], skip=[album / "deep"])] == [
        name for name in names(album) if "/" not in name
    ]


def test_files_are_read_ahead_and_those_that_fail_keep_their_place(tmp_path: Path) -> None:
    class Nothing:
        name, precision, threads, provider = "nothing", "fp32", 1, "cpu"
        card = Card(name="nothing", system="test", protocol="full")

        def __call__(self, batch: np.ndarray) -> Candidates:
            seen.append(threading.current_thread().name)
            return Candidates(np.zeros((len(batch), 1, 4), np.float32), np.zeros((len(batch), 1)))

    seen: list[str] = []
    for number in range(6):
        Image.fromarray(np.full((32, 32, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"no picture")
    results = list(detect_files(FaceDetector(Nothing()), list_images([tmp_path]), images=True))
    assert [result.source.name for result in results] == [f"{n}.png" for n in range(6)]
    assert [result.error is None for result in results] == [True] * 3 + [False] + [True] * 2
    assert [int(r.image[0, 0, 0]) for r in results if r.image is not None] == [0, 1, 2, 4, 5]
    assert "no picture" in reason(results[3].error or Exception())
    assert set(seen) == {threading.current_thread().name}


def test_a_reason_is_one_line() -> None:
    assert reason(RuntimeError("out of\n  memory")) == "out of memory"
    assert reason(MemoryError()) == "MemoryError"
