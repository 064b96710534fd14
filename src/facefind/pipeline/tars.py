"""Files of images in tar files, as WebDataset lays them out, each whole before it is recorded."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from facefind import forking
from facefind.errors import DataError
from facefind.files import read_json_lines
from facefind.pipeline.sinks import JsonLines
from facefind.pipeline.stores import Store

__all__ = ["TarFiles"]


class TarFiles:
    """Writes 00000.tar, 00001.tar, ... with the files that are made of so many images each.

    An image is recorded, with "tar" in its line, once its tar file is there, whole. What a kill
    interrupts is not recorded, and made again, under the same number.

    Args:
        store: Where they lie.
        images: How many images go into each.
        records: Where images are recorded; also read, for the number of the next tar file.

    Raises:
        DataError: the number of images is less than 1.
    """

    def __init__(self, store: Store, images: int, records: JsonLines) -> None:
        if images < 1:
            raise DataError(f"a tar file holds at least one image, got {images}")
        self._store, self._images, self._records = store, images, records
        self._generation = forking.generation()
        self._waiting: list[dict[str, Any]] = []
        self._stack = ExitStack()
        self._tar: tarfile.TarFile | None = None
        numbers = [-1]
        if records.path.exists():
            lines = (record for _, record in read_json_lines(records.path))
            numbers += [int(one["tar"].partition(".")[0]) for one in lines if "tar" in one]
        self._next = max(numbers) + 1

    def add(self, contents: Mapping[str, bytes], record: dict[str, Any]) -> None:
        """Add an image's files by name, and its record."""
        if self._generation != forking.generation():
            raise DataError(
                "the process that began these tar files writes them, not one that is forked from "
                "it: begin a folder of its own here"
            )
        name = f"{self._next:05}.tar"
        if self._tar is None:
            draft = self._stack.enter_context(self._store.draft(name))
            self._tar = self._stack.enter_context(tarfile.open(draft, "w"))  # noqa: SIM115
            forking.keep(self._tar.fileobj)  # a child would write what it buffers, too
        for file, content in contents.items():
            member = tarfile.TarInfo(file)
            member.size, member.mode = len(content), 0o644
            self._tar.addfile(member, io.BytesIO(content))
        record["tar"] = name
        self._waiting.append(record)
        if len(self._waiting) >= self._images:
            self.close()

    def close(self) -> None:
        """Put the last tar file in its place, and record its images."""
        if self._tar is None:
            return
        self._tar = None
        with self._stack:
            self._records.begin()  # raises where another process writes here by now
        self._records.write_all(self._waiting)
        self._waiting = []
        self._next += 1
