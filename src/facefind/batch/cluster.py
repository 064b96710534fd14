"""The engine of a Ray cluster: actors of Ray Data, as many as there are free cores or GPUs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from facefind.batch.claims import Claims
from facefind.batch.job import Job
from facefind.batch.worker import Done, Watch, Worker
from facefind.errors import RuntimeUnavailableError

__all__ = ["Shards", "run_ray"]

Make = Callable[..., Worker]


class Shards:
    """What Ray Data maps over the numbers of shards: each is claimed, done and counted.

    Args:
        job: The job, planned.
        make: Makes the worker.
        more: Options of the detector in place of the job's.
    """

    def __init__(self, job: Job, make: Make, more: dict[str, Any]) -> None:
        self._claims = Claims(job)
        self._worker = make(job, watch=lambda done: None, **more)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """What came of the shards under "shard", a row each; none of those that others did."""
        rows: list[Done] = []
        for shard in batch["shard"]:
            claim = self._claims.of(int(shard))
            if claim is not None:
                rows.append(self._worker.do(claim))
        return {"done": [asdict(row) for row in rows]}


def run_ray(
    job: Job,
    workers: int | None = None,
    watch: Watch = lambda done: None,
    *,
    address: str | None = None,
    make: Make = Worker.of,
    cpus: float = 1,
    gpus: float = 0,
    **more: Any,
) -> None:
    """Do a job with actors of a Ray cluster, until all its shards are done or given up.

    Ray starts actors as there is room, up to `workers`, and others in place of those that die; what
    a dead one had claimed is done again once its lease is over. The job and its pictures must be
    at the same place for every node: a shared disk, or a bucket.

    Args:
        job: The job, planned. Other workers may do it at the same time.
        workers: Actors at most; None is as many as the cluster has room for.
        watch: Takes what came of each shard.
        address: Of the cluster; None begins Ray on this machine, "auto" joins what runs here.
        make: Makes the worker of an actor.
        cpus: Cores of an actor.
        gpus: GPUs of an actor; a fraction shares one.
        more: Options of the detector in place of the job's.

    Raises:
        RuntimeUnavailableError: Ray is not installed.
    """
    left = [{"shard": shard} for shard in job.left()]
    if not left:
        return
    try:
        ray: Any = importlib.import_module("ray")
        data: Any = importlib.import_module("ray.data")
    except ModuleNotFoundError as error:
        raise RuntimeUnavailableError(
            "jobs on a cluster need Ray: pip install 'facefind[ray]' on every node"
        ) from error
    if not ray.is_initialized():
        ray.init(address=address, log_to_driver=False)
    there = ray.cluster_resources()
    room = [there.get(n, 0) // need for n, need in (("CPU", cpus), ("GPU", gpus)) if need]
    most = max(1, workers or int(min(room, default=1)))
    more = {"threads": max(1, int(cpus)), **more}
    results = data.from_items(left, override_num_blocks=len(left)).map_batches(
        Shards,
        fn_constructor_args=(job, make, more),
        batch_size=1,
        concurrency=(1, most),
        num_cpus=cpus,
        num_gpus=gpus or None,
    )
    for row in results.iter_rows():
        watch(Done(**row["done"]))
