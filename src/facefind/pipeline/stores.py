"""Where results lie: a folder, or a prefix of a bucket, whose files appear whole.

All that processes agree by is `create`: of any number that create one file, one succeeds.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from errno import EMLINK, ENOTSUP, EPERM
from pathlib import Path
from typing import Protocol

from facefind import forking
from facefind.errors import DataError
from facefind.files import atomic, scratch, write_bytes
from facefind.images.listing import is_remote
from facefind.outputs import below, is_other_address
from facefind.pipeline import remote

__all__ = ["Folder", "Prefix", "Store", "check_store", "open_store"]

_CREATING = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
"""Schemes of the stores that can refuse to write a key that is there."""


class Store(Protocol):
    """Files in one place, by keys such as claims/00000001.1.

    Attributes:
        where: The place, for messages.
    """

    where: str

    @property
    def root(self) -> Path | None:
        """The folder on a disk; None where it is none."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is there but hidden files, if anything."""

    def create(self, key: str, content: bytes) -> bool:
        """Write a file that must not be there, whole; gives whether this call has."""

    def put(self, key: str, content: bytes) -> None:
        """Write a file, whole, over one that may be there."""

    def put_all(self, contents: Mapping[str, bytes]) -> None:
        """Write files by key, each as `put` does."""

    def upload(self, key: str, file: Path) -> None:
        """Write what is in a file, which may be large, as `put` does."""

    def draft(self, key: str, *, durable: bool = True) -> AbstractContextManager[Path]:
        """A path to write to, which becomes the file once the block ends well, as of `atomic`."""

    def get(self, key: str) -> bytes | None:
        """A file's content; None where it is not there."""

    def names(self, folder: str) -> Iterator[str]:
        """Names of the files right in a folder of the place; none where it is not there."""

    def remove(self, key: str) -> None:
        """Remove a file, which need not be there."""


def open_store(where: str | os.PathLike[str]) -> Store:
    """The store of a folder or address.

    Raises:
        DataError: it is an address of a store that cannot refuse to write a key that is there, or
            a `Path` made of an address.
        RuntimeUnavailableError: what writes such addresses is not installed.
    """
    text = os.fspath(where)
    if is_other_address(where):
        raise DataError(f"{text}: expected a folder, or the address of a store as a str: s3://...")
    return Prefix(text) if is_remote(text) else Folder(text)


def check_store(store: Store) -> None:
    """Check, by writing, that of two who create one file the second does not.

    Raises:
        DataError: the second does, as in stores that take no notice of the condition.
    """
    key = f"probe-{uuid.uuid4().hex}"
    try:
        first, second = store.create(key, b"first"), store.create(key, b"second")
        if not first or second or store.get(key) != b"first":
            raise DataError(
                f"{store.where} lets a file be created twice: workers could not know who has "
                "claimed what; put the job on S3, Google Cloud Storage, Azure or a local disk"
            )
    finally:
        store.remove(key)


