"""Who does which shard: claims that are renewed, and may be taken over where they are not.

A claim is a file `claims/SHARD.GENERATION`, which one worker creates, and renews while it works.
Whoever has seen it unchanged for as long as a lease, by a clock of its own, may create that of the
next generation: no clocks of different machines are compared. Whoever was late finds that claim
before it writes, and its results there where it has not: they are created once.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from facefind.batch.job import Job

__all__ = ["MOST_GENERATIONS", "Claim", "Claims", "newest"]

MOST_GENERATIONS = 5
"""How often a shard is claimed: what has ended so many workers would end the next one."""

_MISSES = 8  # claims of others that are met before all are listed anew
_log = logging.getLogger(__name__)


@dataclass
class Claim:
    """A shard that this worker has claimed; in a `with` block it is renewed.

    Attributes:
        job: The job.
        shard: Its number.
        generation: From 1; how often it was claimed.
        owner: The worker.
        lost: Whether another worker has taken the shard over.
    """

    job: Job
    shard: int
    generation: int
    owner: str
    lost: bool = False
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _beats: int = 0

    def make(self) -> bool:
        """Create the claim; gives whether this worker has."""
        return self.job.store.create(self._key(), self._content())

    def renew(self) -> None:
        """Show that the worker lives, and see whether another has taken the shard over."""
        self._beats += 1
        self.job.store.put(self._key(), self._content())
        self.lost = self.lost or self._is_taken()

    def commit(self, content: bytes) -> bool:
        """Write the shard's results, once; gives whether this worker has."""
        self.lost = self.lost or self._is_taken()
        if self.lost:
            return False
        return self.job.store.create(self.job.result_key(self.shard), content)

    def release(self) -> None:
        """Let others claim the shard at once."""
        self.job.store.put(self._key(), self._content(released=True))

    def __enter__(self) -> Claim:
        threading.Thread(target=self._keep, name="facefind-lease", daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        if raised[0] is not None and not self.lost:
            self.release()

    def _keep(self) -> None:
        while not self._stop.wait(self.job.lease / 4):
            try:
                self.renew()
            except Exception as error:  # each store has errors of its own; the next may succeed
                _log.warning("the claim of shard %d was not renewed: %s", self.shard, error)

    def _is_taken(self) -> bool:
        return self.job.store.get(self._key(1)) is not None

    def _key(self, later: int = 0) -> str:
        return f"claims/{self.shard:08}.{self.generation + later}"

    def _content(self, *, released: bool = False) -> bytes:
        content = {"owner": self.owner, "beats": self._beats, "released": released}
        return json.dumps(content).encode()


class Claims:
    """The shards that a worker claims, one after the other, until all are done.

    Args:
        job: The job, planned.
        poll: Seconds between two looks at what others have claimed.
    """

    def __init__(self, job: Job, *, poll: float | None = None) -> None:
        self._job = job
        self._poll = min(job.lease / 8, 2.0) if poll is None else poll
        self._seen: dict[int, tuple[bytes | None, float]] = {}
        self.owner = f"{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"

    def __iter__(self) -> Iterator[Claim]:
        """Claims of this worker; each is for a shard that was not done."""
        while True:
            left, claimed = self._job.left(), newest(self._job)
            if all(claimed.get(shard, 0) >= MOST_GENERATIONS for shard in left):
                left = [shard for shard in left if not self._is_given_up(shard)]
                if not left:
                    return
            free = [shard for shard in left if shard not in claimed]
            claim = None
            for claim in self._free(free):
                yield claim
            if claim is None and not free:
                claim = next(self._expired(left, claimed), None)
                if claim is None:
                    time.sleep(self._poll)
                else:
                    yield claim

    def of(self, shard: int) -> Claim | None:
        """A claim of one shard, once it is free; None where it is done, or given up."""
        while not self._job.is_done(shard):
            generation = newest(self._job).get(shard, 0)
            if generation >= MOST_GENERATIONS and self._is_given_up(shard):
                return None
            claim = self._take(shard, generation)
            if claim is not None:
                return claim
            time.sleep(self._poll)
        return None

    def _free(self, free: list[int]) -> Iterator[Claim]:
        """Claims of shards that nobody had, until others are met too often."""
        # Workers begin at places of their own, so that they seldom meet.
        start = random.randrange(len(free) or 1)
        queue, misses = deque(free[start:] + free[:start]), 0
        while queue and misses < _MISSES:
            claim = Claim(self._job, queue.popleft(), 1, self.owner)
            if claim.make():
                yield claim
            else:
                misses += 1

    def _expired(self, left: list[int], claimed: dict[int, int]) -> Iterator[Claim]:
        for shard in left:
            claim = self._take(shard, claimed[shard])
            if claim is not None:
                yield claim

    def _take(self, shard: int, generation: int) -> Claim | None:
        """A claim of the next generation, where the last one has expired; or the first one."""
        if generation >= MOST_GENERATIONS:
            return None
        if generation and not self._has_expired(shard, generation):
            return None
        claim = Claim(self._job, shard, generation + 1, self.owner)
        return claim if claim.make() and not self._job.is_done(shard) else None

    def _is_given_up(self, shard: int) -> bool:
        return self._has_expired(shard, MOST_GENERATIONS)

    def _has_expired(self, shard: int, generation: int) -> bool:
        content = self._job.store.get(f"claims/{shard:08}.{generation}")
        before, since = self._seen.get(shard, (None, 0.0))
        if content != before:
            self._seen[shard] = content, since = content, time.monotonic()
        if content is not None and json.loads(content)["released"]:
            return True
        return time.monotonic() - since > self._job.lease


def newest(job: Job) -> dict[int, int]:
    """The newest generation of each shard that has been claimed."""
    found: dict[int, int] = {}
    for name in job.store.names("claims"):
        shard, _, generation = name.partition(".")
        found[int(shard)] = max(found.get(int(shard), 0), int(generation))
    return found


def owners(job: Job, shards: dict[int, int]) -> dict[int, Any]:
    """Who has claimed shards, by their newest generations."""
    contents = {s: job.store.get(f"claims/{s:08}.{g}") for s, g in shards.items()}
    return {s: json.loads(content)["owner"] for s, content in contents.items() if content}
