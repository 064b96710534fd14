"""Images of an iterable of any length: read ahead by threads, run in groups, failing one by one.

Memory is bounded by bytes, whatever the length and whatever the images' sizes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facefind import forking
from facefind.errors import ImageError, WeightsError
from facefind.faces import Faces
from facefind.images import stored_size
from facefind.readers import Answer, Memory, Readers

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
    waiting: deque[tuple[int, Any, Answer]] = deque()
    memory = Memory(max_bytes, weigh)
    failure: Exception | None = None
    pool = Readers(readers, memory)
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
                    answer = Answer()
                    answer.put(partial(memory.read, source, read), Exception)
                else:
                    answer = pool.submit(partial(memory.read, source, read, index))
                waiting.append((index, source, answer))
            if not waiting:
                break
            index, source, answer = waiting.popleft()
            memory.next(index)
            reading = _result(index, source, answer.get)
            memory.release(reading.image)
            del answer  # or the image would stay in memory until the next one is there
            yield reading
            del reading
    finally:
        if forking.generation() == generation:
            pool.close()
    if failure is not None:
        raise failure


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
