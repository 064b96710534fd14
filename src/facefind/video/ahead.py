"""What comes one after another, made ahead by a thread: the frames of a video."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, TypeVar

from facefind import forking

__all__ = ["run_ahead"]

T = TypeVar("T")


def run_ahead(
    items: Generator[T],
    weigh: Callable[[T], int],
    *,
    max_bytes: int = 64 << 20,
    max_items: int = 64,
) -> Generator[T]:
    """The items of a generator, in order, which a thread of its own advances meanwhile.

    `streaming.read_ahead` is for items that can be read apart from each other, this is for those
    that cannot. What waits takes at most `max_bytes`, and one item.

    Args:
        items: Advanced and closed in the thread.
        weigh: Bytes of an item.
        max_bytes: Most bytes of items that wait.
        max_items: Most items that wait.

    Raises:
        Exception: what the generator raises, once all items before have been yielded.
        RuntimeError: the process is a fork of the one that began: its thread is not here.
    """
    lock = threading.RLock()  # a `with` of the condition itself could be left locked by Ctrl-C
    changed = threading.Condition(lock)
    waiting: deque[tuple[T, int]] = deque()
    state: dict[str, Any] = {"held": 0, "over": False, "left": False, "error": None}
    generation = forking.generation()

    def advance() -> None:
        try:
            with closing(items):
                for item in items:
                    weight = weigh(item)
                    with lock:
                        waiting.append((item, weight))
                        del item  # it may be large, and the next one may be long in coming
                        state["held"] += weight
                        changed.notify_all()
                        changed.wait_for(
                            lambda: (
                                state["left"]
                                or (state["held"] <= max_bytes and len(waiting) < max_items)
                            )
                        )
                        if state["left"]:
                            return
        except BaseException as error:  # raised again where the items are taken
            state["error"] = error
        finally:
            with lock:
                state["over"] = True
                changed.notify_all()

    def stop() -> None:
        with lock:
            state["left"] = True
            changed.notify_all()

    thread = forking.start(advance, "facefind-ahead", stop)
    try:
        while True:
            if forking.generation() != generation:
                raise RuntimeError(
                    "these items come from a thread of the process that this one was forked from: "
                    "begin again here"
                )
            with lock:
                changed.wait_for(lambda: waiting or state["over"])
                if not waiting:
                    break
                item, weight = waiting.popleft()
                state["held"] -= weight
                changed.notify_all()
            yield item
            del item
    finally:
        if forking.generation() == generation:
            stop()
            if threading.current_thread() is not thread:  # garbage is collected in any thread
                thread.join()
    if state["error"] is not None:
        raise state["error"]
