"""Pictures by name, listed lazily, shared out to workers, and run through a detector."""

from __future__ import annotations

import os
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facefind.detector import DetectionResult, FaceDetector
from facefind.errors import DataError, ImageError
from facefind.images import Found
from facefind.images.listing import SUFFIXES, OnError, is_container, is_remote
from facefind.pipeline import units
from facefind.pipeline.stages import Stages
from facefind.pipeline.units import Unit
from facefind.streaming import Image

__all__ = ["Shard", "detect_files", "list_images", "list_units", "lists_quickly", "pictures_of"]


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
    files_from: str | os.PathLike[str] | None = None,
    skip: Iterable[str | os.PathLike[str]] = (),
    on_error: OnError | None = None,
    suffixes: Collection[str] = SUFFIXES,
) -> Iterator[Found]:
    """The pictures that sources mean, each with a name of its own, whatever holds them.

    - A file, folder or pattern, as of `images.find`.
    - An address of fsspec (s3://, gs://, az://, memory://, ...): a picture, a folder or a pattern;
      https:// a picture.
    - A tar file or Parquet table, by path, pattern or address, as `containers.members` reads it.
    - "-": one picture on stdin.

    A file's name is the source as it was given, that of a file in a folder its path below the
    folder, that of a picture in a container the container's name and its own. Pictures come as the
    iterator advances, however many there are. Only where there are several sources of files and
    folders, all are listed before the first comes: two files must not share a name.

    Args:
        sources: As above.
        shard: The part of the images to take; None is all.
        files_from: A file with such a source a line, "-" for stdin; it is read as the iterator
            advances. A file that is named there and is missing fails when it is read.
        skip: Folders that are not searched, as of `images.find`.
        on_error: Takes a folder or container that cannot be listed and its error, as of
            `images.find`; of several sources also one without any picture.
        suffixes: In lower case, those of the files in a folder that count.

    Raises:
        DataError: no source is given, or two files would share a name.
        ImageError: a source does not exist; at the end, where no picture was found.
    """
    listed = list_units(
        sources, files_from=files_from, skip=skip, on_error=on_error, suffixes=suffixes
    )
    pictures = pictures_of(listed, on_error, suffixes)
    return pictures if shard is None else (one for one in pictures if shard.holds(one.name))


def list_units(
    sources: Sequence[str | os.PathLike[str]],
    *,
    files_from: str | os.PathLike[str] | None = None,
    skip: Iterable[str | os.PathLike[str]] = (),
    on_error: OnError | None = None,
    suffixes: Collection[str] = SUFFIXES,
) -> Iterator[Unit]:
    """What the sources of `list_images` lead to: pictures, and containers that are not opened.

    Raises:
        DataError: Neither sources nor a list is given.
    """
    if not sources and files_from is None:
        raise DataError("no images given: name files, folders, globs or addresses")
    given = [os.fspath(source) for source in sources]
    files = [source for source in given if os.path.isfile(source)]
    options: dict[str, Any] = {"skip": list(skip), "on_error": on_error, "suffixes": suffixes}
    found = [(source, units.of_source(source, **options)) for source in given]
    if files_from is not None:
        found.append((os.fspath(files_from), units.of_list(files_from, **options)))
    if len(found) == 1:
        return found[0][1]
    listed = _once(_joined(found, on_error))
    if len(files) < len(found) and lists_quickly(sources, files_from):
        return iter(list(listed))
    return listed


def lists_quickly(
    sources: Iterable[str | os.PathLike[str]], files_from: str | os.PathLike[str] | None = None
) -> bool:
    """Whether listing sources costs little, and holds no picture in memory: files and folders."""
    return files_from is None and not any(
        text == "-" or is_remote(text) or is_container(text)
        for text in (os.fspath(source) for source in sources)
    )


def _joined(
    found: Iterable[tuple[str, Iterator[Unit]]], on_error: OnError | None
) -> Iterator[Unit]:
    """The units of all sources; one that cannot be listed stops no other."""
    last: ImageError | None = None
    none = True
    for source, listed in found:
        try:
            for unit in listed:
                none = False
                yield unit
        except ImageError as error:
            if on_error is None:
                raise
            on_error(Path(source), error)
            last = error
    if none and last is not None:
        raise last


def _once(listed: Iterable[Unit]) -> Iterator[Unit]:
    """Each unit once, whatever sources it was found by."""
    known: dict[str, str] = {}
    for unit in listed:
        other = known.get(unit.name)
        if other is None:
            known[unit.name] = unit.place
            yield unit
        elif other != unit.place:
            raise DataError(
                f"{other} and {unit.place} would both be called {unit.name}: "
                "give the folder above them, or one folder at a time"
            )


def pictures_of(
    listed: Iterable[Unit], on_error: OnError | None, suffixes: Collection[str] = SUFFIXES
) -> Iterator[Found]:
    """The pictures in units; with `on_error` a container that cannot be read stops no other."""
    for unit in listed:
        try:
            yield from unit.pictures(suffixes)
        except ImageError as error:
            if on_error is None:
                raise
            on_error(Path(unit.name), error)


def detect_files(
    detector: FaceDetector,
    files: Iterable[Found],
    *,
    readers: int = 2,
    images: bool = False,
    stages: Stages | None = None,
) -> Iterator[DetectionResult]:
    """The result of each file, as of `FaceDetector.stream`; those that failed have their error.

    `result.source` is the file, with its path and name. The time that goes into reading and into
    the network is noted in `stages`.
    """

    def read(file: Found) -> Image:
        with nullcontext() if stages is None else stages("reading"):
            return detector.read(file.picture)

    runner = detector if stages is None else stages.timed(detector)
    return runner.stream(files, read=read, readers=readers, images=images, on_error="yield")
