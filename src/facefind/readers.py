"""Threads that read images ahead of whoever takes them, within so many bytes of memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facefind import forking

__all__ = ["Answer", "Memory", "Readers"]

Image = NDArray[np.uint8]
Weigh = Callable[[Any], int]


class Answer:
    """An image to come, or what was raised instead. Unlike a `Future`, Ctrl-C never locks it."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Image | None, BaseException | None]] = SimpleQueue()

    def put(self, read: Callable[[], Image], errors: type[BaseException] = BaseException) -> None:
        """Read it; what is raised is for whoever takes it."""
        try:
            self._queue.put((read(), None))
        except errors as error:
            self._queue.put((None, error))

    def get(self) -> Image:
        """Wait for it."""
        image, error = self._queue.get()
        if image is None:
            assert error is not None  # one of the two is there
            raise error
        return image


class Readers:
    """Threads that read, in the order in which they are given work.

    Those of a `ThreadPoolExecutor` take no work once the main thread is over, and the end of the
    process waits for them, though they may wait for room that nobody will make.
    """

    def __init__(self, most: int, memory: Memory) -> None:
        self._most, self._memory = most, memory
        self._work: SimpleQueue[tuple[Answer, Callable[[], Image]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, read: Callable[[], Image]) -> Answer:
        """What becomes of a reading."""
        answer = Answer()
        self._work.put((answer, read))
        if len(self._threads) < self._most:
            self._threads.append(forking.start(self._run, "facefind-reader", self.stop))
        return answer

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
            answer, read = work
            answer.put(read)
            del work, answer, read  # or the image would stay in memory until there is more to read
        self._work.put(None)  # for the others


class Memory:
    """Bytes of the images that wait: readers start none for which there is no room.

    The image whose turn it is has room always, so that readers and consumer never wait for each
    other.
    """

    def __init__(self, most: int, weigh: Weigh | None = None) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._most, self._weigh = most, weigh
        self._held = self._largest = self._reading = 0
        self._turn = 0
        self._closed = False

    def read(self, source: Any, read: Callable[[Any], Image], index: int | None = None) -> Image:
        """The image of an item, read once there is room for it, or at once without an index."""
        need = 0 if self._weigh is None or index is None else self._weigh(source)
        with self._lock:
            self._changed.wait_for(
                lambda: self._closed or index in (None, self._turn) or self._fits(need)
            )
            expected = need or self._largest
            self._reading += expected
        image = None
        try:
            image = read(source)
        finally:
            with self._lock:
                self._reading -= expected
                if image is not None:
                    self._held += image.nbytes
                    self._largest = max(self._largest, image.nbytes)
                self._changed.notify_all()
        return image

    def next(self, index: int) -> None:
        """Give way to the item that is needed now."""
        with self._lock:
            self._turn = index
            self._changed.notify_all()

    def release(self, image: Image | None) -> None:
        """Make room: an image waits no longer."""
        with self._lock:
            self._held -= 0 if image is None else image.nbytes
            self._changed.notify_all()

    def has_room(self, waiting: Collection[object]) -> bool:
        """Whether another item is worth having: room for its image, or none that waits."""
        with self._lock:
            return not waiting or self._fits()

    def close(self) -> None:
        """Let all readers go on, for good."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def _fits(self, more: int = 0) -> bool:
        return self._held + self._reading + (more or self._largest) <= self._most
