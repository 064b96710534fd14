"""Image files by name, listed lazily, shared out to workers, and run through a detector."""

from __future__ import annotations

import os
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facefind import images as image_room
from facefind.detector import DetectionResult, FaceDetector
from facefind.errors import DataError, ImageError
from facefind.images import Found
from facefind.images.listing import SUFFIXES, OnError

__all__ = ["Shard", "detect_files", "list_images"]


@dataclass(frozen=True)
class Shard:
    """One of `count` parts of any set of images, `index` from 0.

    Which part an image belongs to depends on its name alone, so that it stays the same whatever
    else is in the folder, in whatever order, on whatever machine.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise DataError(
                f"a shard's index counts from 0 to below the count, got {self.index}/{self.count}"
            )

    @classmethod
    def from_text(cls, text: str) -> Shard:
        """The shard of a text INDEX/COUNT, such as "0/4".

        Raises:
            DataError: the text is no such thing, or the index is not below the count.
        """
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()):
            raise DataError(f"expected a shard INDEX/COUNT, such as 0/4, got {text!r}")
        return cls(int(index), int(count))

    def holds(self, name: str) -> bool:
        """Whether an image of this name belongs to the shard."""
        return zlib.crc32(os.fsencode(name)) % self.count == self.index


def list_images(
    sources: Sequence[str | os.PathLike[str]],
    shard: Shard | None = None,
    *,
    skip: Iterable[str | os.PathLike[str]] = (),
    on_error: OnError | None = None,
    suffixes: Collection[str] = SUFFIXES,
) -> Iterator[Found]:
    """The image files that files, folders and patterns mean, each with a name of its own.

    A file's name is the source as it was given, that of a file in a folder its path below the
    folder. One folder or pattern is listed as the iterator advances, whatever its size. Several
    sources are listed before the first file comes: two files must not share a name.

    Args:
        sources: Files, folders and patterns.
        shard: The part of the images to take; None is all.
        skip: Folders that are not searched, as of `images.find`.
        on_error: Takes a folder that cannot be listed and its error, as of `images.find`; of
            several sources also one without any picture.
        suffixes: In lower case, those of the files in a folder that count.

    Raises:
        DataError: no source is given, or two files would share a name.
        ImageError: a source does not exist; at the end, where no picture was found.
    """
    if not sources:
        raise DataError("no images given: name files, folders or globs")
    given = [os.fspath(source) for source in sources]
    files = [source for source in given if os.path.isfile(source)]
    listed = _list(given, list(skip), on_error, suffixes)
    if len(given) > 1 and len(files) < len(given):
        listed = iter(list(_once(listed)))
    elif len(given) > 1:
        listed = _once(listed)
    if shard is None:
        return listed
    return (file for file in listed if shard.holds(file.name))


def _list(
    sources: Sequence[str],
    skip: Sequence[str | os.PathLike[str]],
    on_error: OnError | None,
    suffixes: Collection[str],
) -> Iterator[Found]:
    options: dict[str, Any] = {"skip": skip, "on_error": on_error, "suffixes": suffixes}
    found = [
        (source, os.path.isfile(source), image_room.find(source, **options)) for source in sources
    ]
    return _named(found, on_error if len(found) > 1 else None)


def _named(
    found: Iterable[tuple[str, bool, Iterator[Found]]],
    on_error: OnError | None,
) -> Iterator[Found]:
    last: ImageError | None = None
    none = True
    for source, single, files in found:
        try:
            for path, name in files:
                none = False
                yield Found(path, source if single else name)
        except ImageError as error:
            if on_error is None:
                raise
            on_error(Path(source), error)
            last = error
    if none and last is not None:
        raise last


def _once(files: Iterable[Found]) -> Iterator[Found]:
    """Each file once, whatever sources it was found by."""
    known: dict[str, Path] = {}
    for file in files:
        other = known.get(file.name)
        if other is None:
            known[file.name] = file.path
            yield file
        elif other != file.path:
            raise DataError(
                f"{other} and {file.path} would both be called {file.name}: "
                "give the folder above them, or one folder at a time"
            )


def detect_files(
    detector: FaceDetector, files: Iterable[Found], *, readers: int = 2, images: bool = False
) -> Iterator[DetectionResult]:
    """The result of each file, as of `FaceDetector.stream`; those that failed have their error.

    `result.source` is the file, with its path and name.
    """
    return detector.stream(
        files,
        read=lambda file: detector.read(file.path),
        readers=readers,
        images=images,
        on_error="yield",
    )
