"""Folders and addresses with the files that are made of images, and a list of what is done."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from facefind.errors import DataError, FacefindError
from facefind.files import scratch
from facefind.pipeline.leases import hold
from facefind.pipeline.resuming import SETTINGS, Note, check_folder
from facefind.pipeline.sinks import JsonLines, Sink
from facefind.pipeline.stores import Store, open_store
from facefind.pipeline.tars import TarFiles

__all__ = ["ListedFolder", "open_manifest"]

_log = logging.getLogger(__name__)
_LOCK = ".lock/writer"
_LEASE = 60.0  # seconds
_EVERY, _SHARE = 30.0, 0.05  # seconds between two uploads at least, and the share of time they take


class ListedFolder(Sink):
    """A place with the files that are made of images, recorded image by image in a list.

    Args:
        where: A folder, made where it is not there, or an address, such as s3://bucket/crops.
        holds: What is in it, for messages.
        manifest: The list's name there.
        made_with: What the files depend on.
        per_tar: Images whose files go into a tar file together; None writes files.
        resume: Whether to add to what is there.

    Attributes:
        names: Images that were done before.

    Raises:
        DataError: there are results already, and they are not resumed or were made with other
            settings; there are other files; or another process writes there.
    """

    def __init__(
        self,
        where: str | Path,
        holds: str,
        manifest: str,
        made_with: Mapping[str, Any],
        *,
        per_tar: int | None,
        resume: bool,
    ) -> None:
        self._store, self._begun = open_store(where), False
        settings = {**made_with, "holds": holds}
        if per_tar is not None:
            settings["per_tar"] = per_tar
        self._note = Note(self._store, SETTINGS, settings)
        check_folder(self._store, self._note, holds, resume=resume)
        self._manifest = open_manifest(self._store, manifest)
        self.names = self._manifest.names
        self._tars = None if per_tar is None else TarFiles(self._store, per_tar, self._manifest)

    def begin(self) -> None:
        """Write the settings, and open the list."""
        if not self._begun and not self._note.is_there:
            self._note.write()
        self._begun = True
        self._manifest.begin()

    def close(self) -> None:
        """Close the last tar file, where there is one, and the list."""
        try:
            if self._tars is not None:
                self._tars.close()
        finally:
            self._manifest.close()

    def record(
        self,
        record: dict[str, Any],
        files: Mapping[str, bytes] | None,
        beside: Mapping[str, bytes] = {},
    ) -> None:
        """Write an image's files by name, and list the image once they are there, whole.

        Args:
            record: Its line of the list.
            files: Its files; None where they are there already.
            beside: More of them, in tar files alone.
        """
        if self._tars is not None and files is not None:
            self._tars.add({**files, **beside}, record)
        else:
            self._store.put_all(files or {})
            self._manifest.write(record)


def open_manifest(store: Store, key: str) -> JsonLines:
    """The list in a place, to be added to; no other process may write to the place until it ends.

    That of an address is kept in the folder for temporary files, and put there, whole, about every
    30 seconds and at the end. What a kill interrupts is not listed, and made again.

    Args:
        store: The place.
        key: The list's name there.

    Raises:
        DataError: it is no such list, or another process writes to the place.
    """
    return _Stored(store, key) if store.root is None else JsonLines(store.root / key, resume=True)


class _Stored(JsonLines):
    """Lines that are put to a store as they grow."""

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key
        self._lease = hold(store, _LOCK, _LEASE)
        self._scratch = ExitStack()
        self._next, self._new, self._closed = time.monotonic() + _EVERY, False, False
        path = self._scratch.enter_context(scratch()) / key
        try:
            path.write_bytes(store.get(key) or b"")
            super().__init__(path, resume=True)
        except BaseException as error:
            self._end()
            if isinstance(error, DataError):
                named = str(error).replace(os.fspath(path), f"{store.where}/{key}")
                raise DataError(named) from None
            raise

    def begin(self) -> None:
        """As of `JsonLines`.

        Raises:
            FacefindError: another process has taken the place over, as after a long sleep.
        """
        self._check_lease()
        self._new = self._new or self._file is None
        super().begin()

    def write_all(self, records: Iterable[Mapping[str, Any]]) -> None:
        """As of `JsonLines`."""
        super().write_all(records)
        self._new = True
        if time.monotonic() > self._next:
            try:
                self._put()
            except OSError as error:  # the images are done all the same; the next try may succeed
                self._next = time.monotonic() + _EVERY
                _log.warning("%s was not put to %s: %s", self._key, self._store.where, error)

    def close(self) -> None:
        """Put the list to its place, and let others write there."""
        if self._closed:
            return
        super().close()
        try:
            if self._new:
                self._check_lease()
                self._put()
        finally:
            self._end()

    def _check_lease(self) -> None:
        if self._lease.lost:
            raise FacefindError(
                f"{self._store.where} was taken over by another process, since this one said "
                "nothing for too long: resume it once that one is done"
            )

    def _put(self) -> None:
        began = time.monotonic()
        self._store.upload(self._key, self.path)
        self._new = False
        ended = time.monotonic()
        self._next = ended + max(_EVERY, (ended - began) / _SHARE)

    def _end(self) -> None:
        self._closed = True
        self._scratch.close()
        self._lease.stop()
        if not self._lease.lost:
            self._lease.release()
