"""Images of an iterable of any length: read ahead by threads, run in groups, failing one by one.

Memory is bounded by bytes, whatever the length and whatever the images' sizes.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facefind import forking
from facefind.errors import ImageError, WeightsError
from facefind.faces import Faces
from facefind.images import stored_size

__all__ = [
    "ITEM_ERRORS",
    "DetectionResult",
    "Image",
    "OnError",
    "Reading",
    "checked",
    "detect_stream",
    "is_one",
    "read_ahead",
    "weigh",
]

Image = NDArray[np.uint8]
Detect = Callable[[Sequence[Image]], list[Faces]]
Weigh = Callable[[Any], int]
OnError = Literal["raise", "skip", "yield"]

_GROUP_BYTES = 128 << 20  # images that are run together

ITEM_ERRORS = (ImageError, WeightsError, OSError, RuntimeError, MemoryError)
"""How an image, or a runtime on it, may fail without the next image being any worse for it."""


@dataclass(frozen=True, slots=True, eq=False)
class DetectionResult:
    """What `FaceDetector.stream` gives for one image.

    Attributes:
        index: Position of the image in the source, from 0.
        source: The item of the source, as it was given.
        image: The image as it was read, (H, W, 3) uint8 RGB; None unless `images=True`.
        error: Why there are no faces; None where all went well.
    """

    index: int
    source: Any
    image: Image | None = None
    error: Exception | None = None
    _faces: Faces | None = None

    @property
    def faces(self) -> Faces:
        """The faces found, maybe none.

        Raises:
            Exception: the image's own `error`, so that a failure never passes for "no faces".
        """
        if self.error is not None:
            raise self.error
        assert self._faces is not None  # one of the two is there
        return self._faces


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """An item of a source and the image that was read of it, or the error instead."""

    index: int
    source: Any
    image: Image | None = None
    error: Exception | None = None


def detect_stream(
    sources: Iterable[Any],
    read: Callable[[Any], Image],
    detect: Detect,
    *,
    batch_size: int = 1,
    readers: int = 2,
    prefetch_bytes: int = 128 << 20,
    keep_images: bool = False,
    weigh: Weigh | None = None,
) -> Iterator[DetectionResult]:
    """The result of each item of a source, in order, those that failed with their error.

    Args:
        sources: Items of any number.
        read: Makes an image of an item, in a reader's thread.
        detect: Finds the faces of images in memory. Where a group of them fails, each is run
            alone, so that only those get an error that fail by themselves.
        batch_size: Images that go through the model together. Groups hold four times as many, so
            that there are enough of one size (one where it is 1), or less of large images; while
            one group is run, the next one is read.
        readers: As of `read_ahead`.
        prefetch_bytes: Most bytes of images that wait to be run.
        keep_images: Whether results hold their images.
        weigh: As of `read_ahead`.
    """
    group: list[Reading] = []
    most = 1 if batch_size == 1 else 4 * batch_size
    held = 0
    readings = read_ahead(
        sources,
        read,
        readers=readers,
        max_bytes=prefetch_bytes,
        max_images=max(most, 2 * readers),
        weigh=weigh,
    )
    failure: Exception | None = None
    with closing(readings):
        while failure is None:
            try:
                reading = next(readings, None)
            except Exception as error:  # the images before it come first
                reading, failure = None, error
            if reading is not None:
                group.append(reading)
                held += 0 if reading.image is None else reading.image.nbytes
                if len(group) < most and held < _GROUP_BYTES:
                    continue
            yield from _run(group, detect, keep_images)
            group, held = [], 0
            if reading is None:
                break
    if failure is not None:
        raise failure


def checked(result: DetectionResult, what: str) -> DetectionResult:
    """The result, or its error raised; an image that cannot be read is named by its index.

    Raises:
        ImageError: The image cannot be read.
        Exception: Any other error of the result.
    """
    if isinstance(result.error, ImageError):
        message = f"image {result.index} of the {what}: {result.error}"
        raise ImageError(message) from result.error
    if result.error is not None:
        raise result.error
    return result


def _run(group: Sequence[Reading], detect: Detect, keep_images: bool) -> Iterator[DetectionResult]:
    outcomes = iter(_isolated([one.image for one in group if one.image is not None], detect))
    for one in group:
        outcome = one.error if one.image is None else next(outcomes)
        image = one.image if keep_images else None
        if isinstance(outcome, Faces):
            yield DetectionResult(one.index, one.source, image, _faces=outcome)
        else:
            yield DetectionResult(one.index, one.source, image, error=outcome)


def _isolated(images: Sequence[Image], detect: Detect) -> list[Faces | Exception]:
    """The faces of each image; where they fail together, each is run alone, for its own."""
    if not images:
        return []
    try:
        return [*detect(images)]
    except ITEM_ERRORS as error:
        if len(images) == 1:
            return [error]
    return [outcome for image in images for outcome in _isolated([image], detect)]


def read_ahead(
    sources: Iterable[Any],
    read: Callable[[Any], Image],
    *,
    readers: int = 2,
    max_bytes: int = 128 << 20,
    max_images: int = 16,
    weigh: Weigh | None = None,
) -> Generator[Reading]:
    """The image of each item of a source, in order, while threads read those that come next.

    The source is advanced in the caller's thread, and no further than needed. What waits takes at
    most `max_bytes`, and the image whose turn it is. An image that cannot be weighed before it is
    read is taken to be as large as the largest so far.

    Args:
        sources: Items of any number; arrays are handed on without a thread.
        read: Makes an image of an item.
        readers: Threads; 0 reads in the caller's thread, each image when its turn comes.
        max_bytes: Most bytes of decoded images that wait.
        max_images: Most images that wait.
        weigh: Bytes of an item's image, by its header; 0 where that is not known.

    Raises:
        Exception: what the source raises, once all images before have been yielded.
        RuntimeError: the process is a fork of the one that began: its threads are not here.
    """
    items = iter(enumerate(sources))
    if readers == 0:
        for index, source in items:
            yield _result(index, source, lambda source=source: read(source))  # type: ignore[misc]
        return
    waiting: deque[tuple[int, Any, Future[Image]]] = deque()
    memory = _Memory(max_bytes, weigh)
    failure: Exception | None = None
    pool = _Readers(readers, memory)
    generation = forking.generation()
    try:
        while True:
            if forking.generation() != generation:
                raise RuntimeError(
                    "these images are read by threads of the process that this one was forked "
                    "from: begin a stream of its own here"
                )
            while len(waiting) < max_images and failure is None and memory.has_room(waiting):
                try:
                    index, source = next(items, (-1, None))
                except Exception as error:  # whatever it is, the images before it come first
                    failure = error
                    break
                if index < 0:
                    break
                if isinstance(source, np.ndarray):
                    future = _done(lambda: memory.read(source, read))  # noqa: B023
                else:
                    future = pool.submit(partial(memory.read, source, read, index))
                waiting.append((index, source, future))
            if not waiting:
                break
            index, source, future = waiting.popleft()
            memory.next(index)
            reading = _result(index, source, future.result)
            memory.release(reading.image)
            del future  # or the image would stay in memory until the next one is there
            yield reading
            del reading
    finally:
        if forking.generation() == generation:
            pool.close()
    if failure is not None:
        raise failure


class _Readers:
    """Threads that read, in the order in which they are given work.

    Those of a `ThreadPoolExecutor` take no work once the main thread is over, and the end of the
    process waits for them, though they may wait for room that nobody will make.
    """

    def __init__(self, most: int, memory: _Memory) -> None:
        self._most, self._memory = most, memory
        self._work: SimpleQueue[tuple[Callable[[], Image], Future[Image]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, read: Callable[[], Image]) -> Future[Image]:
        """What becomes of a reading."""
        future: Future[Image] = Future()
        self._work.put((read, future))
        if len(self._threads) < self._most:
            self._threads.append(forking.start(self._run, "facefind-reader", self.stop))
        return future

    def stop(self) -> None:
        """Have the threads end once what they read is read."""
        self._memory.close()
        with suppress(Empty):
            while True:
                self._work.get_nowait()
        self._work.put(None)

    def close(self) -> None:
        """Wait for the threads to end."""
        self.stop()
        for thread in self._threads:
            if thread is not threading.current_thread():  # garbage is collected in any thread
                thread.join()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            read, future = work
            try:
                future.set_result(read())
            except BaseException as error:  # raised again where the result is taken
                future.set_exception(error)
            del work, read, future  # or the image would stay in memory until there is more to read
        self._work.put(None)  # for the others


class _Memory:
    """Bytes of the images that wait: readers start none for which there is no room.

    The image whose turn it is has room always, so that readers and consumer never wait for each
    other.
    """

    def __init__(self, most: int, weigh: Weigh | None = None) -> None:
        self._changed = threading.Condition()
        self._most, self._weigh = most, weigh
        self._held = self._largest = self._reading = 0
        self._turn = 0
        self._closed = False

    def read(self, source: Any, read: Callable[[Any], Image], index: int | None = None) -> Image:
        """The image of an item, read once there is room for it, or at once without an index."""
        need = 0 if self._weigh is None or index is None else self._weigh(source)
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or index in (None, self._turn) or self._fits(need)
            )
            expected = need or self._largest
            self._reading += expected
        image = None
        try:
            image = read(source)
        finally:
            with self._changed:
                self._reading -= expected
                if image is not None:
                    self._held += image.nbytes
                    self._largest = max(self._largest, image.nbytes)
                self._changed.notify_all()
        return image

    def next(self, index: int) -> None:
        """Give way to the item that is needed now."""
        with self._changed:
            self._turn = index
            self._changed.notify_all()

    def release(self, image: Image | None) -> None:
        """Make room: an image waits no longer."""
        with self._changed:
            self._held -= 0 if image is None else image.nbytes
            self._changed.notify_all()

    def has_room(self, waiting: Collection[object]) -> bool:
        """Whether another item is worth having: room for its image, or none that waits."""
        with self._changed:
            return not waiting or self._fits()

    def close(self) -> None:
        """Let all readers go on, for good."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _fits(self, more: int = 0) -> bool:
        return self._held + self._reading + (more or self._largest) <= self._most


