"""Pictures of requests through a model: decoded in a pool, run in one thread, in bounded memory."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from facefind.errors import ImageError
from facefind.faces import Faces
from facefind.images import stored_size
from facefind.serve.batching import Batches, Room
from facefind.serve.errors import Overloaded, RequestError
from facefind.serve.models import Choice, Models
from facefind.serve.settings import Settings
from facefind.streaming import Image

__all__ = ["Admission", "Engine", "Finish", "Part"]

Finish = Callable[["Part", Image, Faces], Any]
"""Makes of a picture and its faces what the request is answered with, in a thread of the pool."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Part:
    """A picture as it came: the name of its file, and its bytes."""

    name: str
    data: bytes


@dataclass(slots=True, eq=False)
class _Job:
    part: Part
    choice: Choice
    finish: Finish
    deadline: float
    future: Future[Any] = field(default_factory=Future)
    image: Image | None = None
    room: int = 0
    faces: Faces | None = None


class _Key(NamedTuple):
    """What pictures have in common that are run together, and how many of them are."""

    choice: Choice
    size: tuple[int, ...]
    together: int


class Admission:
    """What a request holds of the queue and of memory for bodies, given back at its end."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.pictures = self.size = 0

    def add(self, pictures: int = 0, size: int = 0) -> None:
        """Hold more.

        Raises:
            Overloaded: there is no room for it.
        """
        engine = self._engine
        with engine.counting:
            if pictures and engine.pictures + pictures > engine.settings.max_queue:
                raise Overloaded(
                    f"{engine.pictures} pictures are being served, and at most "
                    f"{engine.settings.max_queue} may be: send the request again later",
                    engine.retry_after(),
                )
            if size and not engine.bodies.take_now(size):
                raise Overloaded(
                    "the requests that are being served fill the memory for them: send the request "
                    "again later",
                    engine.retry_after(),
                )
            engine.pictures += pictures
        self.pictures += pictures
        self.size += size


class Engine:
    """Runs pictures through models.

    Args:
        models: They.
        settings: Its limits.
        decoders: Threads that decode pictures, and as many that make answers.
        clock: Seconds, as of `time.monotonic`.

    Attributes:
        pictures: How many are read, wait or run.
        bodies, decoded: Memory for bodies of requests, and for decoded pictures.
    """

    def __init__(
        self,
        models: Models,
        settings: Settings,
        *,
        decoders: int = 2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.models, self.settings = models, settings
        self.pictures = 0
        self.counting = threading.Lock()
        self.bodies, self.decoded = Room(settings.max_memory), Room(settings.max_memory)
        self.observe: Callable[[str, float], None] = lambda stage, value: None
        self._clock = clock
        self._pace = 0.02  # seconds a picture, a moving mean
        self._batches: Batches[_Key, _Job] = Batches(settings.max_wait, lambda key: key.together)
        self._changed = threading.Condition()
        self._closed = False
        # Two pools: decoders may wait for memory, which answers give back once they are made.
        self._decoders = ThreadPoolExecutor(decoders, "facefind-decoder")
        self._finishers = ThreadPoolExecutor(decoders, "facefind-finisher")
        self._network = threading.Thread(target=self._run, name="facefind-network", daemon=True)
        self._network.start()

    @contextmanager
    def admission(self) -> Iterator[Admission]:
        """What one request may hold; all of it is given back at the end of the block."""
        held = Admission(self)
        try:
            yield held
        finally:
            with self.counting:
                self.pictures -= held.pictures
            self.bodies.give(held.size)

    def submit(self, part: Part, choice: Choice, finish: Finish, deadline: float) -> Future[Any]:
        """What `finish` makes of a picture, later; it may be cancelled until then.

        The future has an ImageError where the picture cannot be read, a RequestError where it is
        too large or the deadline (of the clock) is over.
        """
        job = _Job(part, choice, finish, deadline)
        self._decoders.submit(self._guarded, self._decode, job)
        return job.future

    def retry_after(self) -> int:
        """Whole seconds after which the pictures that are here now should be done."""
        return max(1, min(60, math.ceil(self.pictures * self._pace)))

    def warm(self) -> None:
        """Open the default model, and run it once."""
        import numpy as np

        detector = self.models.detector(self.models.choose())
        detector.detect(np.zeros((480, 640, 3), np.uint8))

    def close(self) -> None:
        """Finish what has begun, and end the threads."""
        self._decoders.shutdown(wait=True, cancel_futures=True)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._network.join()
        self._finishers.shutdown()

    def _guarded(self, step: Callable[[_Job], None], job: _Job) -> None:
        """A step of a job in a pool: whatever happens, its future ends and its room is given."""
        try:
            if job.future.cancelled():
                self._drop(job)
            elif self._clock() > job.deadline:
                raise self._late()
            else:
                step(job)
        except Exception as error:
            self._fail(job, error)

    def _decode(self, job: _Job) -> None:
        detector = self.models.detector(job.choice)
        started = self._clock()
        height, width = self._size(job.part)
        size = 3 * height * width
        if not self.decoded.take(size, max(0.0, job.deadline - started)):
            raise self._late()
        job.room = size
        started = self._clock()
        job.image = detector.read(job.part.data)
        self.observe("decode", self._clock() - started)
        with self._changed:
            key = _Key(job.choice, job.image.shape[:2], detector.batch_size)
            self._batches.put(key, job, self._clock())
            self._changed.notify()

    def _size(self, part: Part) -> tuple[int, int]:
        most = self.settings.max_pixels
        height, width = stored_size(part.data)
        if height * width > most:
            raise RequestError(
                413,
                "too-many-pixels",
                f"the picture has {width} x {height} pixels, and at most {most} are served: "
                "make it smaller",
            )
        return height, width

    def _run(self) -> None:
        """The network's thread: whatever waits longest, until the end."""
        while True:
            with self._changed:
                jobs, wait = self._batches.take(self._clock())
                if not jobs:
                    if self._closed:
                        return
                    self._changed.wait(wait)
                    continue
            self._detect(jobs)

    def _detect(self, jobs: list[_Job]) -> None:
        now = self._clock()
        ready = []
        for job in jobs:
            if job.future.cancelled():
                self._drop(job)
            elif now > job.deadline:
                self._fail(job, self._late())
            else:
                ready.append(job)
        if not ready:
            return
        try:
            detector = self.models.detector(ready[0].choice)
            images = [job.image for job in ready]
            results = list(detector.stream(images, readers=0, on_error="yield"))
        except Exception as error:
            for job in ready:
                self._fail(job, error)
            return
        spent = self._clock() - now
        self._pace += 0.1 * (spent / len(ready) - self._pace)
        self.observe("network", spent / len(ready))
        self.observe("batch", len(ready))
        self.observe("faces", sum(len(one.faces) for one in results if one.error is None))
        for job, result in zip(ready, results, strict=True):
            if result.error is not None:
                self._fail(job, result.error)
                continue
            job.faces = result.faces
            self._finishers.submit(self._guarded, self._finish, job)

    def _finish(self, job: _Job) -> None:
        assert job.image is not None
        assert job.faces is not None
        answer = job.finish(job.part, job.image, job.faces)
        self._drop(job)
        if job.future.set_running_or_notify_cancel():
            job.future.set_result(answer)

    def _fail(self, job: _Job, error: Exception) -> None:
        self._drop(job)
        expected = isinstance(error, ImageError | RequestError)
        if not expected:
            _log.error("a picture could not be run", exc_info=error)
        if job.future.set_running_or_notify_cancel():
            job.future.set_exception(error)

    def _drop(self, job: _Job) -> None:
        """Let go of a job's picture."""
        job.image = job.faces = None
        if job.room:
            self.decoded.give(job.room)
            job.room = 0

    def _late(self) -> RequestError:
        return Overloaded(
            f"the answer would have taken longer than {self.settings.timeout:g} s: send the "
            "request again later, with fewer pictures",
            self.retry_after(),
            "deadline",
        )
