"""Seconds that go into reading pictures, into the network, and into all else, as work goes on."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from facefind.detector import FaceDetector
from facefind.runtimes import Candidates, Runtime

__all__ = ["Stages"]


class Stages:
    """Seconds by stage, added up over threads; stages of several threads may run at once.

    >>> stages = Stages()
    >>> with stages("writing"):
    ...     file.write(line)
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """A block whose time counts for a stage."""
        began = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - began
            with self._lock:
                self._seconds[stage] = self._seconds.get(stage, 0.0) + passed

    def seconds(self) -> dict[str, float]:
        """Seconds by stage so far."""
        with self._lock:
            return dict(self._seconds)

    def take(self) -> dict[str, float]:
        """Seconds by stage since the last call."""
        with self._lock:
            taken = dict(self._seconds)
            self._seconds.clear()
        return taken

    def timed(self, detector: FaceDetector) -> FaceDetector:
        """The same detector, whose runtime's time is noted here, as "network"."""
        timed = copy.copy(detector)
        timed.runtime = _Timed(detector.runtime, self)
        return timed


class _Timed:
    """A runtime whose calls are timed."""

    def __init__(self, runtime: Runtime, stages: Stages) -> None:
        self._runtime, self._stages = runtime, stages

    def __call__(self, images: Any) -> Candidates:
        with self._stages("network"):
            return self._runtime(images)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)
