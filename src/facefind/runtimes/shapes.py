"""What a runtime prepares for one input shape, kept for the shapes that come again and again."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Prepared = TypeVar("Prepared")
Shape = tuple[int, ...]


class ByShape(Generic[Prepared]):
    """Gives what is prepared for an input shape, or what takes any shape.

    The first shapes get their own, later ones share one that takes any, and a shape that keeps
    coming gets its own as well, in the place of the one that was not called for longest.

    Args:
        make: prepares for a shape, or for any (None).
        kept: shapes with their own at most.
        early: of them given to the first shapes that come.
        worth: calls after which a later shape has earned its own.
    """

    def __init__(
        self, make: Callable[[Shape | None], Prepared], kept: int, early: int, worth: int
    ) -> None:
        self._make, self._kept, self._early, self._worth = make, kept, early, worth
        self._lock = threading.Lock()
        self._own: OrderedDict[Shape, Prepared] = OrderedDict()
        self._any: Prepared | None = None
        self._seen: Counter[Shape] = Counter()

    def __call__(self, shape: Shape) -> Prepared:
        """What is prepared for a shape; it may be prepared first."""
        with self._lock:
            own = self._own.get(shape)
            if own is not None:
                self._own.move_to_end(shape)
                return own
            self._seen[shape] += 1
            early = self._any is None and len(self._own) < self._early
            if not early and self._seen[shape] < self._worth:
                if len(self._seen) > 1000:
                    self._seen.clear()
                if self._any is None:
                    self._any = self._make(None)
                return self._any
            own = self._own[shape] = self._make(shape)
            if len(self._own) > self._kept:
                dropped, _ = self._own.popitem(last=False)
                self._seen[dropped] = 0
            return own
