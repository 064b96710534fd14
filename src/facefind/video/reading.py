"""`VideoReader`: the frames of a video one after another, whatever is broken in it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from facefind import forking, images
from facefind.errors import ImageError
from facefind.video.opening import (
    Numbered,
    is_stream,
    library,
    numbered,
    open_video,
    rate_of,
)
from facefind.video.timeline import Replays, Timeline
from facefind.video.turning import UPRIGHT, Turn

__all__ = ["DecodedFrame", "VideoReader"]

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0  # seconds until a lost stream is opened again
_PLAYLISTS = {"hls", "dash"}
_MOST_ERRORS = 1000  # in a row, of a file that is only noise
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFrame:
    """One frame of a video, as it was decoded."""

    index: int
    """From 0, in the order in which frames are shown."""
    time: Fraction
    """When it is shown, in seconds, exactly as the file says."""
    raw: Any
    """PyAV's frame, as it is stored; of numbered pictures the upright image (H,W,3) uint8."""
    turn: Turn = UPRIGHT
    """The rotation and mirroring that make it upright."""
    packets: tuple[Any, ...] = ()
    """PyAV's packets of sound and subtitles that came before it, with `packets=True`."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Upright (height, width)."""
        if isinstance(self.raw, np.ndarray):
            return self.raw.shape[0], self.raw.shape[1]
        return self.turn.size((self.raw.height, self.raw.width))

    def image(self) -> NDArray[np.uint8]:
        """The upright image, (H,W,3) uint8 RGB, made anew by each call."""
        if isinstance(self.raw, np.ndarray):
            return self.raw
        return self.turn.upright(self.raw.to_ndarray(format="rgb24"))

    @property
    def nbytes(self) -> int:
        """Bytes that the frame takes."""
        if isinstance(self.raw, np.ndarray):
            return self.raw.nbytes
        return sum(plane.buffer_size for plane in self.raw.planes)


