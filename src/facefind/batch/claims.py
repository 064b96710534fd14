"""Who does which shard: claims that are renewed, and may be taken over where they are not.

A claim is a lease, `claims/SHARD.GENERATION`, see `pipeline.leases`. Whoever was late finds that of
the next generation before it writes, and its results there where it has not: they are created once.
"""

from __future__ import annotations

import json
import random
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from facefind.batch.job import Job
from facefind.pipeline.leases import Expiry, Lease, new_owner

__all__ = ["MOST_GENERATIONS", "Claim", "Claims", "newest"]

MOST_GENERATIONS = 5
"""How often a shard is claimed: what has ended so many workers would end the next one."""

_MISSES = 8  # claims of others that are met before all are listed anew


class Claim(Lease):
    """A shard that this worker has claimed; in a `with` block it is renewed.

    Args:
        job: The job.
        shard: Its number.
        generation: From 1; how often it was claimed.
        owner: The worker.
    """

    def __init__(self, job: Job, shard: int, generation: int, owner: str) -> None:
        super().__init__(job.store, f"claims/{shard:08}", generation, owner, job.lease)
        self.job, self.shard = job, shard

    def commit(self, content: bytes) -> bool:
        """Write the shard's results, once; gives whether this worker has."""
        self.lost = self.lost or self.is_taken()
        if self.lost:
            return False
        return self.job.store.create(self.job.result_key(self.shard), content)


class Claims:
    """The shards that a worker claims, one after the other, until all are done.

    Args:
        job: The job, planned.
        poll: Seconds between two looks at what others have claimed.
    """

    def __init__(self, job: Job, *, poll: float | None = None) -> None:
        self._job = job
        self._poll = min(job.lease / 8, 2.0) if poll is None else poll
        self._expiry = Expiry(job.store, job.lease)
        self.owner = new_owner()

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
        return self._expiry.has_expired(f"claims/{shard:08}.{generation}")


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
