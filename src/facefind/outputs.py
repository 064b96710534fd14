"""Where results may be written: never over what is read, never two of them into one file.

Every command asks here before it writes its first byte.
"""

from __future__ import annotations

import glob
import os
import re
import unicodedata
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain, takewhile
from pathlib import Path
from typing import TypeVar

from facefind.errors import DataError
from facefind.images.listing import SUFFIXES, is_remote, pattern_root

__all__ = [
    "LABELS",
    "below",
    "check_distinct",
    "check_outputs",
    "distinct",
    "folds_case",
    "is_other_address",
    "output_path",
]

T = TypeVar("T")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")  # what a path makes of scheme://

LABELS = SUFFIXES | {".json", ".txt", ".xml", ".mat", ".yaml", ".yml", ".sqlite", ".csv"}
"""Suffixes of the files that labeled sets consist of."""


def check_outputs(
    inputs: Iterable[str | os.PathLike[str]],
    *,
    files: Mapping[str, str | os.PathLike[str] | None] = {},
    folders: Mapping[str, str | os.PathLike[str] | None] = {},
    suffixes: Collection[str] = SUFFIXES,
) -> list[Path | str]:
    """Check that nothing that is to be written is, holds or lies where an input is read.

    Links are followed, and hard links of a file are the file; addresses are compared as they are.
    An output folder that lies inside an input folder is allowed, for it can be left out of the
    search; an output file there too, unless its suffix is one of the files that are looked for.

    Args:
        inputs: Files, folders, patterns and addresses that are read; files that are not there are
            passed over.
        files: Files to be written, by the option that names each; None is none.
        folders: Folders to be written into, likewise, or addresses.
        suffixes: In lower case, those of the files that are read of a folder.

    Returns:
        The output folders and addresses that lie inside an input's: they must not be searched.

    Raises:
        DataError: an output is, holds or lies where an input is, two outputs are the same, or a
            folder is called as files are.
    """
    inputs = [os.fspath(source) for source in inputs]
    inside: list[Path | str] = []
    for name, path in (*files.items(), *folders.items()):
        text = "" if path is None else os.fspath(path)
        if path is not None and is_other_address(path):
            raise DataError(
                f"{name} {path} is an address: only the pictures of detect (--out, --draw), align "
                "and redact, and jobs, go to one, of a store such as s3://"
            )
        if is_remote(text) and _check_address(name, text, inputs, folder=name in folders):
            inside.append(text)
    given = {n: Path(path) for n, path in files.items() if path is not None and not is_remote(path)}
    into = {
        n: Path(path) for n, path in folders.items() if path is not None and not is_remote(path)
    }
    taken: dict[Path, str] = {}
    for name, path in (given | into).items():
        other = taken.setdefault(_real(path), name)
        if other != name:
            raise DataError(f"{other} and {name} are both {path}: give each a place of its own")
    for name, path in given.items():
        if path.is_dir():
            raise DataError(f"{name} {path} is a folder: expected the name of a file")
    for name, path in into.items():
        if path.exists() and not path.is_dir():
            raise DataError(f"{name} {path} is a file: expected a folder")
        if not path.exists() and path.suffix.lower() in suffixes:
            raise DataError(
                f"{name} {path} is the name of a file: expected a folder, which is made, such as "
                f"{path.with_suffix('')}"
            )
    for read in (Path(source) for source in inputs if source != "-" and not is_remote(source)):
        source = str(read)
        if not read.exists():
            if not glob.has_magic(source):
                continue
            read = pattern_root(source)
        for name, path in given.items():
            _check_file(name, path, source, read, suffixes)
        for name, path in into.items():
            if _check_folder(name, path, source, read) and path not in inside:
                inside.append(path)
    return inside


def is_other_address(path: str | os.PathLike[str]) -> bool:
    """Whether a place is an address that is none of a store, as a `Path` of one is not."""
    text = os.fspath(path)
    return bool(_ADDRESS.match(text)) and not (isinstance(path, str) and is_remote(path))


