"""The engine with a detector of the test's own: order, groups, deadlines, failures, memory."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facefind.errors import ImageError
from facefind.faces import Faces
from facefind.images import read
from facefind.serve.engine import Engine, Part
from facefind.serve.errors import Overloaded, RequestError
from facefind.serve.models import Choice
from facefind.serve.settings import Settings
from facefind.streaming import DetectionResult

CHOICE = Choice("model", "vga", 0.5)
FOREVER = 1e6


class Detector:
    """Finds one face as large as the picture, once it is let; fails on white pictures."""

    def __init__(self, batch_size: int = 1) -> None:
        self.batch_size = batch_size
        self.runs: list[list[tuple[int, int]]] = []
        self.let = threading.Event()
        self.let.set()
        self.begun = threading.Event()

    def read(self, data: bytes) -> np.ndarray:
        return read(data)

    def stream(self, pictures: list[np.ndarray], **_: Any) -> Iterator[DetectionResult]:
        self.runs.append([picture.shape[:2] for picture in pictures])
        self.begun.set()
        assert self.let.wait(10)
        for index, picture in enumerate(pictures):
            height, width = picture.shape[:2]
            if picture.min() == 255:
                yield DetectionResult(index, None, error=ImageError("white"))
            else:
                faces = Faces([[0, 0, width, height]], [0.9], image_size=(height, width))
                yield DetectionResult(index, None, _faces=faces)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def png(height: int, width: int = 8, color: str = "black") -> Part:
    file = io.BytesIO()
    Image.new("RGB", (width, height), color).save(file, "PNG")
    return Part(f"{height}", file.getvalue())


def size(part: Part, image: np.ndarray, faces: Faces) -> tuple[str, tuple[int, int], int]:
    return part.name, image.shape[:2], len(faces)


@pytest.fixture
def make() -> Iterator[Any]:
    engines = []

    def make(detector: Detector, clock: Any = None, **settings: Any) -> Engine:
        models: Any = SimpleNamespace(detector=lambda choice: detector)
        more = {} if clock is None else {"clock": clock}
        engines.append(Engine(models, Settings(**settings), **more))
        return engines[-1]

    yield make
    for engine in engines:
        engine.models.detector(CHOICE).let.set()
        engine.close()


def test_a_picture_gets_what_is_made_of_it_and_its_memory_is_given_back(make):
    engine = make(Detector())
    assert engine.submit(png(6), CHOICE, size, FOREVER).result(10) == ("6", (6, 8), 1)
    assert engine.decoded.held == 0


def test_pictures_of_one_size_and_choice_go_through_together_and_no_others(make):
    detector = Detector(batch_size=3)
    detector.let.clear()
    engine = make(detector, max_wait=0.05)
    first = engine.submit(png(9), CHOICE, size, FOREVER)
    detector.begun.wait(10)
    other = Choice("model", "full", 0.5)
    parts = [(png(6), CHOICE)] * 3 + [(png(7), CHOICE)] * 2 + [(png(6), other)]
    futures = [engine.submit(part, choice, size, FOREVER) for part, choice in parts]
    while len(engine._batches) < 6:
        pass
    detector.let.set()
    assert [future.result(10)[1] for future in futures] == [(6, 8)] * 3 + [(7, 8)] * 2 + [(6, 8)]
    assert first.result(10)
    assert sorted(map(len, detector.runs)) == [1, 1, 2, 3]
    assert all(len(set(run)) == 1 for run in detector.runs)


def test_a_picture_that_fails_costs_no_other_its_result(make):
    detector = Detector(batch_size=2)
    engine = make(detector, max_wait=10)
    bad = engine.submit(png(5, color="white"), CHOICE, size, FOREVER)
    good = engine.submit(png(5), CHOICE, size, FOREVER)
    broken = engine.submit(Part("text", b"no picture"), CHOICE, size, FOREVER)
    with pytest.raises(ImageError, match="white"):
        bad.result(10)
    with pytest.raises(ImageError, match="no picture of a known format"):
        broken.result(10)
    assert good.result(10)[2] == 1
    assert detector.runs == [[(5, 8), (5, 8)]]
    assert engine.decoded.held == 0


def test_a_fault_of_the_detector_is_everybody_s_error_and_the_engine_goes_on(make, monkeypatch):
    detector = Detector()
    engine = make(detector)
    with monkeypatch.context() as patch:
        patch.setattr(detector, "stream", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.submit(png(5), CHOICE, size, FOREVER).result(10)
    assert engine.submit(png(5), CHOICE, size, FOREVER).result(10)
    assert engine.decoded.held == 0


def test_what_waits_beyond_its_deadline_is_not_run(make):
    detector, clock = Detector(), Clock()
    detector.let.clear()
    engine = make(detector, clock, timeout=3)
    first = engine.submit(png(9), CHOICE, size, 3.0)
    detector.begun.wait(10)
    late = engine.submit(png(6), CHOICE, size, 3.0)
    while len(engine._batches) < 1:
        pass
    clock.now = 3.5
    decoded_late = engine.submit(png(6), CHOICE, size, 3.0)
    with pytest.raises(Overloaded, match="longer than 3 s"):
        decoded_late.result(10)
    detector.let.set()
    with pytest.raises(Overloaded, match="longer than 3 s"):
        late.result(10)
    with pytest.raises(Overloaded):
        first.result(10)  # found, but nobody waits for it any more
    assert detector.runs == [[(9, 8)]]
    assert engine.decoded.held == 0


def test_what_was_cancelled_is_not_run(make):
    detector = Detector()
    detector.let.clear()
    engine = make(detector)
    first = engine.submit(png(9), CHOICE, size, FOREVER)
    detector.begun.wait(10)
    left = engine.submit(png(6), CHOICE, size, FOREVER)
    while len(engine._batches) < 1:
        pass
    assert left.cancel()
    detector.let.set()
    last = engine.submit(png(7), CHOICE, size, FOREVER)
    assert first.result(10)
    assert last.result(10)
    assert detector.runs == [[(9, 8)], [(7, 8)]]
    with pytest.raises(CancelledError):
        left.result()
    assert engine.decoded.held == 0


def test_decoded_pictures_never_take_more_than_their_memory(make):
    detector = Detector()
    engine = make(detector, max_memory=2 * 3 * 100 * 100)
    held = []
    detector.stream_before = detector.stream

    def stream(pictures, **options):
        held.append(engine.decoded.held)
        return detector.stream_before(pictures, **options)

    detector.stream = stream
    futures = [engine.submit(png(100, 100), CHOICE, size, FOREVER) for _ in range(12)]
    futures.append(engine.submit(png(300, 300), CHOICE, size, FOREVER))  # larger than all of it
    assert all(future.result(10) for future in futures)
    assert max(held[:-1]) <= 2 * 3 * 100 * 100
    assert max(held) == 3 * 300 * 300
    assert engine.decoded.held == 0


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(make, monkeypatch):
    detector = Detector()
    engine = make(detector, max_pixels=99)
    monkeypatch.setattr(detector, "read", lambda data: pytest.fail("decoded"))
    with pytest.raises(RequestError, match="10 x 10 pixels, and at most 99") as refused:
        engine.submit(png(10, 10), CHOICE, size, FOREVER).result(10)
    assert refused.value.status == 413


def test_beyond_the_queue_requests_are_refused_until_others_end(make):
    engine = make(Detector(), max_queue=3, max_pictures=3, max_memory=1000)
    with engine.admission() as one:
        one.add(pictures=1, size=600)
        with engine.admission() as two:
            two.add(pictures=2)
            with pytest.raises(Overloaded, match="3 pictures") as full, engine.admission() as three:
                three.add(pictures=1)
            assert int(full.value.headers["Retry-After"]) >= 1
            with pytest.raises(Overloaded, match="fill the memory"):
                two.add(size=401)
            two.add(size=400)
        assert engine.pictures == 1
        assert engine.bodies.held == 600
    assert engine.pictures == engine.bodies.held == 0


def test_retry_after_grows_with_what_waits(make):
    engine = make(Detector(), max_queue=1000)
    engine._pace = 0.1
    with engine.admission() as held:
        held.add(pictures=100)
        assert engine.retry_after() == 10
    assert engine.retry_after() == 1
