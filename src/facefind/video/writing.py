"""`VideoWriter`: a video like the one that is read, with other pixels."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from errno import EDQUOT, ENOSPC, EROFS
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from facefind import forking
from facefind.errors import DataError, ImageError
from facefind.files import atomic
from facefind.images import read
from facefind.outputs import check_outputs
from facefind.video.mastering import mastering_options, not_kept
from facefind.video.opening import library
from facefind.video.planes import encodable, from_image
from facefind.video.reading import DecodedFrame, VideoReader

__all__ = ["CONTAINERS", "VideoWriter", "encode_settings"]

CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
}
"""Suffixes of the files that are written, and FFmpeg's name for what they hold."""

_CODECS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "21", "preset": "veryfast"},
    # Its B-frames have no decoding times where a video has few frames.
    "libx265": {"crf": "23", "preset": "veryfast", "x265-params": "log-level=none:bframes=0"},
    "libvpx-vp9": {
        "crf": "32",
        "b": "0",
        "deadline": "realtime",
        "cpu-used": "6",
        "row-mt": "1",
    },
}
_NO_ROOM = {EDQUOT, ENOSPC, EROFS}
_log = logging.getLogger(__name__)


def encode_settings(suffix: str, *, deep: bool = False) -> tuple[str, dict[str, str]]:
    """The encoder for files of a suffix, by FFmpeg's name, and its options.

    H.264 plays everywhere, but nearly nowhere with more than 8 bits: those are kept in H.265. WebM
    holds VP9.
    """
    name = "libvpx-vp9" if suffix == ".webm" else "libx265" if deep else "libx264"
    return name, _CODECS[name]