class VideoReader:
    """The frames of a video, in the order in which they are shown.

    >>> with VideoReader("movie.mp4") as reader:
    ...     for frame in reader:
    ...         frame.index, frame.time, frame.image()

    What cannot be decoded is counted and passed over. A stream that stops is opened again, after
    0.5 seconds, then after twice as long each time; its times go on rising, and what it sends again
    is left out. Where a video counts its time anew, as joined files do, it goes on with its last
    time.

    Args:
        source: A video file, an address (rtsp://, http://, ...), the number of a camera, a pattern
            of numbered pictures (frames_%05d.png) or a folder of pictures.
        packets: Whether frames bring the packets of sound and subtitles along.
        rate: Frames a second of numbered pictures, which say nothing of it.
        retries: How many times in a row a stream is opened again.
        timeout: Seconds after which a stream that gives nothing counts as stopped.

    Attributes:
        stream: PyAV's stream of the video; None of numbered pictures.
        others: PyAV's streams of sound and subtitles, with `packets=True`.
        broken: Packets that could not be decoded, so far.
        reconnects: How many times a stream was opened again, so far.

    Raises:
        ImageError: the source cannot be opened, or no frame of it be decoded.
    """

    def __init__(
        self,
        source: str | int | os.PathLike[str],
        *,
        packets: bool = False,
        rate: float | Fraction = 25,
        retries: int = 5,
        timeout: float = 10.0,
    ) -> None:
        if not rate > 0 or retries < 0 or not timeout > 0:
            raise ValueError(
                "rate and timeout must be above 0 and retries at least 0, got "
                f"{rate}, {timeout}, {retries}"
            )
        self.source = str(source) if isinstance(source, int) else os.fspath(source)
        self.stream: Any = None
        self.others: list[Any] = []
        self._came: list[Any] = []  # packets for the next frame to bring along
        self._rest: list[Any] = []
        self.broken = self.reconnects = 0
        self._packets_too = packets
        self._retries, self._timeout = retries, timeout
        self._container: Any = None
        self._begun = False
        self._generation = forking.generation()
        forking.keep(self)
        self._index = 0
        self._kinds: dict[int, str] | None = None
        self._replays = Replays()
        pictures = None if is_stream(self.source) else numbered(self.source)
        self.matrix: list[int] | None = None
        """The display matrix (9,) that says how frames are turned; None where none does."""
        self.metadata: dict[str, str] = {}
        """What the file says of itself, such as title, date and place."""
        self.chapters: list[Any] = []
        """The file's chapters, as PyAV gives them."""
        self.live = False
        """Whether the video comes as it is made, and has no end."""
        self.duration: Fraction | None = None
        """Seconds, as the header says; None where it does not."""
        self.frames: int | None = None
        """About how many frames there are; None where nobody knows."""
        if pictures is not None:
            self.rate = Fraction(rate).limit_denominator(1_000_000)
            """Frames a second, on average, as the header says."""
            self.frames = len(pictures)
            self._timeline = Timeline(self.rate, live=False)
            self._items: Iterator[DecodedFrame] = self._from_pictures(pictures)
        else:
            self._open()
            self._read_header()
            self._items = self._from_stream()
        first = next(self._items, None)  # before it, nothing says how frames are turned
        if first is None:
            self.close()
            raise ImageError(f"{self.source!r}: not one frame of it can be decoded")
        self.first = first
        """The first frame, for what all have in common; who reads on may change its pixels."""
        self.image_size = first.image_size
        """Upright (height, width)."""
        self._items = chain([first], self._items)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file or stream; a forked child leaves it to its parent."""
        if self._container is not None and self._generation == forking.generation():
            self._container.close()

    def __iter__(self) -> Generator[DecodedFrame]:
        """Each frame in turn; this goes once.

        Raises:
            ImageError: a stream stopped, and did not come back.
        """
        if self._begun:
            raise ValueError("a video is read once: make another VideoReader")
        self._begun = True
        yield from self._items

    @property
    def rest(self) -> list[Any]:
        """Packets of sound and subtitles that no frame brought along: those after the last one."""
        self._rest += self._timeline.moved(self._came, over=True)
        self._came = []
        return self._rest

    def _open(self) -> None:
        self._container, self.stream = open_video(self.source, self._timeout)
        streams = self._container.streams
        others = [*streams.audio, *streams.subtitles] if self._packets_too else []
        kinds = {one.index: one.name for one in others}
        self._kinds = kinds if self._kinds is None else self._kinds  # of the first connection
        self.others = [one for one in others if self._kinds.get(one.index) == one.name]

    def _read_header(self) -> None:
        self.rate = rate_of(self.stream)
        self.metadata = dict(self._container.metadata)
        self.chapters = self._container.chapters()
        if self.stream.duration:
            self.duration = self.stream.duration * Fraction(self.stream.time_base)
        elif self._container.duration:
            self.duration = Fraction(self._container.duration, 1_000_000)
        if self.stream.frames or self.duration:
            self.frames = self.stream.frames or round((self.duration or 0) * self.rate)
        # The size of a playlist is that of its text.
        listed = self._container.format.name in _PLAYLISTS
        known = self.duration or (not listed and (self._container.size or 0) > 0)
        self.live = is_stream(self.source) and not known
        self._unsized = self.live and not listed  # it may be a file, for all that is said
        self._timeline = Timeline(self.rate, live=self.live)

    def _from_pictures(self, pictures: Numbered) -> Iterator[DecodedFrame]:
        first = pictures[0][0]
        for number, path in pictures:
            try:
                image = images.read(path)
            except ImageError as error:
                _log.warning("%s", error)
                self.broken += 1
                continue
            yield DecodedFrame(self._index, (number - first) / self.rate, image)
            self._index += 1

    def _from_stream(self) -> Iterator[DecodedFrame]:
        failures = (library().error.FFmpegError, OSError)
        tries = 0
        while True:
            new = known = 0  # frames of this connection
            reason, silent = "it ended", False
            try:
                for frame in self._once():
                    if self._is_known(frame):
                        known += 1
                        continue
                    new, tries = new + 1, 0
                    now = self._timeline.at(frame.time, anew=new == 1)
                    packets = tuple(self._timeline.moved(frame.packets))
                    yield replace(frame, index=self._index, time=now, packets=packets)
                    self._index += 1
                over = not self._stopped_early()
            except failures as error:
                if not is_stream(self.source):
                    raise ImageError(f"{self.source!r} cannot be read on: {error}") from error
                over, reason = False, str(error)
                if silent := isinstance(error, library().error.ExitError):
                    reason = f"nothing came for {self._timeout:g} seconds"
            if over or (self._unsized and not silent and 0 < known == self._index):
                return  # a file, of which all came again
            while True:
                if tries == self._retries:
                    raise ImageError(
                        f"the stream {self.source!r} stopped after {self._index} frames "
                        f"({reason}), and did not come back in {tries} tries"
                    )
                time.sleep(min(_FIRST_WAIT * 2**tries, _LONGEST_WAIT))
                tries += 1
                self.close()
                try:
                    self._open()
                except ImageError as error:
                    reason = str(error)
                    continue
                self.reconnects += 1
                self._replays.reconnected()
                _log.warning("the stream %r stopped, and came back", self.source)
                break

    def _is_known(self, frame: DecodedFrame) -> bool:
        """Whether a frame was read before, over an earlier connection."""
        if self.live:
            return frame.raw in self._replays
        last = self._timeline.last
        return bool(self.reconnects) and last is not None and frame.time <= last

    def _stopped_early(self) -> bool:
        """Whether there should be more where the stream ended."""
        if not is_stream(self.source):
            return False
        if self.live:
            return True
        last, end = self._timeline.last, self.duration
        start = (self.stream.start_time or 0) * self.stream.time_base
        return bool(end and (last is None or last < start + end - max(1, end / 20)))

    def _once(self) -> Iterator[DecodedFrame]:
        """Frames, each with its own time, until the stream ends."""
        base = Fraction(self.stream.time_base)
        last: Fraction | None = None
        turn: Turn | None = None
        for item in self._decoded():
            if not hasattr(item, "planes"):
                self._came.append(item)
                continue
            if item.pts is not None:
                last = item.pts * Fraction(item.time_base or base)
            else:
                last = Fraction(0) if last is None else last + 1 / self.rate
            if turn is None:
                self.matrix = _matrix_of(item)
                turn = UPRIGHT if self.matrix is None else Turn.of_matrix(self.matrix)
            packets, self._came = self._came, []
            yield DecodedFrame(0, last, item, turn, tuple(packets))

    def _decoded(self) -> Iterator[Any]:
        """PyAV's frames and packets of others; what cannot be decoded is counted."""
        av = library()
        errors = 0
        for packet in self._packets():
            if packet is not None and packet.stream_index != self.stream.index:
                if packet.size:
                    yield packet
                continue
            if self.live and packet is not None and packet.size:
                self._replays.see(packet)
            try:
                frames = self.stream.decode(packet)
            except av.error.EOFError:
                return
            except av.error.FFmpegError as error:
                if isinstance(error, MemoryError):
                    raise
                _log.debug("%s: %s", self.source, error)
                self.broken += 1
                errors += 1
                if errors > _MOST_ERRORS:
                    return
                continue
            errors = 0 if frames else errors
            yield from frames

    def _packets(self) -> Iterator[Any]:
        """PyAV's packets as they come; at the end empty ones, or None, which have all decoded."""
        av = library()
        failure: Exception | None = None
        for _ in range(_MOST_ERRORS):
            try:
                yield from self._container.demux([self.stream, *self.others])
                return
            except av.error.InvalidDataError as error:  # what follows may be whole
                _log.debug("%s: %s", self.source, error)
                self.broken += 1
            except (av.error.FFmpegError, OSError) as error:
                failure = error  # once what has come is decoded
                break
        yield None
        if failure is not None:
            raise failure


def _matrix_of(raw: Any) -> list[int] | None:
    for entry in raw.side_data:
        if entry.type.name == "DISPLAYMATRIX":
            matrix: list[int] = np.frombuffer(entry, np.int32).tolist()
            return matrix
    return None