class Folder:
    """A folder of a disk; a file is not written where a link leads out of it."""

    def __init__(self, where: str | os.PathLike[str]) -> None:
        self.where = os.path.abspath(where)
        self.root = Path(self.where)

    @property
    def is_empty(self) -> bool:
        """As of `Store`."""
        root = self.root
        return not root.exists() or all(path.name.startswith(".") for path in root.iterdir())

    def create(self, key: str, content: bytes) -> bool:
        """As of `Store`: the file is linked to its name once it is on disk.

        Raises:
            DataError: The file system has no hard links.
        """
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            with draft.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)
        except FileExistsError:
            # Over a network the answer to a link that was made may be lost, and it is made again.
            return draft.stat().st_nlink > 1
        except OSError as error:
            if error.errno in (EPERM, ENOTSUP, EMLINK):
                raise DataError(
                    f"{self.where}: its file system has no hard links, by which workers claim "
                    "their work; put the job elsewhere"
                ) from error
            raise
        finally:
            draft.unlink(missing_ok=True)
        return True

    def put(self, key: str, content: bytes) -> None:
        """As of `Store`."""
        write_bytes(below(self.root, key), content, durable=False)

    def put_all(self, contents: Mapping[str, bytes]) -> None:
        """As of `Store`."""
        for key, content in contents.items():
            self.put(key, content)

    def upload(self, key: str, file: Path) -> None:
        """As of `Store`."""
        with self.draft(key) as draft:
            shutil.copyfile(file, draft)

    def draft(self, key: str, *, durable: bool = True) -> AbstractContextManager[Path]:
        """As of `Store`."""
        return atomic(below(self.root, key), durable=durable)

    def get(self, key: str) -> bytes | None:
        """As of `Store`."""
        try:
            return (self.root / key).read_bytes()
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> Iterator[str]:
        """As of `Store`."""
        with suppress(FileNotFoundError), os.scandir(self.root / folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    yield entry.name

    def remove(self, key: str) -> None:
        """As of `Store`."""
        (self.root / key).unlink(missing_ok=True)


class Prefix:
    """A prefix of a bucket whose store creates keys only where they are not there."""

    root = None

    def __init__(self, where: str) -> None:
        scheme = where.partition("://")[0].lower()
        if scheme not in _CREATING:
            raise DataError(
                f"{where}: expected a local folder, or a store that can refuse to write a key that "
                f"is there: {', '.join(f'{one}://' for one in _CREATING)}"
            )
        self.where = where.rstrip("/")
        self._place = remote.Place.of(self.where)

    @property
    def is_empty(self) -> bool:
        """As of `Store`."""
        root = self._place.path
        with suppress(FileNotFoundError):
            for path in remote.files(self._place.here, root):
                if not any(p.startswith(".") for p in path[len(root) :].lstrip("/").split("/")):
                    return False
        return True

    def create(self, key: str, content: bytes) -> bool:
        """As of `Store`.

        Raises:
            OSError: The store cannot be written to.
        """
        for pause in (0.1, 0.4, 1.6, None):
            try:
                self._place.here.pipe_file(self._path(key), content, mode="create")
            except FileExistsError:
                break
            except OSError as error:  # of two at once the store may refuse both
                if self.get(key) is not None:
                    break
                if pause is None:
                    raise OSError(f"{self.where} cannot be written to: {error}") from error
                time.sleep(pause)
            else:
                return True
        # A request whose answer was lost is sent again, and then finds its own key.
        return self.get(key) == content

    def put(self, key: str, content: bytes) -> None:
        """As of `Store`."""
        with self._writing():
            self._place.here.pipe_file(self._path(key), content)

    def put_all(self, contents: Mapping[str, bytes]) -> None:
        """As of `Store`: several requests at once."""
        with self._writing():
            self._place.here.pipe({self._path(key): data for key, data in contents.items()})

    def upload(self, key: str, file: Path) -> None:
        """As of `Store`."""
        with self._writing():
            self._place.here.put_file(str(file), self._path(key))

    @contextmanager
    def draft(self, key: str, *, durable: bool = True) -> Iterator[Path]:
        """As of `Store`: the path is in the folder for temporary files."""
        with scratch() as folder:
            path = folder / Path(key).name
            begun = forking.generation()
            yield path
            if forking.generation() == begun:  # a child leaves it to its parent
                self.upload(key, path)

    def get(self, key: str) -> bytes | None:
        """As of `Store`."""
        try:
            content: bytes = self._place.here.cat_file(self._path(key))
        except FileNotFoundError:
            return None
        return content

    def names(self, folder: str) -> Iterator[str]:
        """As of `Store`."""
        root = self._path(folder)
        with suppress(FileNotFoundError):
            for path in remote.files(self._place.here, root):
                name = path[len(root) :].lstrip("/")
                if "/" not in name:
                    yield name

    def remove(self, key: str) -> None:
        """As of `Store`."""
        with suppress(FileNotFoundError):
            self._place.here.rm_file(self._path(key))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each store has errors of its own
            raise OSError(f"{self.where} cannot be written to: {error}") from error

    def _path(self, key: str) -> str:
        return f"{self._place.path}/{key}"
