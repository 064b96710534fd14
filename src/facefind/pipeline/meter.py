"""How far work is: pictures, failures, rate, time that is left, and what the time goes into."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

__all__ = ["Meter"]

_WINDOW = 120.0  # seconds that the rate is measured over
_SAMPLES = 240


class Meter:
    """Counts work as it is done.

    Args:
        total: Pictures there are to do; None where that is not known.
        clock: Seconds from any moment on.

    Attributes:
        done: Pictures done, those that failed among them.
        failed: Pictures that failed.
        faces: Faces in them.
        stages: Seconds by stage, as of `Stages`.
    """

    def __init__(
        self, total: int | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total = total
        self.done = self.failed = self.faces = 0
        self.stages: dict[str, float] = {}
        self._clock = clock
        self._began = clock()
        self._samples = deque([(self._began, 0)], maxlen=_SAMPLES)

    def add(
        self,
        done: int = 1,
        *,
        failed: int = 0,
        faces: int = 0,
        stages: Mapping[str, float] | None = None,
    ) -> None:
        """Count pictures that are done."""
        self.done += done
        self.failed += failed
        self.faces += faces
        for name, seconds in (stages or {}).items():
            self.stages[name] = self.stages.get(name, 0.0) + seconds
        now = self._clock()
        if now - self._samples[-1][0] >= _WINDOW / _SAMPLES:
            self._samples.append((now, self.done))

    @property
    def rate(self) -> float:
        """Pictures a second in the last two minutes; 0 before the first."""
        now = self._clock()
        while len(self._samples) > 1 and now - self._samples[1][0] > _WINDOW:
            self._samples.popleft()
        since, before = self._samples[0]
        return (self.done - before) / (now - since) if now > since else 0.0

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values: seconds, and shares of the stages in their sum."""
        rate, spent = self.rate, sum(self.stages.values())
        left = None if self.total is None or not rate else max(0, self.total - self.done) / rate
        return {
            "done": self.done,
            "total": self.total,
            "failed": self.failed,
            "faces": self.faces,
            "rate": round(rate, 2),
            "seconds": round(self._clock() - self._began, 1),
            "seconds_left": None if left is None else round(left, 1),
            "stages": {name: round(s / spent, 3) for name, s in self.stages.items() if spent},
        }

    def line(self) -> str:
        """All of it as a line, such as "1200 of 5000 pictures, 40.1 a second, 0:01:35 left"."""
        now = self.to_dict()
        total = "" if self.total is None else f" of {self.total}"
        parts = [f"{self.done}{total} pictures", f"{now['rate']:.1f} a second"]
        if now["seconds_left"] is not None:
            parts.append(f"{timedelta(seconds=round(now['seconds_left']))} left")
        parts.append(f"{self.failed} failed")
        parts += [f"{name} {share:.0%}" for name, share in now["stages"].items()]
        return ", ".join(parts)
