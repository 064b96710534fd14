"""Forks of a process: each child has its own `generation`, a fork waits for `whole` blocks.

A fork copies the thread that calls it and no other. What other threads held stays held in the
child for good, so nothing here may be copied while they are in the midst of it: a fork waits until
such blocks, and imports in progress, are over. What would wait for its threads when it is freed is
to `keep`.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

__all__ = ["generation", "guard", "keep", "whole"]

_generation = 0
_guards: list[threading.RLock] = []
_held: list[threading.RLock] = []  # those of them that the fork in progress has taken
_kept: weakref.WeakSet[Any] = weakref.WeakSet()


class _Gate:
    """Lets any number of threads into their blocks, or one fork through."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.inside = 0
        self.closed = False
        self.mine = threading.local()  # how deep this thread is in such blocks

    def depth(self) -> int:
        return int(getattr(self.mine, "depth", 0))


_gate = _Gate()


def generation() -> int:
    """How many forks lie between this process and the one that first imported facefind.

    Threads of other libraries do not live through a fork: what has some belongs to one generation,
    and is made anew in the next.
    """
    return _generation


def guard() -> threading.RLock:
    """A new lock that a forked child finds free: a fork in any thread waits for it.

    It is for short blocks, such as those that change the state of the whole process for a moment.
    It lives as long as the process: make one for a module, not for an object.
    """
    lock = threading.RLock()
    _guards.append(lock)
    return lock


def keep(thing: Any) -> None:
    """Have forked children never free an object of this process, not even at their end.

    It is for objects of libraries with threads of their own: a child would wait for those for
    ever. This process frees them as it likes.
    """
    _kept.add(thing)


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """A block that a fork in another thread waits for; any number of threads may be in such blocks.

    It is for libraries whose state, were it copied in the midst of their work, would lock up.
    """
    gate = _gate
    if not gate.depth():
        with gate.changed:
            gate.changed.wait_for(lambda: not gate.closed)
            gate.inside += 1
    gate.mine.depth = gate.depth() + 1
    try:
        yield
    finally:
        gate.mine.depth -= 1
        if not gate.depth():
            with gate.changed:
                gate.inside -= 1
                gate.changed.notify_all()


def _before() -> None:
    held = list(_guards)  # a module whose import is waited for below may make another
    for lock in held:  # before the gate is closed: their holders may still have to pass it
        lock.acquire()
    own = 1 if _gate.depth() else 0
    with _gate.changed:
        _gate.changed.wait_for(lambda: not _gate.closed)  # another thread forks
        _gate.closed = True
        _gate.changed.wait_for(lambda: _gate.inside == own)
    _held[:] = held
    for name, module in list(sys.modules.items()):
        if getattr(getattr(module, "__spec__", None), "_initializing", False):
            with contextlib.suppress(Exception):  # it is the other thread's to raise
                importlib.import_module(name)  # waits for the thread that imports it


def _after_in_parent() -> None:
    held = list(_held)
    with _gate.changed:
        _gate.closed = False
        _gate.changed.notify_all()
    for lock in reversed(held):
        lock.release()


def _after_in_child() -> None:
    global _generation
    _generation += 1
    _gate.changed = threading.Condition()  # others may have waited for the old one
    _gate.closed = False
    for lock in reversed(_held):
        lock.release()
    for thing in _kept:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
    _kept.clear()


if hasattr(os, "register_at_fork"):
    # What is registered last comes first before a fork. An import that is waited for may need the
    # locks that these hold during one: they are to be taken after the wait.
    for _name in ("logging", "concurrent.futures.thread"):
        importlib.import_module(_name)
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
