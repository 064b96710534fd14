"""Forks and ends of a process: each child has its own `generation`, both wait for `whole` blocks.

A fork copies the thread that calls it and no other. What other threads held stays held in the
child for good, so nothing here may be copied while they are in the midst of it: a fork waits until
such blocks, and imports in progress, are over. What would wait for its threads when it is freed is
to `keep`.

Python ends while daemon threads run, and unwinds them where they next come out of a library: C++
aborts the process for that. So the end waits until they are out, and lets none in again.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import math
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["generation", "guard", "keep", "start", "whole"]

_PAUSE = 0.001  # seconds between two looks at who is inside
_PATIENCE = 10.0  # seconds that the end of a process waits for its threads

_generation = 0
_guards = [threading.RLock()]  # the first has one thread fork at a time
_held: list[threading.RLock] = []  # those of them that the fork in progress has taken
_kept: weakref.WeakSet[Any] = weakref.WeakSet()
_helpers: dict[threading.Thread, Callable[[], None]] = {}  # threads of `start`, what stops each


class _Gate:
    """Lets any number of threads into their blocks, or one fork, or the end, through.

    It has no lock, which Ctrl-C could leave locked: threads add themselves before they look
    whether the gate is closed, and who closes it does so before looking who is inside.
    """

    def __init__(self) -> None:
        self.inside: set[int] = set()  # threads, by their ident
        self.closed = self.over = False

    def enter(self, thread: int) -> None:
        """Wait until the gate is open, and be inside."""
        while True:
            self.inside.add(thread)
            if not (self.closed or self.over):
                return
            self.inside.discard(thread)
            time.sleep(_PAUSE)

    def wait(self, seconds: float = math.inf) -> None:
        """Wait until no other thread is inside, for so long at most."""
        until = time.monotonic() + seconds
        while self.inside - {threading.get_ident()} and time.monotonic() < until:
            time.sleep(_PAUSE)


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


def start(work: Callable[[], None], name: str, stop: Callable[[], None]) -> threading.Thread:
    """A thread that runs `work`, and does not keep the process from ending.

    Args:
        work: What it does.
        name: Of the thread.
        stop: Has `work` end soon; it is called, and the thread waited for, as the process ends.
    """

    def run() -> None:
        _helpers[thread] = stop
        try:
            work()
        finally:
            _helpers.pop(thread, None)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """A block that a fork in another thread, and the end of the process, wait for.

    Any number of threads may be in such blocks. They are for calls of libraries whose state, if it
    were copied in the midst of one, would lock up, and of C++ libraries, as the module says.
    """
    gate, me = _gate, threading.get_ident()
    outermost = me not in gate.inside
    try:
        if outermost:
            gate.enter(me)
        yield
    finally:
        if outermost:
            gate.inside.discard(me)


def _before() -> None:
    held = list(_guards)  # a module whose import is waited for below may make another
    for lock in held:  # before the gate is closed: their holders may still have to pass it
        lock.acquire()
    _gate.closed = True
    _gate.wait()
    _held[:] = held
    for name, module in list(sys.modules.items()):
        if getattr(getattr(module, "__spec__", None), "_initializing", False):
            with contextlib.suppress(Exception):  # it is the other thread's to raise
                importlib.import_module(name)  # waits for the thread that imports it


def _after_in_parent() -> None:
    held = list(_held)
    _gate.closed = False
    for lock in reversed(held):
        lock.release()


def _after_in_child() -> None:
    global _generation
    _generation += 1
    _gate.closed = _gate.over = False
    _helpers.clear()
    for lock in reversed(_held):
        lock.release()
    if "onnxruntime" in sys.modules:
        _end_without_destructors()
    for thing in _kept:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
    _kept.clear()


def _end_without_destructors() -> None:
    """Have this process end once Python has ended, and C++ free nothing then.

    ONNX Runtime 1.32 would wait for a thread of its parent's. Only the GNU C library can do so.
    """
    libc = ctypes.CDLL(None)
    with contextlib.suppress(AttributeError):
        libc.on_exit(libc._exit, None)  # which is given the exit code


def _at_exit() -> None:
    """Have the threads of `start` end, and others come to no library any more."""
    until = time.monotonic() + _PATIENCE
    helpers = list(_helpers.items())
    for _, stop in helpers:
        stop()
    for thread, _ in helpers:
        thread.join(max(0.0, until - time.monotonic()))
    _gate.inside.add(threading.get_ident())  # what other modules do at the end goes on
    _gate.over = True
    _gate.wait(until - time.monotonic())


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    # What is registered last comes first before a fork. An import that is waited for may need the
    # locks that these hold during one: they are to be taken after the wait.
    for _name in ("logging", "concurrent.futures.thread"):
        importlib.import_module(_name)
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