def _check_address(name: str, address: str, inputs: Iterable[object], *, folder: bool) -> bool:
    """Whether what is written to an address lies inside of what is read."""
    out, inside = f"{address.rstrip('/')}/", False
    for source in map(str, filter(is_remote, inputs)):
        parts = source.rstrip("/").split("/")
        fixed = list(takewhile(lambda part: not glob.has_magic(part), parts))
        read = f"{'/'.join(fixed)}/"
        if out == read or (folder and read.startswith(out)):
            raise DataError(
                f"{name} {address} is or holds {source}, which is read: name another place to "
                "write to"
            )
        inside |= folder and out.startswith(read)
    return inside


def _check_file(name: str, path: Path, source: str, read: Path, suffixes: Collection[str]) -> None:
    if path.exists() and read.exists() and path.samefile(read):
        raise DataError(f"{name} {path} is read as {source}: name another file to write")
    if read.is_dir() and _real(read) in _real(path).parents and (path.suffix.lower() in suffixes):
        raise DataError(
            f"{name} {path} lies in {source}, where files like it are read: name a file elsewhere"
        )


def _check_folder(name: str, path: Path, source: str, read: Path) -> bool:
    """Whether the folder lies inside of what is read."""
    out, real = _real(path), _real(read)
    if out == real or out in real.parents:
        raise DataError(
            f"{name} {path} is or holds {source}, which is read: give a folder for results alone"
        )
    return real in out.parents


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def output_path(name: str | Path) -> Path:
    """Where what is made of an image goes, relative to an output folder: its name, kept inside.

    Of an absolute path and of an address that is the last part alone.
    """
    path = Path(name)
    if "://" in os.fspath(name):
        return Path(path.name)
    return Path(path.name) if path.anchor or ".." in path.parts else path


def below(folder: str | os.PathLike[str], name: str | Path) -> Path:
    """The file of a name from outside in a folder, with its missing parent folders.

    Raises:
        DataError: the name, or a link on its way, leads out of the folder.
    """
    path = Path(folder) / name
    if output_path(name) == Path(name):
        path.parent.mkdir(parents=True, exist_ok=True)
        if _real(path.parent).is_relative_to(_real(Path(folder))):
            return path
    raise DataError(
        f"{os.fspath(name)!r} leads out of {os.fspath(folder)}: nothing is written there"
    )


def check_distinct(
    outputs: Iterable[tuple[object, str | os.PathLike[str]]],
    folder: str | os.PathLike[str],
    what: str,
    otherwise: str = "give the folder above them, or one folder at a time",
) -> None:
    """Check that no two things are made into one file, as `distinct` does, all at once."""
    deque(distinct(outputs, folder, what, otherwise), maxlen=0)


def distinct(
    outputs: Iterable[tuple[T, str | os.PathLike[str]]],
    folder: str | os.PathLike[str],
    what: str,
    otherwise: str = "give the folder above them, or one folder at a time",
) -> Iterator[T]:
    """What is read, as long as no two are made into one file; some disks take A.jpg for a.jpg.

    Args:
        outputs: What is read (a path, name or picture) and the file made of it, in pairs.
        folder: which the files are written into.
        what: is made of them, for the message.
        otherwise: What to do, for the message.

    Raises:
        DataError: two are; the message names both.
    """
    alike = not is_remote(folder) and folds_case(folder)
    taken: dict[str, object] = {}
    for source, output in outputs:
        name = os.fspath(output)
        place = getattr(source, "path", source)
        other = taken.setdefault(_folded(name) if alike else name, place)
        if other != place:
            disk = ", as this disk takes upper for lower case" if alike else ""
            raise DataError(
                f"{what} of {other} and {place} would both be {name}{disk}: {otherwise}"
            )
        yield source


def folds_case(folder: str | os.PathLike[str]) -> bool:
    """Whether the disk of a folder, which need not be there, finds files by names of another case.

    It is seen by the name of something that is there, so that nothing is written.
    """
    there = _real(Path(folder))
    while not there.is_dir():
        there = there.parent
    with suppress(OSError), os.scandir(there) as entries:
        for path in chain((Path(entry.path) for entry in entries), (there, *there.parents)):
            if path.name != (other := path.name.swapcase()):
                try:
                    return path.samefile(path.with_name(other))
                except OSError:
                    return False
    return False


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())
