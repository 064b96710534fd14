"""Files by address: buckets and the like, read, listed page by page and written through fsspec.

Credentials, endpoints and profiles are fsspec's own: its configuration and environment variables.
"""

from __future__ import annotations

import glob
import os
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from facefind.errors import ImageError, RuntimeUnavailableError
from facefind.images import SUFFIXES, Found
from facefind.images.listing import fits, is_container, path_of

__all__ = ["Place", "files", "is_file", "name_of", "picture", "walk"]

_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "'facefind[cloud]'"),
    **dict.fromkeys(("gs", "gcs"), "'facefind[google]'"),
    **dict.fromkeys(("az", "abfs", "abfss"), "'facefind[azure]'"),
    **dict.fromkeys(("http", "https"), "fsspec aiohttp"),
}
"""What pip installs for the addresses of a scheme."""


class Place(NamedTuple):
    """A file system of fsspec, and a path in it."""

    system: Any
    path: str

    @classmethod
    def of(cls, url: str) -> Place:
        """The place of an address. Listings are not kept in memory.

        Raises:
            RuntimeUnavailableError: what reads such addresses is not installed.
            ImageError: it is no address that fsspec knows.
        """
        scheme = url.partition("://")[0].lower()
        package = _PACKAGES.get(scheme, "'facefind[cloud]'")
        try:
            from fsspec.core import url_to_fs

            system, path = url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            raise RuntimeUnavailableError(
                f"{scheme}:// addresses need a package that is missing ({error}): "
                f"pip install {package}"
            ) from error
        except ValueError as error:
            raise ImageError(f"{name_of(url)!r} is no address that is known: {error}") from error
        return cls(system, path)

    @property
    def here(self) -> Any:
        """The file system for this process: many of fsspec's refuse to work in a forked child."""
        if self.system._pid == os.getpid():
            return self.system
        return pickle.loads(pickle.dumps(self.system))

    @property
    def url(self) -> str:
        """The address of the place."""
        address: str = self.system.unstrip_protocol(self.path)
        return address

    def open(self, mode: str = "rb") -> IO[bytes]:
        """The file, opened to be read from its start to its end."""
        file: IO[bytes] = self.here.open(self.path, mode)
        return file


def name_of(url: str) -> str:
    """An address as results and messages have it: without user, password and signature."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def walk(url: str, keep: Callable[[str], bool]) -> Iterator[tuple[Place, str]]:
    """The files below an address, or those that fit its pattern, and their names below it.

    S3 is listed page by page; of other stores a folder at a time is in memory.

    Args:
        url: An address of a folder, a prefix or a pattern (`*`, `?`, `[`; `**` for any depth).
        keep: Whether a file of this name counts.

    Raises:
        ImageError: it cannot be listed; or, at the end, nothing was found.
    """
    place = Place.of(url)
    root, pattern = _split(place.path)
    none = True
    try:
        for path in files(place.system, root):
            name = path[len(root) :].lstrip("/")
            parts = name.split("/")
            if any(part.startswith(".") for part in parts) or not keep(name):
                continue
            if pattern and not fits(parts, pattern):
                continue
            none = False
            yield Place(place.system, path), name
    except Exception as error:  # each store has errors of its own
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{name_of(url)!r} cannot be listed: {error}") from error
    if none:
        raise ImageError(f"no pictures in {name_of(url)!r}")


def picture(url: str, name: str) -> Found:
    """The picture at an address, loaded when it is read.

    Raises:
        RuntimeUnavailableError: what reads such addresses is not installed.
    """
    return Found(Path(name), name, partial(_read, Place.of(url), name_of(url)))


def _read(place: Place, name: str) -> bytes:
    try:
        content: bytes = place.here.cat_file(place.path)
    except Exception as error:  # each store has errors of its own
        raise ImageError(f"{name!r} cannot be read: {error or type(error).__name__}") from error
    return content


def _split(path: str) -> tuple[str, tuple[str, ...]]:
    """What is fixed of a path, and the parts of its pattern, none where it has none."""
    parts = PurePosixPath(path).parts
    fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return str(PurePosixPath(*parts[:fixed])) if fixed else "", parts[fixed:]


def files(system: Any, root: str) -> Iterator[str]:
    """Paths of all files below a path, each once, in the store's order."""
    if hasattr(system, "call_s3"):
        yield from _s3_files(system, root)
        return
    folders = [root]
    while folders:
        entries = system.ls(folders.pop(), detail=True)
        entries.sort(key=lambda entry: entry["name"])
        yield from (entry["name"] for entry in entries if entry["type"] == "file")
        below = (entry["name"] for entry in entries if entry["type"] == "directory")
        folders += reversed([path for path in below if path.rstrip("/") != root.rstrip("/")])


def _s3_files(system: Any, root: str) -> Iterator[str]:
    bucket, prefix, _ = system.split_path(root)
    more: dict[str, str] = {}
    while True:
        prefixed = f"{prefix}/" if prefix else ""
        page = system.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefixed, **more)
        for entry in page.get("Contents", ()):
            if not entry["Key"].endswith("/"):
                yield f"{bucket}/{entry['Key']}"
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def is_file(url: str) -> bool:
    """Whether an address names a picture or container, by its suffix alone."""
    path = path_of(url)  # a signature begins with ?, which is no pattern
    suffix = PurePosixPath(path).suffix.lower()
    return not glob.has_magic(path) and (is_container(url) or suffix in SUFFIXES)
