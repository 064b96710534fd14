"""`read_video`: the faces of a video, frame by frame, while the next frames are decoded."""

from __future__ import annotations

import copy
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from facefind.detector import FaceDetector
from facefind.errors import ImageError, check_whole
from facefind.faces import Faces
from facefind.video.ahead import run_ahead
from facefind.video.cuts import CutDetector
from facefind.video.reading import DecodedFrame, VideoReader
from facefind.video.tracking import Tracker, TrackerConfig, with_ids

__all__ = ["Video", "VideoFrame", "read_video"]


@dataclass(frozen=True, slots=True, eq=False)
class VideoFrame:
    """One frame of a video and its faces."""

    index: int
    """From 0, in the order in which frames are shown."""
    time: Fraction
    """When it is shown, in seconds, exactly as the video says; `float(frame.time)`."""
    faces: Faces
    """In pixels of the upright frame; with ids where the video is tracked."""
    detected: bool = True
    """Whether the model has seen the frame; otherwise the faces are where they are expected."""
    cut: bool = False
    """Whether the frame begins a new scene; known where the video is tracked."""
    image: NDArray[np.uint8] | None = None
    """(H,W,3) uint8 RGB, upright; None unless `images=True`."""
    decoded: DecodedFrame | None = None
    """What `VideoWriter.write` takes; None unless `images=True`."""
    doubted: Faces | None = None
    """Detections that are too weak for a face of their own, and belong to no track."""

    @property
    def detections(self) -> Faces:
        """All that the model found, whatever became of it; no ids."""
        parts = [part for part in (self.faces, self.doubted) if part] or [self.faces]

        def stacked(name: str) -> Any:
            arrays = [getattr(part, name) for part in parts]
            return None if any(array is None for array in arrays) else np.concatenate(arrays)

        names = ("boxes", "scores", "landmarks", "mesh")
        return Faces(*map(stacked, names), image_size=self.faces.image_size)