def is_one(sources: Any) -> bool:
    """Whether what should be an iterable of images is one image, or nothing of the kind."""
    if isinstance(sources, np.ndarray):
        return sources.ndim == 2 or (sources.ndim == 3 and sources.shape[2] in (1, 3, 4))
    one = isinstance(sources, str | bytes | bytearray | memoryview | os.PathLike)
    many = hasattr(sources, "__iter__") or hasattr(sources, "__getitem__")
    return one or not many or hasattr(sources, "read")  # a file, of which the lines would come


def weigh(source: Any) -> int:
    """Bytes of the image in a file, or in what has a `path`; 0 where its header does not say."""
    path = None if getattr(source, "load", None) else getattr(source, "path", source)
    if not isinstance(path, str | os.PathLike):
        return 0
    try:
        height, width = stored_size(path)
    except ImageError:
        return 0
    return 3 * height * width


def _result(index: int, source: Any, get: Callable[[], Image]) -> Reading:
    try:
        return Reading(index, source, get())
    except ITEM_ERRORS as error:
        return Reading(index, source, error=error)


def _done(get: Callable[[], Image]) -> Future[Image]:
    """What a thread would give, without one."""
    done: Future[Image] = Future()
    try:
        done.set_result(get())
    except Exception as error:  # raised again where the result is taken
        done.set_exception(error)
    return done
