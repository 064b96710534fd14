"""`find`: the picture files that paths, folders and patterns mean; `Found`: one of any source."""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import urlsplit

from facefind.errors import ImageError

__all__ = [
    "CONTAINERS",
    "SUFFIXES",
    "Found",
    "OnError",
    "find",
    "fits",
    "is_container",
    "is_remote",
    "path_of",
    "pattern_root",
]

SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "webp", "gif", "bmp", "dib"),
        *("tif", "tiff", "avif", "jp2", "j2k", "ppm", "pgm", "pbm", "pnm", "qoi", "heic", "heif"),
    )
)
"""Suffixes, in lower case, of the files in a folder that are taken for pictures."""

CONTAINERS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".parquet")
"""Ends, in lower case, of the names of files that hold pictures: tar files and Parquet tables."""

_STREAMS = frozenset(("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "udp", "tcp", "mms"))
OnError = Callable[[Path, ImageError], None]


class Found(NamedTuple):
    """A picture of a source, whatever that is.

    Attributes:
        path: Its file. For what is no file of this machine, its name: messages have it.
        name: What it is called in results.
        load: Gives the bytes of what is no file of this machine; None for files.
    """

    path: Path
    name: str
    load: Callable[[], bytes] | None = None

    def open(self) -> IO[bytes]:
        """The picture's bytes as a binary file, at its start."""
        return self.path.open("rb") if self.load is None else _Loaded(self.load(), self.name)

    @property
    def picture(self) -> Path | IO[bytes]:
        """What `images.read` takes; of what is no file of this machine the bytes are loaded."""
        return self.path if self.load is None else self.open()


class _Loaded(io.BytesIO):
    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


def is_container(name: str) -> bool:
    """Whether a file of this name holds pictures: see `CONTAINERS`."""
    return path_of(name).lower().endswith(CONTAINERS)


def is_remote(source: object) -> bool:
    """Whether a source is an address of pictures, such as s3://bucket/photos.

    Addresses of streams are not; http:// and https:// are where they name a picture or container.
    """
    text = str(source)
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if not scheme or scheme in _STREAMS:
        return False
    if scheme in ("http", "https"):
        return is_container(text) or _has_one(path_of(text), SUFFIXES)
    return True


def path_of(text: str) -> str:
    """The path of an http:// or https:// address, without what follows it; all else as it is."""
    if text.lower().startswith(("http://", "https://")):
        return urlsplit(text).path
    return text


def find(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    skip: Iterable[str | os.PathLike[str]] = (),
    on_error: OnError | None = None,
    suffixes: Collection[str] = SUFFIXES,
) -> Iterator[Found]:
    """The picture files of one or more sources, one at a time: large folders are not listed ahead.

    A file is itself, whatever its suffix. A folder means all files below it with one of
    `suffixes`, in order of their names, hidden ones left out. What is neither, but has `*`, `?` or
    `[`, is a pattern (`**` for any depth) and means such files among its matches. Linked folders
    are followed; what several ways lead to is found once, under the name without a link where
    there is one. A link of a picture's name that leads nowhere is found, too, and reading it fails.

    Args:
        sources: Paths, folders and patterns.
        skip: Folders that are passed over wherever they turn up, such as those written to.
        on_error: Takes a folder that cannot be listed and its error, whereupon the others are
            searched all the same; where None the error is raised.
        suffixes: In lower case, those of the files in a folder that count.

    Raises:
        ImageError: At once if a source does not exist; at the end if no picture was found.
    """
    if isinstance(sources, (str, os.PathLike)):
        sources = [sources]
    named = [os.fspath(source) for source in sources]
    for source in named:
        if not os.path.exists(source) and not glob.has_magic(source):
            raise ImageError(f"{source!r} does not exist: give a picture, a folder or a pattern")
    return _walk(named, frozenset(map(os.path.realpath, skip)), on_error, frozenset(suffixes))


def pattern_root(pattern: str) -> Path:
    """The folder below which all matches of a pattern lie."""
    fixed = Path(pattern)
    while glob.has_magic(str(fixed)):
        fixed = fixed.parent
    return fixed


def _walk(
    sources: list[str], skip: frozenset[str], on_error: OnError | None, suffixes: frozenset[str]
) -> Iterator[Found]:
    none = True
    for source in sources:
        if os.path.isdir(source):
            found = _Folder(source, skip, on_error, suffixes).pictures(source, "")
        elif os.path.exists(source):
            found = iter([Found(Path(source), os.path.basename(source))])
        else:
            found = _by_pattern(source, skip, on_error, suffixes)
        for item in found:
            none = False
            yield item
    if none:
        raise ImageError(
            f"no pictures in {', '.join(map(repr, sources)) or 'an empty list of sources'}: "
            f"files with the suffixes {' '.join(sorted(suffixes))} are looked for"
        )


class _Folder:
    """A walk through a folder and those that are linked into it, each listed once."""

    def __init__(
        self,
        root: str,
        skip: frozenset[str],
        on_error: OnError | None,
        suffixes: frozenset[str],
    ) -> None:
        self._root, self._skip, self._on_error = os.path.realpath(root), skip, on_error
        self._suffixes = suffixes
        self._known: set[str] = set()

    def pictures(self, folder: str, prefix: str) -> Iterator[Found]:
        real = os.path.realpath(folder)
        if real in self._known or real in self._skip:
            return
        self._known.add(real)
        try:
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError as error:
            failure = ImageError(f"the folder {folder!r} cannot be listed: {error}")
            if self._on_error is None:
                raise failure from error
            self._on_error(Path(folder), failure)
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is(entry.is_dir):
                if not (entry.is_symlink() and self._comes_by_itself(entry.path)):
                    yield from self.pictures(entry.path, f"{prefix}{entry.name}/")
            elif _has_one(entry.name, self._suffixes) and (
                _is(entry.is_file) or _leads_nowhere(entry.path)
            ):
                yield Found(Path(entry.path), prefix + entry.name)

    def _comes_by_itself(self, link: str) -> bool:
        """Whether the walk finds what a link leads to without the link."""
        inside = os.path.relpath(os.path.realpath(link), self._root)
        return not any(part.startswith(".") and part != "." for part in Path(inside).parts)


def _is(kind: Callable[[], bool]) -> bool:
    """Whether an entry of a folder is of a kind; one that cannot be looked at is not."""
    try:
        return kind()
    except OSError:
        return False


def _by_pattern(
    pattern: str, skip: frozenset[str], on_error: OnError | None, suffixes: frozenset[str]
) -> Iterator[Found]:
    root = pattern_root(pattern)
    parts = Path(pattern).relative_to(root).parts
    if "**" in parts:  # `glob` would follow links that go round, again and again
        folder = _Folder(os.fspath(root), skip, on_error, suffixes)
        for found in folder.pictures(os.fspath(root), ""):
            if fits(found.name.split("/"), parts):
                yield found
        return
    once: dict[tuple[str, str], str] = {}
    for match in sorted(glob.glob(pattern)):
        if not _has_one(match, suffixes):
            continue
        parent, name = os.path.split(match)
        real = os.path.realpath(parent)
        if not any(Path(real).is_relative_to(one) for one in skip):
            once.setdefault((real, name), match)
    for match in once.values():
        if os.path.isfile(match) or _leads_nowhere(match):
            yield Found(Path(match), Path(match).relative_to(root).as_posix())


def fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether a path fits a pattern, part by part; a part `**` stands for any number of them."""
    if not parts:
        return not names
    if parts[0] == "**":
        return fits(names, parts[1:]) or (bool(names) and fits(names[1:], parts))
    return bool(names) and fnmatch(names[0], parts[0]) and fits(names[1:], parts[1:])


def _leads_nowhere(path: str) -> bool:
    """Whether a path is a link to what is not there; it is listed, so that reading reports it."""
    return os.path.islink(path) and not os.path.exists(path)


def _has_one(name: str, suffixes: Collection[str]) -> bool:
    return os.path.splitext(name)[1].lower() in suffixes
