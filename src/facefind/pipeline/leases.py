"""Leases: names in a store that one process at a time holds, and renews while it lives.

A lease is a file `NAME.GENERATION`, which one process creates, and renews. Whoever has seen it
unchanged for its length, by a clock of its own, may create that of the next generation: no clocks
of different machines are compared. Whoever was late finds that file, and knows.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import threading
import time
import uuid
from typing import Self

from facefind import forking
from facefind.errors import DataError
from facefind.pipeline.stores import Store

__all__ = ["Expiry", "Lease", "hold", "new_owner"]

_log = logging.getLogger(__name__)


def new_owner() -> str:
    """A name for a holder, which says where it runs."""
    return f"{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


class Lease:
    """A name in a store, held by this process; in a `with` block it is renewed.

    Args:
        store: Where it lies.
        name: It, such as claims/00000001.
        generation: From 1; how often it was held.
        owner: The holder.
        seconds: Its length.

    Attributes:
        lost: Whether another has taken it over.
    """

    def __init__(
        self, store: Store, name: str, generation: int, owner: str, seconds: float
    ) -> None:
        self._store, self._name, self._seconds = store, name, seconds
        self.generation, self.owner, self.lost = generation, owner, False
        self._generation = forking.generation()
        self._stop = threading.Event()
        self._beats = 0

    def make(self) -> bool:
        """Create it; gives whether this process has."""
        return self._store.create(self._key(), self._content())

    def renew(self) -> None:
        """Show that the holder lives, and see whether another has taken it over."""
        self._beats += 1
        self.lost = self.lost or self._store.get(self._key()) is None or self.is_taken()
        if not self.lost:
            self._store.put(self._key(), self._content())

    def release(self) -> None:
        """Let others take it at once; a child that was forked from the holder does not."""
        if self._generation == forking.generation():
            self._store.put(self._key(), self._content(released=True))

    def is_taken(self) -> bool:
        """Whether there is one of the next generation."""
        return self._store.get(self._key(1)) is not None

    def start(self) -> None:
        """Renew it from here on, four times in its length, until `stop`."""
        threading.Thread(target=self._keep, name="facefind-lease", daemon=True).start()

    def stop(self) -> None:
        """Renew it no more."""
        self._stop.set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()
        if raised[0] is not None and not self.lost:
            self.release()

    def _keep(self) -> None:
        while not (self.lost or self._stop.wait(self._seconds / 4)):
            try:
                self.renew()
            except Exception as error:  # each store has errors of its own; the next may succeed
                _log.warning("%s was not renewed: %s", self._key(), error)

    def _key(self, later: int = 0) -> str:
        return f"{self._name}.{self.generation + later}"

    def _content(self, *, released: bool = False) -> bytes:
        content = {"owner": self.owner, "beats": self._beats, "released": released}
        return json.dumps(content).encode()


class Expiry:
    """What is seen of others' leases: which have not been renewed for their length.

    Args:
        store: Where they lie.
        seconds: Their length.
    """

    def __init__(self, store: Store, seconds: float) -> None:
        self._store, self._seconds = store, seconds
        self._seen: dict[str, tuple[bytes | None, float]] = {}

    def has_expired(self, key: str) -> bool:
        """Whether the lease of this key was released, or seen unchanged for its length."""
        content = self._store.get(key)
        before, since = self._seen.get(key, (None, 0.0))
        if content != before:
            self._seen[key] = content, since = content, time.monotonic()
        if content is not None and json.loads(content)["released"]:
            return True
        return time.monotonic() - since > self._seconds


def hold(store: Store, name: str, seconds: float) -> Lease:
    """The lease of a place that one process at a time writes to, renewed until it is stopped.

    That of a process which was killed is waited for: it is taken over once its length is over.

    Args:
        store: The place.
        name: Of the lease.
        seconds: Its length.

    Raises:
        DataError: another process holds it.
    """
    folder, _, base = name.rpartition("/")
    expiry = Expiry(store, seconds)
    first: tuple[str, bytes | None] | None = None
    while True:
        known = [one.rpartition(".") for one in store.names(folder)]
        numbers = [int(number) for stem, _, number in known if stem == base and number.isdecimal()]
        newest = max(numbers, default=0)
        key = f"{name}.{newest}"
        now = key, store.get(key)
        if first is not None and now != first and now[1] is not None:
            holder = json.loads(now[1])["owner"]
            raise DataError(f"{store.where} is being written by {holder}: wait for it")
        if not newest or expiry.has_expired(key):
            lease = Lease(store, name, newest + 1, new_owner(), seconds)
            if lease.make():
                for number in numbers:
                    store.remove(f"{name}.{number}")
                lease.start()
                return lease
        elif first is None and now[1] is not None:
            first = now
            holder = json.loads(now[1])["owner"]
            _log.warning(
                "%s was being written by %s: waiting up to %.0f seconds to see whether it lives",
                store.where, holder, seconds,
            )  # fmt: skip
        time.sleep(seconds / 30)
