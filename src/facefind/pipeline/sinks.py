"""Results as JSON lines, one an image: written as they come, and taken up again after a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from errno import EDQUOT, ENOSPC, EROFS
from pathlib import Path
from typing import IO, Any, Self

from facefind import forking
from facefind.detector import DetectionResult
from facefind.errors import DataError
from facefind.faces import Faces
from facefind.files import Lock, read_json_lines, torn_line
from facefind.pipeline.resuming import Note
from facefind.streaming import ITEM_ERRORS

__all__ = [
    "JsonLines",
    "Sink",
    "failure_record",
    "is_device",
    "name_of",
    "reason",
    "to_record",
    "write_results",
]

_START = b'{"image": "'  # of every line
_DEVICES = {("/", "dev"), ("/", "proc")}
_NO_ROOM = {EDQUOT, ENOSPC, EROFS}  # the next image would fail alike


def to_record(name: str, faces: Faces) -> dict[str, Any]:
    """Name and faces of an image as plain values: pixels to four decimals, scores to six.

    Meshes and ids are there where the faces have them.
    """
    found = faces.to_dict(digits=4)
    seldom = {key for key in ("mesh", "ids") if found[key] is None}
    return {"image": name} | {key: value for key, value in found.items() if key not in seldom}


def failure_record(name: str, error: BaseException) -> dict[str, Any]:
    """Name of an image that failed, the reason, and the kind of error."""
    return {"image": name, "error": reason(error), "kind": type(error).__name__}


def write_results(
    results: Iterator[DetectionResult],
    write: Callable[[DetectionResult], None],
    failures: JsonLines | None = None,
) -> Iterator[DetectionResult]:
    """Yield each result once it is written; one that cannot be has the error, and costs no other.

    Args:
        results: As of `detect_files`.
        write: Writes a result that has no error.
        failures: Takes a line for each image that fails, with its name and the reason.

    Raises:
        OSError: there is no room to write: the images to come would fail alike.
    """
    for result in results:
        if result.error is None:
            try:
                write(result)
            except (*ITEM_ERRORS, ValueError) as error:
                if getattr(error, "errno", None) in _NO_ROOM:
                    raise
                result = replace(result, image=None, error=error)
        if result.error is not None and failures is not None:
            failures.write_failure(name_of(result), result.error)
        yield result


def name_of(result: DetectionResult) -> str:
    """The name of a result's image: that of its file, or its index."""
    return str(getattr(result.source, "name", result.index))


def reason(error: BaseException) -> str:
    """What an error says, on one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


class Sink:
    """What results are written to: checked as it is made, begun and closed by a `with` block."""

    def begin(self) -> None:
        """Write the first byte, where that has not been done."""

    def finish(self) -> None:
        """Write what is written at the end, where the block ends well."""

    def close(self) -> None:
        """Close what is open."""

    def __enter__(self) -> Self:
        self._generation = forking.generation()
        self.begin()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._generation != forking.generation():
            return  # a child that was forked in the block leaves it to its parent
        try:
            if raised[0] is None:
                self.finish()
        finally:
            self.close()


class JsonLines(Sink):
    """A file of JSON lines, one an image, each of which is on its way to disk once written.

    As it is made the file is checked, and locked against other writers; what is there is changed
    no sooner than with the `with` block, `begin` or the first line. Missing parent folders are
    made. Pipes and devices are written to as they are.

    Args:
        path: The file.
        resume: Whether to append to what an earlier run wrote; its last line, where a kill left
            it torn, is cut off.
        overwrite: Whether to replace what an earlier run wrote. With neither, there must be none;
            None is no, and that a caller's user has no option for it.
        settings: What the lines are made with. They are kept in `<path>.source.json`, and lines
            that were made with others are not resumed; None keeps and checks nothing.
        note_of: The file that the settings are kept beside; None is this one.

    Attributes:
        names: Images that the file held when it was opened.

    Raises:
        DataError: the file is there and is neither resumed nor replaced, is no file of such lines,
            was made with other settings, or another process writes it.
    """

    _otherwise = "give another file, or replace it (--overwrite)"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        resume: bool = False,
        overwrite: bool | None = False,
        settings: Mapping[str, Any] | None = None,
        note_of: Path | None = None,
    ) -> None:
        if resume and overwrite:
            raise DataError(f"{os.fspath(path)} is to be resumed and replaced: choose one of them")
        self.path = Path(path)
        self.names: set[str] = set()
        self._file: IO[str] | None = None
        self._note = self._lock = None
        if is_device(self.path):
            return
        if settings is not None:
            self._note = Note.beside(note_of or self.path, settings)
        self._lock = Lock(self.path.with_name(self.path.name + ".lock"))
        if not self._lock.acquire():
            raise DataError(f"{self.path} is being written by {self._lock.holder()}: wait for it")
        try:
            self._check(resume, overwrite)
        except BaseException:
            self._lock.release()
            raise
        self._resume = resume

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record, with the image's name under "image"."""
        self.write_all([record])

    def write_all(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append several records at once.

        Raises:
            DataError: The file is a pipe that nobody reads any more.
        """
        self.begin()
        assert self._file is not None
        lines = (json.dumps({"image": record["image"], **record}) + "\n" for record in records)
        try:
            self._file.write("".join(lines))
            self._file.flush()
        except BrokenPipeError:
            raise DataError(f"{self.path}: nobody reads it any more") from None

    def write_failure(self, name: str, error: BaseException) -> None:
        """Append an image that failed, with the reason."""
        self.write(failure_record(name, error))

    def begin(self) -> None:
        """Open the file, and empty or mend it, where that has not been done."""
        if self._file is not None:
            return
        if self._lock is None:
            self._file = self.path.open("w", encoding="utf-8")
            return
        if self._resume and self.path.exists():
            os.truncate(self.path, torn_line(self.path)[0])
        self._file = self.path.open("a" if self._resume else "w", encoding="utf-8")
        forking.keep(self._file)
        if self._note is not None and not (self._resume and self.names):
            self._note.write()

    def close(self) -> None:
        """Close the file, and let others write it."""
        if self._file is not None:
            self._file.close()
        if self._lock is not None:
            self._lock.release()

    def _check(self, resume: bool, overwrite: bool | None) -> None:
        if not self.path.exists() or not self.path.stat().st_size:
            return
        if resume:
            if self._note is not None:
                self._note.check(str(self.path), self._otherwise)
            self.names = self._names()
        elif not overwrite:
            replace = "" if overwrite is None else "replace it (--overwrite), "
            raise DataError(
                f"{self.path} is there already: resume it (--resume), {replace}or give another"
            )
        elif not self._is_own():
            raise DataError(f"{self.path} holds no results of facefind: give another file")

    def _is_own(self) -> bool:
        with self.path.open("rb") as file:
            return _START.startswith(file.read(len(_START)))

    def _names(self) -> set[str]:
        names: set[str] = set()
        refused = "so this file cannot be resumed; give another"
        try:
            for number, record in read_json_lines(self.path, whole=True):
                name = record.get("image") if isinstance(record, dict) else None
                if not isinstance(name, str):
                    raise DataError(f"{self.path}, line {number}: names no image, {refused}")
                names.add(name)
        except DataError:
            raise
        except ValueError as error:
            where = "" if str(self.path) in str(error) else f"{self.path}: "
            raise DataError(f"{where}{error}, {refused}") from error
        _, torn = torn_line(self.path)
        if not _START.startswith(torn[: len(_START)]):
            raise DataError(f"{self.path} ends in a line of something else, {refused}")
        return names


def is_device(path: Path) -> bool:
    """Whether a path leads to a pipe or device, which hold nothing, or is the name of one."""
    return (path.exists() and not path.is_file()) or path.parts[:2] in _DEVICES
