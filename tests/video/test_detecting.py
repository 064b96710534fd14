"""Faces of a video, frame by frame: every so manieth, followed, resumed; in bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="the extra `video` brings PyAV")

from reference import videos
from reference.seeing_runtimes import Seeing

import facefind
from facefind import FaceDetector
from facefind.video import Tracker, VideoReader, read_video, run_ahead


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    return videos.write(tmp_path / "a.mp4", videos.moving(12))


@pytest.fixture
def detector() -> FaceDetector:
    return FaceDetector(Seeing(), protocol="original", min_score=0.5, batch_size=1)


def seen(detector: FaceDetector) -> int:
    """How many frames the model has seen."""
    return sum(shape[0] for shape in detector.runtime.shapes)  # type: ignore[attr-defined]


def left(frame: facefind.video.VideoFrame) -> float:
    return float(frame.faces.boxes[0, 0])


def test_each_frame_has_its_faces_where_they_are(movie: Path, detector: FaceDetector) -> None:
    frames = list(facefind.read_video(movie, detector, images=True))
    assert [frame.index for frame in frames] == list(range(12))
    for frame in frames:
        assert abs(left(frame) - (videos.MOVES[0] + 2 * frame.index)) <= 1
        assert frame.image is not None
        assert frame.image.shape == (96, 128, 3)
        assert (frame.faces.ids, frame.detected, frame.cut) == (None, True, False)


def test_without_tracking_frames_between_are_left_out(movie: Path, detector: FaceDetector) -> None:
    frames = list(read_video(movie, detector, every=5))
    assert [frame.index for frame in frames] == [0, 5, 10]
    assert seen(detector) == 3


def test_with_tracking_the_model_sees_some_and_all_have_faces(
    movie: Path, detector: FaceDetector
) -> None:
    frames = list(read_video(movie, detector, every=4, track=True))
    assert [frame.index for frame in frames if frame.detected] == [0, 4, 8, 11]
    assert [frame.faces.ids.tolist() for frame in frames] == [[1]] * 12  # type: ignore[union-attr]
    for frame in frames[8:]:  # by then its speed is known
        assert abs(left(frame) - (videos.MOVES[0] + 2 * frame.index)) <= 3
    assert seen(detector) == 4
    assert detector.min_score == 0.5  # the caller's own is not changed


def test_the_model_sees_the_first_and_last_frames_of_scenes(
    tmp_path: Path, detector: FaceDetector
) -> None:
    one = videos.moving(6)
    other = [np.where(image == 40, 200, 20).astype(np.uint8) for image in one]
    path = videos.write(tmp_path / "cut.mp4", [*one[:6], *other[:4]])
    frames = list(read_video(path, detector, every=4, track=True))
    assert [frame.index for frame in frames if frame.cut] == [6]
    assert [frame.index for frame in frames if frame.detected] == [0, 4, 5, 6, 8, 9]


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("done", [0, 1, 7, 12])
def test_what_is_known_is_not_detected_again(
    every: int, done: int, movie: Path, detector: FaceDetector
) -> None:
    whole = list(read_video(movie, detector, every=every, track=Tracker()))
    before = seen(detector)
    known = [frame.detections if frame.detected else None for frame in whole[:done]]
    again = list(read_video(movie, detector, every=every, track=Tracker(), known=iter(known)))
    assert [frame.faces for frame in again] == [frame.faces for frame in whole]
    assert seen(detector) - before == sum(frame.detected for frame in whole[done:])


def test_a_video_that_is_not_read_to_its_end_leaves_no_thread(
    movie: Path, detector: FaceDetector
) -> None:
    with read_video(movie, detector, prefetch_bytes=1) as video:
        assert next(video).index == 0
        assert any(thread.name == "facefind-ahead" for thread in threading.enumerate())
    assert not any(thread.name == "facefind-ahead" for thread in threading.enumerate())
    assert list(video) == []


def test_an_error_in_tracking_ends_the_decoding_before_the_file_is_closed(
    movie: Path, detector: FaceDetector
) -> None:
    class Failing(Tracker):
        def assign(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("no room")

    before = threading.active_count()
    with (
        pytest.raises(RuntimeError, match="no room") as kept,  # the traceback holds its generators
        read_video(movie, detector, track=Failing(), prefetch_bytes=1) as video,
    ):
        next(video)
    assert threading.active_count() == before
    assert kept.tb is not None


def test_a_reader_of_the_caller_stays_open(movie: Path, detector: FaceDetector) -> None:
    with VideoReader(movie) as reader:
        with read_video(reader, detector) as video:
            next(video)
        assert reader.stream.codec_context.width == 128


def test_wrong_options(movie: Path, detector: FaceDetector) -> None:
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        read_video(movie, detector, every=0)
    with pytest.raises(TypeError, match=r"every must be a whole number, got 1\.5"):
        read_video(movie, detector, every=1.5)
    with pytest.raises(TypeError, match="detector must be a FaceDetector, got str"):
        read_video(movie, "scrfd-500m-kps")
    with pytest.raises(ValueError, match="rate and timeout must be above 0"):
        VideoReader(movie, timeout=0)


def counted(number: int, made: list[int]) -> Generator[int]:
    for item in range(number):
        made.append(item)
        yield item


def test_running_ahead_keeps_the_order_and_is_bounded() -> None:
    made: list[int] = []
    ahead = run_ahead(counted(50, made), lambda item: 10, max_bytes=45)
    first = next(ahead)
    for _ in range(200):
        if len(made) >= 6:
            break
        threading.Event().wait(0.01)
    threading.Event().wait(0.05)
    assert first == 0
    assert len(made) <= 7  # four that fit, one more, the one that is out, the one being made
    assert list(ahead) == list(range(1, 50))


def test_running_ahead_raises_what_was_raised_after_the_items_before() -> None:
    def breaks() -> Generator[int]:
        yield 1
        yield 2
        raise OSError("gone")

    got = []
    with pytest.raises(OSError, match="gone"):
        got.extend(run_ahead(breaks(), lambda item: 1))
    ahead = run_ahead(breaks(), lambda item: 1)
    assert [next(ahead), next(ahead)] == [1, 2]


def test_its_own_thread_may_close_it() -> None:
    """As the garbage collector does, which runs in any thread."""
    ahead: list[Generator[int]] = []
    began, closed = threading.Event(), threading.Event()

    def items() -> Generator[int]:
        yield 1
        began.wait(5)
        ahead[0].close()
        closed.set()
        yield 2

    ahead.append(run_ahead(items(), lambda item: 1))
    assert next(ahead[0]) == 1
    began.set()
    assert closed.wait(5)


def test_an_abandoned_generator_is_closed_in_its_thread() -> None:
    closed = threading.Event()

    def endless() -> Generator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    ahead = run_ahead(endless(), lambda item: 1, max_items=3)
    next(ahead)
    ahead.close()
    assert closed.is_set()
