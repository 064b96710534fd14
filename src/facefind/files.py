"""Files: written whole or not at all, told apart by digests, read line by line.

The one place for each: every other room that keeps a file calls these.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["atomic", "read_json_lines", "sha256", "write_bytes", "write_json", "write_text"]


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its name when the block ends well.

    The name appears only once the content is on disk: a reader, or a kill at any moment, finds the
    old file or the new one, whole. If the block raises, the draft is deleted and `path` is as it
    was. Missing parent folders are made.

    >>> with atomic("faces.json") as draft:
    ...     draft.write_text("[]")
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Short and of its own: a name at the file system's limit leaves no room for a longer one.
    draft = path.with_name(f".{hashlib.sha256(path.name.encode()).hexdigest()[:8]}-{os.getpid()}")
    draft = draft.with_suffix(f"{path.suffix[:16]}.tmp")
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file whole or not at all, as `atomic` does."""
    with atomic(path) as draft:
        draft.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 file whole or not at all, as `atomic` does."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, content: Any) -> None:
    """Write indented JSON with a final newline, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's content, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json_lines(path: str | Path, *, skip_broken: bool = False) -> Iterator[tuple[int, Any]]:
    """Number (from 1) and value of each line of a JSON-lines file; blank lines are skipped.

    A last line without its newline that is no JSON is what a kill left, and is skipped too.

    Args:
        path: the file.
        skip_broken: skip every line that is no JSON: a log that was appended to after a kill has
            such a line in its midst.

    Raises:
        ValueError: a line is no JSON; the message names file and line.
    """
    with Path(path).open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except ValueError as error:
                if skip_broken:
                    continue
                if not line.endswith("\n"):
                    return
                raise ValueError(f"{path}, line {number}: not JSON ({error})") from error
            yield number, value
