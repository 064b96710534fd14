"""Where videos come from: files, streams, cameras and numbered pictures."""

from __future__ import annotations

import os
import re
import sys
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from facefind.errors import ImageError
from facefind.images import find
from facefind.images.listing import is_remote

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "SUFFIXES",
    "Numbered",
    "is_stream",
    "is_video",
    "library",
    "name_of",
    "numbered",
    "open_video",
]

SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("mp4", "m4v", "mov", "qt", "mkv", "webm", "avi", "mpg", "mpeg", "mpe", "ts", "mts"),
        *("m2ts", "wmv", "asf", "flv", "f4v", "3gp", "3g2", "ogv", "mxf", "vob", "mjpeg", "mjpg"),
    )
)
"""Suffixes, in lower case, of the files in a folder that are taken for videos."""

_NUMBER = re.compile(r"%0?\d*d")
_CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}

Numbered = list[tuple[int, Path]]
"""Picture files with the number of each, in their order."""


def library() -> ModuleType:
    """PyAV, quiet.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how.
    """
    try:
        import av
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "videos are read and written by PyAV: pip install 'facefind[video]'", name="av"
        ) from error
    av.logging.set_level(None)
    return av


def is_stream(source: object) -> bool:
    """Whether a source is a camera's number or a stream's address, such as rtsp://host/path.

    Addresses of pictures, as `images.listing.is_remote` knows them, are not.
    """
    text = str(source)
    camera = text.isdecimal() and not os.path.exists(text)
    return camera or ("://" in text and not is_remote(text))


def is_video(source: object) -> bool:
    """Whether a source of a command means a video: a stream, or a name with one of `SUFFIXES`.

    A name with %05d means numbered pictures, which are a video too.
    """
    text = str(source)
    if is_stream(text):
        return True
    pattern = _NUMBER.search(os.path.basename(text)) and not os.path.exists(text)
    known = os.path.splitext(text)[1].lower() in SUFFIXES and not os.path.isdir(text)
    return bool(pattern) or known


def name_of(source: str | os.PathLike[str]) -> str:
    """What a source is called in results: a file by its name, an address without its password."""
    text = os.fspath(source)
    if not is_stream(text):
        return os.path.basename(text)
    parts = urlsplit(text)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def numbered(source: str | os.PathLike[str]) -> Numbered | None:
    """The pictures of a pattern such as frames_%05d.png, or of a folder; None if it is neither.

    Those of a folder are numbered by the order of their names.

    Raises:
        ImageError: there are no such pictures.
    """
    path = Path(source)
    if path.is_dir():
        return [(number, found.path) for number, found in enumerate(find(path))]
    if path.exists() or len(_NUMBER.findall(path.name)) != 1:
        return None
    before, after = _NUMBER.split(path.name)
    fits = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
    files = [] if not path.parent.is_dir() else list(path.parent.iterdir())
    matches = ((fits.fullmatch(file.name), file) for file in files)
    found = sorted((int(match[1]), file) for match, file in matches if match)
    if not found:
        raise ImageError(f"no pictures are called {os.fspath(source)!r}")
    return found


def open_video(source: str | os.PathLike[str], timeout: float) -> tuple[Any, Any]:
    """An open container and its video stream.

    Args:
        source: A file, an address or the number of a camera.
        timeout: Seconds after which a stream that says nothing is given up.

    Raises:
        ImageError: it cannot be opened, or holds no video.
    """
    av = library()
    text = os.fspath(source)
    options: dict[str, str] = {}
    form = None
    if text.isdecimal():
        form, device = _CAMERAS.get(sys.platform, ("dshow", "video={}"))
        text = device.format(text)
    elif text.startswith("rtsp"):
        options = {"rtsp_transport": "tcp"}
    elif text.startswith("udp"):
        options = {"overrun_nonfatal": "1"}  # who reads too slowly loses packets, not the stream
    elif not is_stream(text):
        if not os.path.exists(text):
            raise ImageError(f"{text!r} does not exist: give a video file, an address or a camera")
        if not os.path.isfile(text):
            raise ImageError(f"{text!r} is not a regular file")
        text = f"file:{text}"  # whatever is in the name
    limit = (timeout, timeout) if is_stream(source) else None
    try:
        container = av.open(text, format=form, options=options, timeout=limit,
                            metadata_errors="replace")  # fmt: skip
    except av.error.ExitError as error:
        raise ImageError(f"{os.fspath(source)!r} gave nothing for {timeout:g} seconds") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ImageError(f"{os.fspath(source)!r} is no video that can be read: {error}") from error
    pictures = av.stream.Disposition.attached_pic  # the cover of an album, a preview
    streams = [s for s in container.streams.video if not s.disposition & pictures]
    if not streams or not streams[0].codec_context:
        container.close()
        raise ImageError(f"{os.fspath(source)!r} holds no video that can be decoded")
    stream = streams[0]
    stream.thread_type = "AUTO"
    return container, stream


def rate_of(stream: Any) -> Fraction:
    """Frames a second of a stream, as its header says; 25 where it does not."""
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return Fraction(rate) if rate and 0 < rate < 1000 else Fraction(25)
