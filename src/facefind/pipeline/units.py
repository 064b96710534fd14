"""What sources lead to: pictures and containers of pictures, listed without opening any."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import IO, NamedTuple

from facefind import images
from facefind.errors import DataError, ImageError
from facefind.images import Found
from facefind.images.listing import CONTAINERS, SUFFIXES, OnError, is_container, is_remote
from facefind.pipeline import containers, remote

__all__ = ["Unit", "of_list", "of_source"]

STDIN = "-"


class Unit(NamedTuple):
    """A picture, or a container of pictures; plain values, which another process may open.

    Attributes:
        name: Of the picture in results, or the container's own, which theirs begin with.
        place: Its path or address; "-" is stdin.
    """

    name: str
    place: str

    @property
    def holds_many(self) -> bool:
        """Whether it is a container."""
        return is_container(self.place)

    def pictures(self, suffixes: Collection[str] = SUFFIXES) -> Iterator[Found]:
        """The picture, or those in the container whose names have one of `suffixes`.

        Raises:
            ImageError: the container cannot be opened, or is damaged.
            RuntimeUnavailableError: what reads the address is not installed.
        """
        if self.place == STDIN:
            content = sys.stdin.buffer.read()
            if not content:
                raise ImageError("stdin has no bytes: give those of a picture, as by < picture.jpg")
            yield Found(Path(self.name), self.name, lambda: content)
        elif self.holds_many:
            with self._open() as file:
                yield from containers.members(file, self.name, suffixes)
        elif is_remote(self.place):
            yield remote.picture(self.place, self.name)
        else:
            yield Found(Path(self.place), self.name)

    def _open(self) -> IO[bytes]:
        try:
            if is_remote(self.place):
                return remote.Place.of(self.place).open()
            return open(self.place, "rb")
        except Exception as error:  # each store has errors of its own
            raise ImageError(f"{self.name!r} cannot be opened: {error}") from error


def of_source(
    source: str,
    *,
    skip: Sequence[str | os.PathLike[str]] = (),
    on_error: OnError | None = None,
    suffixes: Collection[str] = SUFFIXES,
) -> Iterator[Unit]:
    """What a source leads to, one at a time, as `list_images` describes sources.

    Raises:
        ImageError: it does not exist; at the end, where it leads to nothing.
    """
    if source == STDIN:
        return iter([Unit(source, source)])
    many = is_container(source)
    if is_remote(source):
        remote.Place.of(source)  # raises where a package is missing
        if remote.is_file(source):
            return iter([Unit(remote.name_of(source), source)])
        ends = CONTAINERS if many else tuple(suffixes)
        found = remote.walk(source, lambda name: name.lower().endswith(ends))
        out = tuple(f"{remote.Place.of(str(one)).path}/" for one in skip if is_remote(one))
        return (Unit(name, place.url) for place, name in found if not place.path.startswith(out))
    pattern = glob.has_magic(source) and not os.path.exists(source)
    if many and not pattern and not os.path.isdir(source):
        if not os.path.exists(source):
            raise ImageError(f"{source!r} does not exist: give a picture, a folder or a pattern")
        return iter([Unit(source, source)])
    kinds = [os.path.splitext(source)[1].lower()] if many and pattern else suffixes
    files = images.find(source, skip=skip, on_error=on_error, suffixes=kinds)
    single = os.path.isfile(source)
    return (Unit(source if single else name, str(path)) for path, name, _ in files)


def of_list(
    files_from: str | os.PathLike[str],
    *,
    skip: Sequence[str | os.PathLike[str]] = (),
    on_error: OnError | None = None,
    suffixes: Collection[str] = SUFFIXES,
) -> Iterator[Unit]:
    """What the sources in a file, one a line, lead to; "-" is the list on stdin.

    A file that is named there need not be: it fails when it is read.

    Raises:
        DataError: there is no such list.
    """
    text = os.fspath(files_from)
    if text != STDIN and not os.path.isfile(text):
        raise DataError(f"{text} is no file: expected a list of pictures, one a line")
    return _of_lines(text, skip, on_error, suffixes)


def _of_lines(
    text: str,
    skip: Sequence[str | os.PathLike[str]],
    on_error: OnError | None,
    suffixes: Collection[str],
) -> Iterator[Unit]:
    with nullcontext(sys.stdin.buffer) if text == STDIN else open(text, "rb") as lines:
        for line in lines:
            source = os.fsdecode(line.rstrip(b"\r\n"))
            if is_remote(source) or os.path.isdir(source):
                yield from of_source(source, skip=skip, on_error=on_error, suffixes=suffixes)
            elif source:
                yield Unit(source, source)
