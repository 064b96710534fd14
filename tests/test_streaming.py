"""`FaceDetector.stream`: lazy, in order, in bounded memory; no image costs another its faces."""

from __future__ import annotations

import gc
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import facefind
from facefind.detector import FaceDetector
from facefind.errors import ImageError
from facefind.images import Found
from facefind.runtimes import Candidates, Card
from facefind.streaming import read_ahead, weigh


class Values:
    """A runtime that finds one face of a score that is the image's first value over 255."""

    name, precision, threads, provider = "values", "fp32", 1, "none"

    def __init__(self, failing: int | None = None, error: type[Exception] = RuntimeError) -> None:
        self.card = Card(name="values", system="test", min_score=0.0, protocol="full")
        self.failing, self.error = failing, error
        self.batches: list[int] = []

    def __call__(self, images: np.ndarray) -> Candidates:
        self.batches.append(len(images))
        if (images[:, 0, 0, 0] == self.failing).any():
            raise self.error("out of memory")
        scores = images[:, :1, 0, 0].astype(np.float32) / 255
        return Candidates(np.tile(np.float32([0, 0, 20, 20]), (len(images), 1, 1)), scores)


def value(number: int, side: int = 32) -> np.ndarray:
    return np.full((side, side, 3), number, np.uint8)


def values(results: Any) -> list[int | str]:
    return [
        round(255 * float(r.faces.scores[0])) if r.error is None else type(r.error).__name__
        for r in results
    ]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
@pytest.mark.parametrize("readers", [0, 1, 3])
@pytest.mark.parametrize("count", [0, 1, 7, 40])
def test_results_come_in_order_with_their_sources(
    batch_size: int, readers: int, count: int
) -> None:
    sources: list[Any] = []
    for number in range(count):
        file = io.BytesIO()
        Image.fromarray(value(number)).save(file, "png")
        sources.append(file.getvalue() if number % 2 else value(number))
    detector = FaceDetector(Values(), batch_size=batch_size)
    results = list(detector.stream(iter(sources), readers=readers, images=True))
    assert values(results) == list(range(count))
    for number, result in enumerate(results):
        assert result.index == number
        assert result.source is sources[number]
        assert np.array_equal(result.image, value(number))
    assert all(r.image is None for r in detector.stream(sources))


def test_images_that_fail_cost_no_other_its_faces() -> None:
    """One that cannot be read, and one that fails a whole batch in the model."""
    sources: list[Any] = [value(0), value(1), b"no image", value(3), value(4), value(5)]
    detector = FaceDetector(Values(failing=4), batch_size=8)
    seen = values(detector.stream(sources, on_error="yield"))
    assert seen == [0, 1, "ImageError", 3, "RuntimeError", 5]
    assert values(detector.stream(sources, on_error="skip")) == [0, 1, 3, 5]
    assert [r.index for r in detector.stream(sources, on_error="skip")] == [0, 1, 3, 5]
    results = detector.stream(sources)
    assert values([next(results), next(results)]) == [0, 1]
    with pytest.raises(ImageError, match="image 2 of the stream: the bytes"):
        next(results)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(detector.stream(sources[3:]))


def test_a_failed_result_never_passes_for_no_faces() -> None:
    (result,) = FaceDetector(Values()).stream([b"no image"], on_error="yield")
    assert isinstance(result.error, ImageError)
    with pytest.raises(ImageError, match="no image"):
        len(result.faces)


