"""Videos written again with their faces hidden, in frames that the model missed them in, too.

A face that is found in some frames is hidden in those between, before and after, too. A file is
read twice: its faces are found, then it is written. Of a stream a few seconds are held back.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from facefind import boxes as box_math
from facefind.detector import FaceDetector
from facefind.errors import ImageError
from facefind.faces import Faces
from facefind.pipeline.videos import FrameLines
from facefind.redaction import Redaction
from facefind.video import (
    DecodedFrame,
    Filler,
    Tracker,
    TrackerConfig,
    Tracks,
    VideoReader,
    VideoWriter,
    filled,
    read_video,
    run_ahead,
    track,
)
from facefind.video.packed import Packed
from facefind.video.planes import encodable, hide_faces

__all__ = ["Detected", "Hiding", "redact_file", "redact_stream", "tracker_config"]

StreamFrame = tuple[DecodedFrame, Any, int]
_AHEAD_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class Hiding:
    """How long a face is hidden where it is not found."""

    lead: float = 1.0
    """Seconds before it is first found, and after it is last found."""
    most_gap: float = 2.0
    """Longest time, in seconds, between two frames in which it is found."""


def tracker_config(detector: FaceDetector) -> TrackerConfig:
    """How faces are followed that are to be hidden: any that is found is, for a start."""
    low = min(TrackerConfig.low_score, detector.min_score)
    return TrackerConfig(min_score=detector.min_score, low_score=low)


class Detected:
    """What was detected in the frames of a video, and where faces are hidden by it."""

    def __init__(self) -> None:
        self.times = array("d")
        """Seconds of all frames."""
        self._seen, self._cuts = Packed(), array("q")

    def append(self, time: float, faces: Faces | None, *, cut: bool = False) -> None:
        """Take in the next frame.

        Args:
            time: In seconds.
            faces: What was detected; None if the model has not seen it.
            cut: Whether it begins a scene; the model has seen such frames.
        """
        index = len(self.times)
        self.times.append(time)
        if cut:
            self._cuts.append(index)
        if faces is not None:
            bare = Faces(faces.boxes, faces.scores, image_size=faces.image_size)
            self._seen.append(index, time, bare)

    def follow(self, config: TrackerConfig, hiding: Hiding) -> Tracks:
        """Where faces are hidden: the tracks of what was detected, filled.

        Args:
            config: As of `tracker_config`.
            hiding: How long faces are hidden where they are not found.
        """
        times = np.array(self.times)
        tracks = track(self._seen, config, self._cuts)
        every = replace(tracks, frames=np.arange(len(times)), times=times)
        return filled(every, lead=hiding.lead, most_gap=hiding.most_gap)


def redact_file(
    source: str | Path,
    out: Path,
    detector: FaceDetector,
    how: Redaction,
    lines: FrameLines,
    *,
    every: int = 1,
    hiding: Hiding = Hiding(),
    sound: bool = True,
    metadata: bool = False,
) -> Generator[tuple[int, DecodedFrame | None, Any], None, Tracks]:
    """Find the faces of a video file, then write it without them; returns where they were hidden.

    Args:
        source: The file.
        out: The file to write, whole or not at all.
        detector: Finds the faces.
        how: How they are hidden.
        lines: Keeps what was found, so that a run that was stopped goes on.
        every: The model runs on every n-th frame, and on the first and last of each scene.
        hiding: How long faces are hidden where they are not found.
        sound: Whether sound and subtitles are copied.
        metadata: Whether title, date, place and the like come along.

    Yields:
        Index of a frame that was read, and in the second pass the frame and its picture as written
        (PyAV's), so that a caller can show progress.

    Raises:
        ImageError: the file cannot be read, or gives other frames the second time.
    """
    config = tracker_config(detector)
    found = Detected()
    with read_video(
        str(source), detector, every=every, track=Tracker(config), known=lines.known()
    ) as video:
        for frame in video:
            lines.write_frame(frame)
            seen = frame.detections if frame.detected else None
            found.append(float(frame.time), seen, cut=frame.cut)
            yield frame.index, None, None
    tracks = found.follow(config, hiding)
    with (
        VideoReader(str(source), packets=sound) as reader,
        VideoWriter(out, reader, metadata=metadata) as writer,
    ):
        total = 0
        for decoded, raw in _hidden(iter(reader), tracks, how, deep=writer.deep):
            index = decoded.index
            if index >= len(found.times) or float(decoded.time) != found.times[index]:
                raise ImageError(f"{source}: gives other frames each time it is decoded")
            writer.write(decoded, raw)
            total += 1
            yield index, decoded, raw
        if total != len(found.times):
            raise ImageError(f"{source}: gives other frames each time it is decoded")
    return tracks


def redact_stream(
    source: str,
    out: Path,
    detector: FaceDetector,
    how: Redaction,
    *,
    seconds: float | None = None,
    every: int = 1,
    hiding: Hiding = Hiding(),
    sound: bool = True,
) -> Generator[StreamFrame]:
    """Write a stream without its faces, a few seconds behind it.

    Faces are hidden as in files, but for what is seen only later than `hiding.most_gap`: so much is
    held back. The file is whole even where the stream breaks off or the process is interrupted;
    the error is raised after that.

    Args:
        source: An address, or the number of a camera.
        out: The file to write; it appears when the stream ends, or after `seconds`.
        detector: Finds the faces.
        how: How they are hidden.
        seconds: Length of the file; None is until the stream ends.
        every: The model runs on every n-th frame, and on the first and last of each scene.
        hiding: How long faces are hidden where they are not found.
        sound: Whether sound and subtitles are copied.

    Yields:
        Each frame, its picture as written (PyAV's), and how many faces are hidden in it.
    """
    filler = Filler(delay=max(hiding.most_gap, hiding.lead), lead=hiding.lead)
    waiting: dict[int, DecodedFrame] = {}
    ready: deque[tuple[int, float, Faces]] = deque()
    stopped: BaseException | None = None
    with VideoReader(source, packets=sound) as reader, VideoWriter(out, reader) as writer:

        def written() -> Generator[StreamFrame]:
            while ready:  # taken out one by one: an interrupt leaves each with its own frame
                index, _, faces = ready.popleft()
                frame = waiting.pop(index)
                raw = _hide(frame, faces, how, deep=writer.deep)
                writer.write(frame, raw)
                yield frame, raw, len(faces)

        tracker = Tracker(tracker_config(detector))
        with read_video(reader, detector, every=every, track=tracker, images=True) as video:
            try:
                for frame in video:
                    now, begin = float(frame.time), float(reader.first.time)
                    if seconds is not None and now - begin >= seconds:
                        break
                    assert frame.decoded is not None
                    waiting[frame.index] = frame.decoded
                    ready.extend(filler.push(frame.index, now, frame.faces, cut=frame.cut))
                    yield from written()
            except (ImageError, KeyboardInterrupt) as error:
                stopped = error
        try:
            ready.extend(filler.flush())
            yield from written()
        except ImageError as error:
            stopped = stopped or error
    if stopped is not None:
        raise stopped


def _hidden(
    frames: Iterable[DecodedFrame], tracks: Tracks, how: Redaction, *, deep: bool
) -> Generator[tuple[DecodedFrame, Any]]:
    """Frames and what is shown in place of each; decoding and hiding have a thread each."""

    def decoded() -> Generator[DecodedFrame]:
        yield from frames

    def edited() -> Generator[tuple[DecodedFrame, Any]]:
        for frame in run_ahead(decoded(), lambda one: one.nbytes, max_bytes=_AHEAD_BYTES):
            yield frame, _hide(frame, tracks.at(frame.index), how, deep=deep)

    return run_ahead(edited(), lambda pair: pair[0].nbytes, max_bytes=_AHEAD_BYTES)


def _hide(frame: DecodedFrame, faces: Faces, how: Redaction, *, deep: bool) -> Any:
    """PyAV's frame with the faces of the upright image hidden."""
    grown = box_math.expand(faces.boxes.astype(np.float64), (how.grow - 1) / 2)
    raw = encodable(frame.raw, deep=deep)
    hide_faces(raw, frame.turn.stored_boxes(grown, frame.image_size), how)
    return raw
