"""`find`: the picture files that paths, folders and patterns mean."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from facefind.errors import ImageError

__all__ = ["SUFFIXES", "Found", "find"]

SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "webp", "gif", "bmp", "dib"),
        *("tif", "tiff", "avif", "jp2", "j2k", "ppm", "pgm", "pbm", "pnm", "qoi", "heic", "heif"),
    )
)
"""Suffixes, in lower case, of the files in a folder that are taken for pictures."""


class Found(NamedTuple):
    """A picture file and its name below the folder or pattern that it was found by."""

    path: Path
    name: str


def find(sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Iterator[Found]:
    """The picture files of one or more sources, one at a time: large folders are not listed ahead.

    A file is itself, whatever its suffix. A folder means all files below it with one of
    `SUFFIXES`, in order of their names, hidden ones left out. What is neither, but has `*`, `?` or
    `[`, is a pattern (`**` for any depth) and means such files among its matches.

    Raises:
        ImageError: At once if a source does not exist; at the end if no picture was found.
    """
    if isinstance(sources, (str, os.PathLike)):
        sources = [sources]
    named = [os.fspath(source) for source in sources]
    for source in named:
        if not os.path.exists(source) and not glob.has_magic(source):
            raise ImageError(f"{source!r} does not exist: give a picture, a folder or a pattern")
    return _walk(named)


def _walk(sources: list[str]) -> Iterator[Found]:
    none = True
    for source in sources:
        if os.path.isdir(source):
            found = _in_folder(Path(source), "")
        elif os.path.exists(source):
            found = iter([Found(Path(source), os.path.basename(source))])
        else:
            found = _by_pattern(source)
        for item in found:
            none = False
            yield item
    if none:
        raise ImageError(
            f"no pictures in {', '.join(map(repr, sources)) or 'an empty list of sources'}: "
            f"files with the suffixes {' '.join(sorted(SUFFIXES))} are looked for"
        )


def _in_folder(folder: Path, prefix: str) -> Iterator[Found]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise ImageError(f"the folder {str(folder)!r} cannot be listed: {error}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _in_folder(Path(entry.path), f"{prefix}{entry.name}/")
        elif _is_picture(entry.name) and entry.is_file():
            yield Found(Path(entry.path), prefix + entry.name)


def _by_pattern(pattern: str) -> Iterator[Found]:
    fixed = Path(pattern)
    while glob.has_magic(str(fixed)):
        fixed = fixed.parent
    for match in sorted(glob.glob(pattern, recursive=True)):
        if _is_picture(match) and os.path.isfile(match):
            path = Path(match)
            yield Found(path, path.relative_to(fixed).as_posix())


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES
