"""Results as JSON lines, one an image: written as they come, and taken up again after a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from facefind.errors import DataError
from facefind.faces import Faces
from facefind.files import read_json_lines

__all__ = ["JsonLines", "Sink", "to_record"]

_BLOCK = 1 << 16


def to_record(name: str, faces: Faces) -> dict[str, Any]:
    """Name and faces of an image as plain values: pixels to four decimals, scores to six.

    Meshes and ids are there where the faces have them.
    """
    found = faces.to_dict(digits=4)
    seldom = {key for key in ("mesh", "ids") if found[key] is None}
    return {"image": name} | {key: value for key, value in found.items() if key not in seldom}


class Sink:
    """What results are written to; it is closed at the end of a `with` block."""

    def close(self) -> None:
        """Close what is open."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class JsonLines(Sink):
    """A file of JSON lines, one an image, each of which is on its way to disk once written.

    Missing parent folders are made.

    Args:
        path: The file.
        resume: Whether to append to what an earlier run wrote; its last line, where a kill left
            it torn, is cut off. Otherwise the file starts empty.

    Attributes:
        names: Images that the file held when it was opened.

    Raises:
        DataError: the file that is to be resumed holds something else.
    """

    def __init__(self, path: str | os.PathLike[str], *, resume: bool = False) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.names: set[str] = self._names() if resume and self.path.exists() else set()
        if resume and self.path.exists() and _cut_torn_line(self.path):
            self.names = self._names()  # without that of the torn line
        self._file = self.path.open("a" if resume else "w", encoding="utf-8")

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record, with the image's name under "image"."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def _names(self) -> set[str]:
        names: set[str] = set()
        refused = "so this file cannot be resumed; give another"
        try:
            for number, record in read_json_lines(self.path):
                name = record.get("image") if isinstance(record, dict) else None
                if not isinstance(name, str):
                    raise DataError(f"{self.path}, line {number}: names no image, {refused}")
                names.add(name)
        except DataError:
            raise
        except ValueError as error:
            raise DataError(f"{error}, {refused}") from error
        return names

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _cut_torn_line(path: Path) -> bool:
    """Whether the file's last line had no end; it is cut off then."""
    with path.open("r+b") as file:
        size = at = file.seek(0, os.SEEK_END)
        while at > 0:
            start = max(0, at - _BLOCK)
            file.seek(start)
            newline = file.read(at - start).rfind(b"\n")
            if newline >= 0:
                start += newline + 1
                break
            at = start
        else:
            start = 0
        file.truncate(start)
    return start < size
