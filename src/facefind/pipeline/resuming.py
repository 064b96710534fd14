"""What an output was made with, kept beside it, so that nothing is resumed with other settings."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from facefind.detector import FaceDetector
from facefind.errors import DataError
from facefind.files import json_bytes, plain, sha256
from facefind.images.listing import is_remote, pattern_root
from facefind.pipeline.remote import name_of
from facefind.pipeline.stores import Folder, Store

__all__ = ["SETTINGS", "Note", "check_folder", "detector_settings", "image_folders"]

SETTINGS = "settings.json"
"""Name of the note in a folder of results."""

_NOT_COMPARED = {"model"}  # a name: the weights have their digest


class Note:
    """A JSON file that says what an output was made with.

    Args:
        store: Where it lies.
        key: Its name there.
        settings: What the output is made with now, as plain values.
    """

    def __init__(self, store: Store, key: str, settings: Mapping[str, Any]) -> None:
        self._store, self._key = store, key
        self.settings = plain(dict(settings))

    @classmethod
    def beside(cls, output: Path, settings: Mapping[str, Any]) -> Note:
        """The note of a file."""
        return cls(Folder(output.parent), output.name + ".source.json", settings)

    @property
    def is_there(self) -> bool:
        """Whether there is one."""
        return self._store.get(self._key) is not None

    def check(self, output: str, otherwise: str = "give another place") -> None:
        """Check that the output that is there was made with the same settings.

        Args:
            output: It, for the message.
            otherwise: What to do where it was not, for the message.

        Raises:
            DataError: it was made with others, or nothing says with which.
        """
        if not self.is_there:
            raise DataError(
                f"{output} is there already, and no {self._key} beside it that says what made "
                f"it; {otherwise}"
            )
        before = self.read()
        for key, value in self.settings.items():
            if key not in _NOT_COMPARED and before.get(key) != value:
                raise DataError(
                    f"{output} was made with {key} {_short(before.get(key))}, not {_short(value)}; "
                    f"{otherwise}"
                )

    def write(self) -> None:
        """Put the note where it belongs, whole."""
        with self._store.draft(self._key) as draft:
            draft.write_bytes(json_bytes(self.settings))

    def read(self) -> dict[str, Any]:
        """What the note says.

        Raises:
            DataError: it cannot be read.
        """
        name = f"{self._store.where}/{self._key}"
        try:
            content = json.loads((self._store.get(self._key) or b"").decode())
        except (OSError, ValueError) as error:
            raise DataError(f"{name}: cannot be read ({error})") from None
        if not isinstance(content, dict):
            raise DataError(f"{name}: expected a JSON object that says what made the output")
        return content


def check_folder(
    store: Store, note: Note, what: str, *, resume: bool = False, overwrite: bool | None = None
) -> None:
    """Check that results may be written into a place: a new one, an empty one, or one of ours.

    Args:
        store: It.
        note: Its `SETTINGS`.
        what: is in it, for the message.
        resume: Whether to add to what the same settings made.
        overwrite: Whether to replace what any settings made; None where nothing is ever replaced.

    Raises:
        DataError: it holds other files, or results that are neither resumed nor replaced.
    """
    if store.is_empty:
        return
    if not note.is_there or note.read().get("holds") != note.settings["holds"]:
        raise DataError(
            f"{store.where} holds files that are no {what} of facefind: give a new or an empty "
            "folder"
        )
    if resume:
        note.check(f"what {store.where} holds", "give another folder")
    elif not overwrite:
        replace = "" if overwrite is None else "replace them (--overwrite), "
        raise DataError(
            f"{store.where} has {what} already: resume them (--resume), {replace}or give another "
            "folder"
        )


def detector_settings(detector: FaceDetector) -> dict[str, Any]:
    """All that the faces of a detector depend on, as plain values.

    `weights_sha256` is None for a network that is not in a file.
    """
    from facefind import __version__

    runtime = detector.runtime
    file = getattr(runtime, "path", None)
    settings = {
        "model": detector.card.name,
        "precision": runtime.precision,  # before the file that it is of: the first is named
        "weights_sha256": None if file is None else sha256(file),
        "test_protocol": detector.protocol.to_dict(),
        "min_score": detector.min_score,
        "runtime": runtime.name,
        "runtime_version": _version(runtime.name),
        "provider": runtime.provider,
        "facefind": __version__,
    }
    seldom = {
        "max_faces": detector.max_faces,
        "mesh": detector.mesh_decoder is not None,
        "truncated": detector.truncated != "error" and detector.truncated,
    }
    return settings | {key: value for key, value in seldom.items() if value}


def image_folders(sources: Iterable[str | os.PathLike[str]]) -> dict[str, list[str]]:
    """A setting: the folders that the names of images count from, given what is searched.

    Two searches with the same folders have the same names for the same images.
    """
    found: set[str] = set()
    for source in map(str, sources):
        if source == "-" or is_remote(source):
            found.add(name_of(source))
        elif os.path.isdir(source):
            found.add(os.path.realpath(source))
        elif not os.path.exists(source) and glob.has_magic(source):
            found.add(os.path.realpath(pattern_root(source)))
        elif not os.path.isabs(source):
            found.add(os.getcwd())
    return {"image_folders": sorted(found)}


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 400 else text[:397] + "..."


def _version(runtime: str) -> str | None:
    for package in (runtime, f"{runtime}-gpu"):
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return None
