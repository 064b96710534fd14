"""Pictures that a command works through: read ahead by a bounded number, and told in order."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facefind import images
from facefind.cli import pictures
from facefind.errors import DataError, ImageError


class Shelf:
    """Stands for the disk and the detector, and notes how far reading is ahead of searching."""

    def __init__(self, broken: set[str] = frozenset()) -> None:
        self.lock = threading.Lock()
        self.broken = broken
        self.read = self.done = self.furthest = 0
        self.names: list[int] = []

    def open(self, path: Path) -> np.ndarray:
        with self.lock:
            self.read += 1
            self.furthest = max(self.furthest, self.read - self.done)
        if path.name in self.broken:
            raise ImageError(f"{path} is damaged")
        return np.full((2, 2, 3), int(path.stem), np.uint8)

    def detect(self, group: list[np.ndarray]) -> list[str]:
        self.done += len(group)
        return [f"faces of {picture[0, 0, 0]}" for picture in group]


def searched(shelf: Any, count: int, batch: int, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setattr(images, "read", shelf.open)
    todo = {f"{number}.png": Path(f"{number}.png") for number in range(count)}
    return list(pictures.searched(todo, shelf, batch))


@pytest.mark.parametrize(("count", "batch"), [(0, 3), (1, 3), (3, 3), (7, 3), (9, 3), (5, 1)])
def test_all_are_told_in_order_with_their_own_faces(
    count: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = searched(Shelf(), count, batch, monkeypatch)
    assert [name for name, _ in told] == [f"{number}.png" for number in range(count)]
    for number, (_, (picture, faces)) in enumerate(told):
        assert picture[0, 0, 0] == number
        assert faces == f"faces of {number}"


def test_no_more_than_two_groups_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf()
    searched(shelf, 40, 4, monkeypatch)
    assert shelf.read == shelf.done == 40
    assert shelf.furthest <= 8


def test_a_picture_that_fails_is_told_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    told = searched(Shelf({"1.png", "4.png"}), 6, 2, monkeypatch)
    assert sorted(name for name, _ in told) == [f"{number}.png" for number in range(6)]
    failed = [name for name, result in told if isinstance(result, ImageError)]
    assert failed == ["1.png", "4.png"]


def test_where_a_group_fails_each_picture_is_tried_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Weak(Shelf):
        def detect(self, group: list[np.ndarray]) -> list[str]:
            if any(picture[0, 0, 0] == 2 for picture in group):
                raise RuntimeError("out of memory")
            return super().detect(group)

    told = dict(searched(Weak(), 4, 4, monkeypatch))
    assert isinstance(told["2.png"], RuntimeError)
    assert told["3.png"][1] == "faces of 3"


def test_a_fault_of_ours_is_not_taken_for_one_of_the_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Wrong(Shelf):
        def detect(self, group: list[np.ndarray]) -> list[str]:
            raise KeyError("boxes")

    with pytest.raises(KeyError):
        searched(Wrong(), 4, 2, monkeypatch)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("a.jpg", "a.jpg"),
        ("deep/a.jpg", "deep/a.jpg"),
        ("/x/a.jpg", "a.jpg"),
        ("../a.jpg", "a.jpg"),
    ],
)
def test_what_is_made_of_a_picture_stays_below_the_output_folder(name: str, place: str) -> None:
    assert pictures.below(name) == Path(place)


def test_two_pictures_never_make_one_file() -> None:
    todo = {"a.jpg": Path("x/a.jpg"), "a.png": Path("x/a.png")}
    made = {name: Path("a") for name in todo}
    with pytest.raises(DataError, match=r"crops of x/a\.jpg and x/a\.png would both be a"):
        pictures.distinct(made, todo, "crops")
    pictures.distinct({name: Path(name) for name in todo}, todo, "crops")
