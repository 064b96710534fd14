"""Files: written whole or not at all, compared by digests, read line by line, locked.

The one place for each: every other room that keeps a file calls these.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import platform
import secrets
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = [
    "Lock",
    "atomic",
    "json_bytes",
    "plain",
    "read_json_lines",
    "scratch",
    "sha256",
    "torn_line",
    "write_bytes",
    "write_json",
    "write_text",
]

_BLOCK = 1 << 16  # bytes


@contextmanager
def atomic(path: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its name when the block ends well.

    The name appears only once the content is on disk: a reader, or a kill at any moment, finds the
    old file or the new one, whole. If the block raises, the draft is deleted and `path` is as it
    was; a child that is forked in it leaves both to its parent. Missing parent folders are made.
    Where `path` is a link, the link is replaced and not what it leads to. Without `durable` a
    failing machine may leave the new file torn, a kill still not: for the many files of which each
    would wait for the disk.

    >>> with atomic("faces.json") as draft:
    ...     draft.write_text("[]")
    """
    path = Path(path).absolute()  # the block may change the working folder
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = os.getpid()
    # Short, for a name at the file system's limit leaves no room for a longer one, and its own
    # among threads and among processes of several containers, whose numbers are the same.
    draft = path.with_name(f".{secrets.token_hex(8)}{path.suffix[:16]}.tmp")
    try:
        yield draft
        if os.getpid() != owner:
            return
        if durable:
            with draft.open("rb") as file:
                os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) and error.filename is None:
            error.filename = str(path)  # writing names no file
        raise
    finally:
        if os.getpid() == owner:
            draft.unlink(missing_ok=True)


@contextmanager
def scratch(beside: str | Path | None = None) -> Iterator[Path]:
    """A new folder that is removed when the block ends; a forked child leaves it to its parent.

    Args:
        beside: A file, beside which it lies, hidden; None is the folder for temporary files.
    """
    near = None if beside is None else Path(beside).absolute().parent
    folder = Path(tempfile.mkdtemp(prefix="facefind-" if near is None else ".facefind-", dir=near))
    owner = os.getpid()
    try:
        yield folder
    finally:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)


def write_bytes(path: str | Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file whole or not at all, as `atomic` does."""
    with atomic(path, durable=durable) as draft:
        draft.write_bytes(content)


def write_text(path: str | Path, text: str, *, durable: bool = True) -> None:
    """Write a UTF-8 file whole or not at all, as `atomic` does."""
    write_bytes(path, text.encode(), durable=durable)


def json_bytes(content: Any) -> bytes:
    """Indented JSON in UTF-8 with a final newline."""
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a file name that no encoding knows is escaped
        text = json.dumps(content, indent=2).encode()
    return text + b"\n"


def plain(content: Any) -> Any:
    """Plain values as they come back from JSON: lists for tuples, strings for keys."""
    return json.loads(json.dumps(content))


def write_json(path: str | Path, content: Any) -> None:
    """Write indented JSON with a final newline, whole or not at all."""
    write_bytes(path, json_bytes(content))


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's content, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json_lines(
    path: str | Path, *, skip_broken: bool = False, whole: bool = False
) -> Iterator[tuple[int, Any]]:
    """Number (from 1) and value of each line of a JSON-lines file; blank lines are skipped.

    A last line without its newline that is no JSON is what a kill left, and is skipped too.

    Args:
        path: the file.
        skip_broken: skip every line that is no JSON: a log that was appended to after a kill has
            such a line in its midst.
        whole: skip a last line without its newline even where it is JSON.

    Raises:
        ValueError: a line is no JSON; the message names file and line.
    """
    with Path(path).open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            if whole and not line.endswith("\n"):
                return
            try:
                value = json.loads(line)
            except ValueError as error:
                if skip_broken:
                    continue
                if not line.endswith("\n"):
                    return
                raise ValueError(f"{path}, line {number}: not JSON ({error})") from error
            yield number, value


def torn_line(path: str | Path) -> tuple[int, bytes]:
    """Where a last line without its newline begins, and its first bytes; b"" where it has one."""
    with Path(path).open("rb") as file:
        at = file.seek(0, os.SEEK_END)
        while at > 0:
            start = max(0, at - _BLOCK)
            file.seek(start)
            newline = file.read(at - start).rfind(b"\n")
            at = start
            if newline >= 0:
                at += newline + 1
                break
        file.seek(at)
        return at, file.read(_BLOCK)


class Lock:
    """A lock file, which one process at a time holds, and which says who.

    The lock is the operating system's: it falls when its holder dies, whatever kills it. A child
    that the holder forks does not hold it. Where a file system has no locks everyone gets them.

    Args:
        path: The lock file; it is there while the lock is held (and after a kill, held by nobody).
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self._file: io.FileIO | None = None

    def acquire(self) -> bool:
        """Whether this process got the lock, at once; missing parent folders are made."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            file = io.FileIO(os.fspath(self.path), "a+")
            if not _lock(file.fileno()):
                file.close()
                return False
            if self._is(file):
                break
            file.close()  # its last holder has just removed the file
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n".encode())
        self._file = file
        _held.add(self)
        return True

    def holder(self) -> str:
        """Who holds the lock, such as "process 12 on host"."""
        with suppress(OSError):
            return self.path.read_text(encoding="utf-8", errors="replace").strip() or "a process"
        return "a process"

    def release(self) -> None:
        """Give the lock up and remove its file, where this process holds it."""
        if self._file is None or self._file.closed:
            return
        with suppress(OSError):  # Windows removes no open file
            if self._is(self._file):  # not so where a release was interrupted, and begins again
                self.path.unlink()
        self.forget()

    def forget(self) -> None:
        """Close the lock file only: a process that still has it open keeps the lock."""
        if self._file is not None:
            self._file.close()  # however often it is interrupted, its number is closed once
        _held.discard(self)

    def _is(self, file: io.FileIO) -> bool:
        """Whether `file` is what lies at the path."""
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        return False

    def __del__(self) -> None:
        self.release()


_held: weakref.WeakSet[Lock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_held):
        lock.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> bool:
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # others can read what is before it
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # the file system has no locks
            return True
        return True