class VideoWriter:
    """Writes the frames of a video again: with its times, turn, colors, sound and subtitles.

    >>> with VideoReader("old.mp4", packets=True) as reader, VideoWriter("new.mp4", reader) as out:
    ...     for frame in reader:
    ...         out.write(frame, 255 - frame.image())

    What an HDR video says of the display that it was made for comes along in H.264 and H.265;
    what is left out is logged. Packets of sound and subtitles are copied as they are. The file
    appears once it is whole, at the end of the `with` block; if the block raises, there is none.

    Args:
        path: The file; its suffix, one of `CONTAINERS`, says what it becomes.
        reader: What is read, with `packets=True` if sound and subtitles are to come along.
        metadata: Whether title, date, place, chapters and the like come along.
        deep: Whether more than 8 bits are kept, where the video has them; drawn frames have 8.
        crf: Quality by the encoder's own scale, lower is better; None is a good one.
        preset: The encoder's own word for its speed; None is a fast one.

    Raises:
        DataError: the suffix is another, such files cannot hold the video's sound, or the file is
            the one that is read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        reader: VideoReader,
        *,
        metadata: bool = False,
        deep: bool = True,
        crf: int | None = None,
        preset: str | None = None,
    ) -> None:
        self.path, self._reader = Path(path), reader
        check_outputs([reader.source], files={"the video": self.path})
        suffix = self.path.suffix.lower()
        if suffix not in CONTAINERS:
            raise DataError(
                f"{self.path}: videos are written as {', '.join(CONTAINERS)}, got {suffix!r}"
            )
        first = reader.first.raw
        has_more = not isinstance(first, np.ndarray) and first.format.components[0].bits > 8
        self.deep = deep and has_more and suffix != ".webm"
        """Whether frames are encoded with 10 bits."""
        self._metadata = metadata
        self._codec, defaults = encode_settings(suffix, deep=self.deep)
        given = {"crf": None if crf is None else str(crf), "preset": preset}
        if self._codec == "libvpx-vp9":
            given = {"crf": given["crf"], "cpu-used": preset}
        self._options = defaults | {key: value for key, value in given.items() if value is not None}
        self._format = CONTAINERS[suffix]
        self._stack = ExitStack()
        self._generation = forking.generation()
        forking.keep(self)
        self._last: int | None = None
        self._copies: dict[int, Any] = {}

    def __enter__(self) -> Self:
        av = library()
        draft = self._stack.enter_context(atomic(self.path))
        try:
            self._out = av.open(
                f"file:{draft}",
                "w",
                format=self._format,
                options={"movflags": "+faststart"} if self._format in ("mp4", "mov") else {},
            )
            self._stack.callback(self._out.close)
            with self._named():
                self._stream = self._add_video()
            for stream in self._reader.others:
                self._add_copy(stream)
            if self._metadata:
                self._out.metadata.update(self._reader.metadata)
                self._out.set_chapters(self._reader.chapters)
        except BaseException as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._generation != forking.generation():
            return  # the file is the parent's
        try:
            if kind is None:
                self._copy(self._reader.rest)
                with self._named():
                    self._out.mux(self._stream.encode(None))
        except BaseException as failure:
            self._stack.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._stack.__exit__(kind, error, trace)

    def write(self, frame: DecodedFrame, instead: NDArray[np.uint8] | Any = None) -> None:
        """Encode a frame, and copy the sound and subtitles that came with it.

        Args:
            frame: As it was read.
            instead: What is shown in its place: an upright image, as `images.read` takes it, or a
                frame of PyAV, as `encodable` makes it.

        Raises:
            ImageError: frames are of several sizes, no images, or cannot be encoded.
            OSError: there is no room.
        """
        raw = frame.raw if instead is None else instead
        if not isinstance(raw, library().VideoFrame):
            raw = read(raw)
        if isinstance(raw, np.ndarray):
            own = isinstance(frame.raw, np.ndarray)  # a picture: the first one says which colors
            raw = from_image(frame.turn.stored(raw), self._template if own else frame.raw)
        raw = encodable(raw, deep=self.deep)
        if (raw.width, raw.height) != (self._stream.width, self._stream.height):
            raise ImageError(
                f"frame {frame.index} is of {raw.width}x{raw.height} pixels, those before of "
                f"{self._stream.width}x{self._stream.height}: a video is of one size"
            )
        pts = round(frame.time / self._time_base)
        if self._last is not None:
            pts = max(pts, self._last + self._least)
        self._last = pts
        raw.pts, raw.time_base, raw.pict_type = pts, self._time_base, 0
        self._copy(frame.packets)
        with self._named():
            self._out.mux(self._stream.encode(raw))

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors of FFmpeg become `ImageError`, those of the system stay `OSError`."""
        try:
            yield
        except library().error.FFmpegError as error:
            if error.errno in _NO_ROOM:
                raise OSError(error.errno, error.strerror, str(self.path)) from error
            raise ImageError(f"{self.path}: cannot be written: {error}") from error

    def _copy(self, packets: Iterable[Any]) -> None:
        """Take over packets of sound and subtitles, as they are."""
        for packet in packets:
            stream = self._copies.get(packet.stream_index)
            if stream is None:
                continue
            packet.stream = stream
            try:
                self._out.mux(packet)
            except library().error.FFmpegError as error:
                if error.errno in _NO_ROOM:
                    raise OSError(error.errno, error.strerror, str(self.path)) from error
                _log.warning("%s: a packet of sound is left out: %s", self.path, error)

    def _add_video(self) -> Any:
        reader = self._reader
        template = self._template
        if lost := not_kept(template, self._codec):
            _log.warning("%s: of HDR, it does not hold %s", self.path, ", ".join(lost))
        options = dict(self._options)
        for name, value in mastering_options(template, self._codec).items():
            options[name] = ":".join([*filter(None, [options.get(name)]), value])
        stream = self._out.add_stream(self._codec, rate=reader.rate, options=options)
        first = encodable(template, deep=self.deep)
        stream.width, stream.height = first.width, first.height
        stream.pix_fmt = first.format.name
        for name in ("color_range", "colorspace", "color_trc", "color_primaries"):
            setattr(stream, name, getattr(first, name))
        self._time_base = Fraction(1) / reader.rate
        if reader.stream is not None:
            self._time_base = Fraction(reader.stream.time_base)
            ratio = reader.stream.sample_aspect_ratio
            if ratio:
                stream.codec_context.sample_aspect_ratio = ratio
            if reader.matrix is not None:
                stream.set_display_matrix(reader.matrix)
        stream.time_base = stream.codec_context.time_base = self._time_base
        # Matroska rounds times to the millisecond: by so much frames must be apart.
        milliseconds = self._format in ("matroska", "webm")
        self._least = math.ceil(Fraction(1, 1000) / self._time_base) if milliseconds else 1
        if self._codec == "libx265" and self._format in ("mp4", "mov"):
            stream.codec_context.codec_tag = "hvc1"  # which Apple's players ask for
        return stream

    @property
    def _template(self) -> Any:
        """PyAV's frame that says what the video's frames are like."""
        raw = self._reader.first.raw
        if not isinstance(raw, np.ndarray):
            return raw
        frame = library().VideoFrame(raw.shape[1], raw.shape[0], "yuv420p")
        frame.colorspace, frame.color_range = 1, 1
        return frame

    def _add_copy(self, stream: Any) -> None:
        context = stream.codec_context
        name = None if context is None else context.name
        if name in self._out.supported_codecs:
            self._copies[stream.index] = self._out.add_stream_from_template(stream)
        elif stream.type == "audio":
            raise DataError(
                f"{self.path}: such files cannot hold sound of the kind {name or 'unknown'}: write "
                "an .mkv file, or leave the sound out"
            )
        else:
            _log.warning("%s: subtitles of the kind %s are left out", self.path, name)
