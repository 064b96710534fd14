"""Decoded pictures that wait for the model: room for them, and which of them go through together.

Nothing here knows of threads of its own, HTTP or models, so that time and order can be tested.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Batches", "Room"]

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Batches(Generic[K, T]):
    """Items that wait, those of one key to be run together; not for several threads at once.

    Args:
        max_wait: Seconds that an item waits for others of its key.
        size: Most items of a key that are run together.
    """

    def __init__(self, max_wait: float, size: Callable[[K], int]) -> None:
        self._max_wait, self._size = max_wait, size
        self._groups: OrderedDict[K, deque[tuple[float, T]]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, key: K, item: T, now: float) -> None:
        """Add an item that waits from `now` on, in seconds."""
        self._groups.setdefault(key, deque()).append((now, item))
        self._count += 1

    def take(self, now: float) -> tuple[list[T], float | None]:
        """The items to run now, at most `size`, and where there are none, seconds until some are.

        A key's items are run once they are as many as go together, or the first of them has waited
        long enough; of several such keys, the one whose first item came first. None as seconds:
        nothing waits.
        """
        ready, soonest, first = None, None, float("inf")
        for key, group in self._groups.items():
            since = group[0][0]
            left = since + self._max_wait - now
            if left <= 0 or len(group) >= self._size(key):
                if since < first:
                    ready, first = key, since
            elif soonest is None or left < soonest:
                soonest = left
        if ready is None:
            return [], soonest
        group = self._groups[ready]
        items = [group.popleft()[1] for _ in range(min(len(group), self._size(ready)))]
        if not group:
            del self._groups[ready]
        self._count -= len(items)
        return items, None


class Room:
    """Bytes that may be in memory at a time; one holding that is larger has it all to itself."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self._changed = threading.Condition()
        self._line: deque[object] = deque()

    def take(self, size: int, timeout: float | None = None) -> bool:
        """Wait until there is room for so many bytes, and take it; False where time ran out.

        Who comes first is served first: a large holding is not passed by small ones for ever.
        """
        place = object()
        with self._changed:
            self._line.append(place)
            try:
                got = self._changed.wait_for(
                    lambda: self._line[0] is place and self._fits(size), timeout
                )
                if got:
                    self.held += size
                return got
            finally:
                self._line.remove(place)
                self._changed.notify_all()

    def take_now(self, size: int) -> bool:
        """Take room for so many bytes where there is some."""
        with self._changed:
            if self._line or not self._fits(size):
                return False
            self.held += size
            return True

    def give(self, size: int) -> None:
        """Give room back."""
        with self._changed:
            self.held -= size
            self._changed.notify_all()

    def _fits(self, size: int) -> bool:
        return self.held == 0 or self.held + size <= self.most