def test_a_bug_is_not_taken_for_a_fault_of_the_image() -> None:
    detector = FaceDetector(Values(failing=1, error=KeyError), batch_size=2)
    with pytest.raises(KeyError):
        list(detector.stream([value(0), value(1)], on_error="skip"))

    def wrong(item: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(detector.stream([0], read=wrong, on_error="skip"))


def test_images_before_an_error_of_the_source_come_first() -> None:
    def source() -> Iterator[np.ndarray]:
        yield value(0)
        yield value(1)
        raise ConnectionError("the camera is gone")

    results = FaceDetector(Values(), batch_size=4).stream(source())
    assert values([next(results), next(results)]) == [0, 1]
    with pytest.raises(ConnectionError, match="camera"):
        next(results)


def test_items_of_any_kind_are_read_by_the_callers_function() -> None:
    threads = set()

    def fetch(key: str) -> np.ndarray:
        threads.add(threading.current_thread().name)
        return value(int(key))

    results = list(FaceDetector(Values()).stream(["3", "5"], read=fetch))
    assert values(results) == [3, 5]
    assert [result.source for result in results] == ["3", "5"]
    assert all(name.startswith("facefind-reader") for name in threads)
    file = io.BytesIO()
    Image.fromarray(value(7)).save(file, "png")
    kept = {"file": file.getvalue(), "gray": value(9)[..., 0], "none": None, "name": "gone.jpg"}
    found = list(FaceDetector(Values()).stream(kept, read=kept.get, on_error="yield"))
    assert values(found) == [7, 9, "ImageError", "ImageError"]


class Gauge:
    """Counts the bytes of images that are alive."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.alive = self.peak = self.made = 0

    def read(self, side: int) -> np.ndarray:
        gauge = self

        class Counted(np.ndarray):
            def __del__(self) -> None:
                if self.base is None:
                    with gauge.lock:
                        gauge.alive -= self.nbytes

        image = Counted((side, side, 3), np.uint8)
        image[:] = 0
        with self.lock:
            self.made += 1
            self.alive += image.nbytes
            self.peak = max(self.peak, self.alive)
        return image


@pytest.mark.parametrize("readers", [1, 3])
def test_what_waits_is_bounded_by_bytes_whatever_the_sizes(readers: int) -> None:
    """Many small images wait, or few large ones; one more is yielded and one has its turn."""
    draw = np.random.default_rng(0)
    sides = draw.choice([10, 100, 500], 200).tolist()
    limit, largest = 1_500_000, 500 * 500 * 3
    gauge = Gauge()
    for reading in read_ahead(sides, gauge.read, readers=readers, max_bytes=limit, max_images=1000):
        time.sleep(0.0005)
        assert reading.image is not None
        del reading
    gc.collect()
    assert gauge.made == 200
    assert gauge.alive == 0
    assert limit / 2 < gauge.peak <= limit + 2 * largest


@pytest.mark.parametrize("readers", [2, 4])
def test_large_images_behind_small_ones_are_weighed_before_they_are_read(readers: int) -> None:
    """Beside what waits, one large image has its turn and one was yielded: never one a reader."""
    sides, limit, large = [10] * 20 + [500] * 12, 100_000, 500 * 500 * 3
    gauge = Gauge()

    def read(side: int) -> Any:
        image = gauge.read(side)
        time.sleep(0.002)  # long enough for the others to begin
        return image

    options: Any = {"readers": readers, "max_bytes": limit, "max_images": 100}
    for reading in read_ahead(sides, read, weigh=lambda side: side * side * 3, **options):
        del reading
    gc.collect()
    assert gauge.made == len(sides)
    assert gauge.peak <= limit + 2 * large


def test_files_are_weighed_by_their_headers(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((6, 5, 3), np.uint8)).save(path)
    found = [path, str(path), Found(path, "a"), tmp_path / "gone.png", np.zeros((2, 2, 3)), b"x"]
    assert [weigh(source) for source in found] == [90, 90, 90, 0, 0, 0]


def test_reading_stops_with_the_consumer() -> None:
    gauge = Gauge()
    readings = read_ahead(iter([10] * 1000), gauge.read, readers=2, max_images=8)
    next(readings)
    readings.close()
    made = gauge.made
    assert made <= 9
    time.sleep(0.05)
    assert gauge.made == made
    assert not [t for t in threading.enumerate() if t.name.startswith("facefind-reader")]


def test_live_sources_are_not_read_ahead() -> None:
    taken = []

    def camera() -> Iterator[np.ndarray]:
        for number in range(100):
            taken.append(number)
            yield value(number)

    stream = FaceDetector(Values(), batch_size=1).stream(camera(), readers=0)
    for number in range(3):
        assert values([next(stream)]) == [number]
        assert len(taken) == number + 1


@pytest.mark.parametrize(
    ("sources", "options", "error", "said"),
    [
        ("people.jpg", {}, TypeError, "got one str: use detect.*list_images"),
        (Path("people"), {}, TypeError, "iterable of images"),
        (b"\xff\xd8", {}, TypeError, "iterable of images"),
        (value(1), {}, TypeError, "got one ndarray"),
        (value(1)[..., 0], {}, TypeError, "got one ndarray"),
        (Image.fromarray(value(1)), {}, TypeError, "got one Image"),
        (io.BytesIO(), {}, TypeError, "got one BytesIO"),
        (None, {}, TypeError, "got one NoneType"),
        ([], {"on_error": "ignore"}, ValueError, "on_error must be one of.*'ignore'"),
        ([], {"readers": -1}, ValueError, "readers must be at least 0, got -1"),
        ([], {"readers": 1.5}, TypeError, r"readers must be a whole number, got 1\.5"),
    ],
)
def test_mistakes_are_named_at_once(
    sources: Any, options: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        FaceDetector(Values()).stream(sources, **options)


def test_detect_names_stream_for_iterators() -> None:
    detector = FaceDetector(Values())
    for iterator in ((value(n) for n in range(2)), iter([value(0)]), Path().glob("*.jpg")):
        with pytest.raises(TypeError, match=r"use FaceDetector\.stream"):
            detector.detect(iterator)  # type: ignore[call-overload]
    file = io.BytesIO()  # an iterator too, of its lines
    Image.fromarray(value(7)).save(file, "png")
    file.seek(0)
    assert len(detector.detect(file)) == 1


def test_bgr_arrays_are_turned_and_files_are_not() -> None:
    rgb = np.zeros((32, 32, 3), np.uint8)
    rgb[..., 0], rgb[..., 2] = 200, 50
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    alpha = np.concatenate([bgr, np.full((32, 32, 1), 255, np.uint8)], axis=2)
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "png")
    detector = FaceDetector(Values(), color="bgr")
    sources = [bgr, alpha, file.getvalue(), Image.fromarray(rgb), np.full((32, 32), 200, np.uint8)]
    results = list(detector.stream(sources, images=True))
    assert values(results) == [200] * 5
    assert all(np.array_equal(result.image, rgb) for result in results[:4])
    assert [round(255 * float(f.scores[0])) for f in detector.detect(sources)] == [200] * 5
    assert round(255 * float(FaceDetector(Values()).detect(bgr).scores[0])) == 50
    with pytest.raises(ValueError, match="color must be 'rgb' or 'bgr', got 'BGR'"):
        FaceDetector(Values(), color="BGR")  # type: ignore[arg-type]


def test_max_faces_keeps_the_best_of_each_image() -> None:
    class Many(Values):
        def __call__(self, images: np.ndarray) -> Candidates:
            corner = np.arange(5, dtype=np.float32)[:, None] * [40, 0]
            boxes = np.concatenate([corner, corner + 20], 1).astype(np.float32)
            scores = np.float32([0.5, 0.9, 0.1, 0.7, 0.3])
            return Candidates(
                np.tile(boxes, (len(images), 1, 1)), np.tile(scores, (len(images), 1))
            )

    image = np.zeros((32, 224, 3), np.uint8)
    everything = FaceDetector(Many()).detect(image)
    best = FaceDetector(Many(), max_faces=2).detect([image, image])
    assert best == [everything[:2]] * 2
    np.testing.assert_allclose(best[0].scores, [0.9, 0.7])
    with pytest.raises(ValueError, match="max_faces must be at least 1"):
        FaceDetector(Many(), max_faces=0)


def test_the_function_takes_color_and_max_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def detector(**options: Any) -> FaceDetector:
        made.append(options)
        return FaceDetector(Values(), **options)

    facefind.detector._default.cache_clear()
    monkeypatch.setattr(facefind.detector, "FaceDetector", detector)
    image = np.full((32, 32, 3), (10, 20, 200), np.uint8)
    for _ in range(3):
        assert float(facefind.detect(image, color="bgr").scores[0]) == pytest.approx(200 / 255)
    assert made == [{"color": "bgr"}]
    with pytest.raises(TypeError, match="stream"):
        facefind.detect(iter([image]))
    facefind.detector._default.cache_clear()
