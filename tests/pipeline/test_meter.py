"""How far work is: the rate of late, what is left, and what the time goes into."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from facefind.detector import FaceDetector
from facefind.pipeline import Meter, Stages, detect_files
from facefind.runtimes import Candidates, Card


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_rate_is_that_of_the_last_two_minutes() -> None:
    time = Clock()
    meter = Meter(3000, clock=time)
    assert meter.to_dict()["seconds_left"] is None
    for _ in range(100):
        time.now += 1
        meter.add(10)
    assert meter.rate == pytest.approx(10)
    for _ in range(200):
        time.now += 1
        meter.add(4, failed=1, faces=2)
    now = meter.to_dict()
    assert now["rate"] == pytest.approx(4, rel=0.02)
    assert now["seconds_left"] == pytest.approx(1200 / 4, rel=0.02)
    assert (now["done"], now["failed"], now["faces"], now["seconds"]) == (1800, 200, 400, 300.0)
    time.now += 60
    assert meter.rate == pytest.approx(2, rel=0.05)


def test_a_line_has_all_that_is_known() -> None:
    time = Clock()
    meter = Meter(clock=time)
    time.now += 10
    meter.add(50, failed=1, stages={"reading": 1.0, "network": 3.0})
    assert meter.line() == "50 pictures, 5.0 a second, 1 failed, reading 25%, network 75%"
    meter.total = 100
    assert meter.line().startswith("50 of 100 pictures, 5.0 a second, 0:00:10 left")


def test_stages_add_up_over_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    fake = SimpleNamespace(perf_counter=lambda: next(ticks))
    monkeypatch.setattr("facefind.pipeline.stages.time", fake)
    stages = Stages()

    def work() -> None:
        with stages("reading"):
            pass

    for _ in range(3):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert stages.seconds() == stages.take() == {"reading": 3}
    assert stages.take() == {}


def test_reading_and_network_are_timed_and_the_detector_stays_as_it_is(tmp_path: Any) -> None:
    from PIL import Image

    class Nothing:
        name, precision, threads, provider = "nothing", "fp32", 1, "cpu"
        card = Card(name="nothing", system="test", protocol="full")

        def __call__(self, batch: np.ndarray) -> Candidates:
            return Candidates(np.zeros((len(batch), 1, 4), np.float32), np.zeros((len(batch), 1)))

    from facefind.pipeline import list_images

    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    runtime, stages = Nothing(), Stages()
    detector = FaceDetector(runtime)
    (result,) = detect_files(detector, list_images([tmp_path]), stages=stages)
    assert result.error is None
    assert set(stages.seconds()) == {"reading", "network"}
    assert detector.runtime is runtime