class Video(Iterator[VideoFrame]):
    """The frames of a video with their faces, one after another; a `with` block closes it.

    Attributes:
        reader: What decodes the video, which knows its size, rate and what was broken.
    """

    def __init__(
        self,
        reader: VideoReader,
        frames: Generator[VideoFrame],
        decoding: Generator[Any],
        *,
        own: bool,
    ) -> None:
        self.reader, self._frames, self._decoding, self._own = reader, frames, decoding, own

    def __next__(self) -> VideoFrame:
        return next(self._frames)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop decoding, and close the file or stream, unless a reader of it was given."""
        self._frames.close()
        self._decoding.close()  # after an error, what handed its frames on still holds it
        if self._own:
            self.reader.close()


def read_video(
    source: str | int | os.PathLike[str] | VideoReader,
    detector: FaceDetector | None = None,
    *,
    every: int = 1,
    track: bool | Tracker = False,
    images: bool = False,
    known: Iterable[Faces | None] = (),
    prefetch_bytes: int = 128 << 20,
) -> Video:
    """The frames of a video with their faces, while a thread decodes those that follow.

    >>> for frame in facefind.read_video("movie.mp4", track=True):
    ...     print(frame.index, float(frame.time), frame.faces.ids)

    Args:
        source: A video file, an address (rtsp://, http://, ...), the number of a camera, a pattern
            of numbered pictures (frames_%05d.png), a folder of pictures, or an open reader.
        detector: Finds the faces; None is a new one of the default model.
        every: The model runs on every n-th frame. With `track` also on the first and last of each
            scene, and those between have their faces where the tracker expects them; without,
            those between are left out.
        track: Whether faces get ids; or the tracker that gives them.
        images: Whether frames have their images.
        known: What was detected in the first frames before, by the same detector; None for a frame
            that the model has not seen. They are decoded, and not detected again.
        prefetch_bytes: Most bytes of decoded frames that wait.

    Raises:
        ImageError: the source cannot be opened; while reading, a stream stopped for good.
        ModuleNotFoundError: PyAV is not installed.
        TypeError: `detector` is no detector, or `every` or `prefetch_bytes` no whole number.
        ValueError: `every` is less than 1, or `prefetch_bytes` less than 0.
    """
    check_whole(1, every=every)
    check_whole(0, prefetch_bytes=prefetch_bytes)
    if detector is not None and not hasattr(detector, "stream"):
        raise TypeError(f"detector must be a FaceDetector, got {type(detector).__name__}")
    reader = source if isinstance(source, VideoReader) else VideoReader(source)
    detector = detector or FaceDetector()
    tracker = track if isinstance(track, Tracker) else None
    if track is True:
        low = min(detector.min_score, TrackerConfig.low_score)
        tracker = Tracker(TrackerConfig(min_score=detector.min_score, low_score=low))
    if tracker is not None and detector.min_score > tracker.config.low_score:
        detector = copy.copy(detector)  # the caller's keeps its threshold
        detector.min_score = tracker.config.low_score
    prepared = run_ahead(
        _prepared(reader, every, images, cuts=tracker is not None),
        lambda frame: frame.nbytes,
        max_bytes=prefetch_bytes,
        max_items=2 if reader.live else 256,
    )
    found = _detected(prepared, detector, iter(known))
    frames = _tracked(found, tracker) if tracker is not None else found
    return Video(reader, frames, prepared, own=reader is not source)


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """What of a decoded frame is needed on."""

    index: int
    time: Fraction
    image_size: tuple[int, int]
    image: NDArray[np.uint8] | None
    cut: bool
    detect: bool
    """Whether the model runs on it."""
    decoded: DecodedFrame | None
    """Where frames have their images."""

    @property
    def nbytes(self) -> int:
        image = 0 if self.image is None else self.image.nbytes
        return 1024 + image + (0 if self.decoded is None else self.decoded.nbytes)


def _prepared(reader: VideoReader, every: int, images: bool, *, cuts: bool) -> Generator[_Prepared]:
    """Frames that are to be detected or yielded; this runs in the thread that decodes."""
    seen = CutDetector()
    held: _Prepared | None = None  # it ends a scene if the next frame begins one, or none comes

    def made(frame: _Prepared, *, detect: bool) -> _Prepared:
        image = frame.image if detect or images else None
        return replace(frame, image=image, detect=detect)

    try:
        for frame in reader:
            detect = frame.index % every == 0
            if not (detect or cuts):
                continue
            image = frame.image()
            cut = cuts and seen.is_cut(image)
            if held is not None:
                yield made(held, detect=cut)
            decoded = frame if images else None
            held = _Prepared(
                frame.index, frame.time, frame.image_size, image, cut, detect or cut, decoded
            )
            if held.detect:
                yield held
                held = None
            del frame, image, decoded
    except ImageError:
        if held is not None:
            yield made(held, detect=True)
        raise
    if held is not None:
        yield made(held, detect=True)


def _detected(
    frames: Iterator[_Prepared], detector: FaceDetector, known: Iterator[Faces | None]
) -> Generator[VideoFrame]:
    """Each frame with what the model finds in it; those that it does not see are empty."""
    waiting: deque[_Prepared] = deque()  # between two that it sees

    def selected() -> Iterator[_Prepared]:
        for frame in frames:
            waiting.append(frame)
            if frame.detect:
                yield frame

    def made(frame: _Prepared, faces: Faces | None) -> VideoFrame:
        none = Faces.empty(frame.image_size)
        return VideoFrame(
            frame.index,
            frame.time,
            none if faces is None else faces,
            faces is not None,
            frame.cut,
            None if frame.decoded is None else frame.image,
            frame.decoded,
        )

    for faces in known:
        frame = next(frames, None)
        if frame is None:
            return
        yield made(frame, faces)
    results = detector.stream(selected(), read=lambda frame: frame.image, readers=0)
    for result in results:
        while (frame := waiting.popleft()) is not result.source:
            yield made(frame, None)
        yield made(frame, result.faces)
    for frame in waiting:
        yield made(frame, None)


def _tracked(frames: Iterator[VideoFrame], tracker: Tracker) -> Generator[VideoFrame]:
    """Each frame with its faces' ids; those that the model has not seen with expected faces."""
    for frame in frames:
        now = float(frame.time)
        if not frame.detected:
            yield replace(frame, faces=tracker.predict(now))
            continue
        # Rounded as in files: a run that is resumed from one goes on just as it would have.
        found = Faces.from_dict(frame.faces.to_dict(digits=4))
        ids = tracker.assign(found, time=now, cut=frame.cut)
        yield replace(frame, faces=with_ids(found, ids), doubted=found[ids == 0])
