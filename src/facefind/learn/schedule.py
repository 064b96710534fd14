"""The course of a run: how far it is, and the learning rate and crop size that belong to it."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator

from facefind.errors import DataError
from facefind.learn.distributed import first_process
from facefind.learn.recipe import AugmentConfig, ScheduleConfig

MAX_STEPS = "FACEFIND_MAX_STEPS"


def learning_rate(at: float, end: float, warmup: float, config: ScheduleConfig) -> float:
    """Factor of the peak rate at a moment of a run: a step (0-based), or any other unit of time.

    It rises linearly from `warmup_factor` to 1 over the warm-up; then it falls tenfold at each
    of the fractions `steps` of the run, or along half a cosine down to `final`.

    Args:
        at: the moment, from 0 on.
        end: length of the run, in the same unit.
        warmup: length of the warm-up.
        config: the curve.

    Source: SCRFD, sec. 5.1 (step); SGDR (arXiv:1608.03983), eq. 5 without restarts (cosine).
    """
    if at < warmup:
        return config.warmup_factor + (1 - config.warmup_factor) * (at / warmup)
    if config.kind == "step":
        return 0.1 ** sum(at >= fraction * end for fraction in config.steps)
    progress = (at - warmup) / ((end - warmup) or 1)
    return config.final + (1 - config.final) * (1 + math.cos(math.pi * min(progress, 1))) / 2


def crop_size(fraction: float, config: AugmentConfig) -> int:
    """Side in pixels of the square crops of a run that is so far, 0..1."""
    return next((phase.size for phase in config.phases if fraction < phase.until), config.size)


class Stopwatch:
    """Seconds of training: it runs from `start` on, but not while `paused`.

    Args:
        spent: seconds that earlier stages of the run have taken.
        clock: gives seconds, from any origin, and never goes back.
    """

    def __init__(self, spent: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._spent, self._clock = spent, clock
        self._since: float | None = None

    def start(self) -> None:
        """Let it run."""
        self._since = self._clock()

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        return self._spent + (0.0 if self._since is None else self._clock() - self._since)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time of what happens within."""
        self._spent, self._since = self.seconds, None
        try:
            yield
        finally:
            self.start()


class Progress:
    """How far a run is: by its steps or, where it has `minutes`, by the clock.

    By steps, all but the time left is a function of the step alone. By the clock, it is as of the
    last `update`, in which every process takes the first one's time.

    Args:
        config: length of the run.
        images: in the training set; an epoch is as many.
        watch: time spent on training.
        limit: steps after which any run is over.

    Attributes:
        steps: of the whole run; None where the clock ends it.
    """

    def __init__(
        self, config: ScheduleConfig, images: int, watch: Stopwatch, *, limit: int = sys.maxsize
    ) -> None:
        self._config, self._watch, self._limit = config, watch, limit
        self._mark: tuple[int, float] | None = None
        self._start, self._pace = watch.seconds, 0.0  # the pace is in seconds a step
        self.steps: int | None = None
        if config.minutes is None:
            per_epoch = images / config.batch
            self.steps = min(max(round(config.epochs * per_epoch), 1), limit)
            self._warmup = min(round(config.warmup_epochs * per_epoch), self.steps // 2)
        else:
            self._seconds = 60 * config.minutes
            self._fraction = min(watch.seconds / self._seconds, 1.0)

    def update(self, step: int) -> None:
        """Read the clock after `step` steps; every process must call this at the same time."""
        now = self._watch.seconds
        if self._mark is None:  # the first step takes longer: no more than a first guess
            self._mark, self._pace = (step, now), now - self._start
        elif step > self._mark[0]:
            self._pace = (now - self._mark[1]) / (step - self._mark[0])
        if self.steps is None:
            share = first_process(now / self._seconds)
            self._fraction = min(max(share, step / self._limit), 1.0)

    def fraction(self, step: int) -> float:
        """The part of the run that is over before a step (0-based), 0..1."""
        return self._fraction if self.steps is None else min(step / self.steps, 1.0)

    def done(self, step: int) -> bool:
        """Whether the run is over after `step` steps."""
        return self.fraction(step) >= 1.0

    def rate(self, step: int) -> float:
        """Factor of the peak learning rate at a step (0-based).

        By the clock, the warm-up takes as large a part of the time as of the epochs.
        """
        if self.steps is not None:
            return learning_rate(step, self.steps, self._warmup, self._config)
        warmup = min(self._config.warmup_epochs / self._config.epochs, 0.5)
        return learning_rate(self._fraction, 1.0, warmup, self._config)

    def left(self, step: int) -> float:
        """Seconds of training that are left after `step` steps, estimated where steps count."""
        if self.steps is None:
            return max(self._seconds - self._watch.seconds, 0.0)
        return self._pace * (self.steps - step)

    def position(self, step: int) -> str:
        """`step/steps`; the steps of a run that the clock ends are an estimate, after a `~`."""
        if self.steps is not None:
            return f"{step}/{self.steps}"
        steps = min(step + round(self.left(step) / (self._pace or math.inf)), self._limit)
        return f"{step}/~{steps}"


def step_limit() -> int:
    """Steps after which any run is over, by the environment variable FACEFIND_MAX_STEPS.

    Raises:
        DataError: if it is no number.
    """
    text = os.environ.get(MAX_STEPS, "")
    if not text:
        return sys.maxsize
    if not text.isdecimal() or int(text) < 1:
        raise DataError(f"{MAX_STEPS}: expected a number of steps from 1 on, got {text!r}")
    return int(text)
