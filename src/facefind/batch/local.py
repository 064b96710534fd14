"""The engine of one machine: processes, each on a core of its own, that do shards of a job."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection
from typing import Any

from facefind.batch.claims import Claim
from facefind.batch.job import Job
from facefind.batch.worker import Done, Watch, Worker
from facefind.errors import FacefindError
from facefind.runtimes.cpu import logical_cpus, usable_cores

__all__ = ["run_local"]

Make = Callable[..., Worker]
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_RESTARTS = 3  # of a worker, on average: what ends them again and again is no accident


def run_local(
    job: Job,
    workers: int | None = None,
    watch: Watch = lambda done: None,
    *,
    make: Make = Worker.of,
    pin: bool = True,
    **more: Any,
) -> None:
    """Do a job with processes of this machine, until all its shards are done.

    The shard of a process that dies is done again by another at once, and the process is replaced.
    Call it below `if __name__ == "__main__"`: processes import the module that starts them.

    Args:
        job: The job, planned. Workers elsewhere may do it at the same time.
        workers: Processes; None is one for each physical core that this process may use.
        watch: Takes how far each shard is, in this process.
        make: Makes the worker in its process: a function of a module, called with the job, `watch`
            and `more`.
        pin: Whether each process stays on one core and its runtime has one thread: for CPUs.
        more: Options of the detector in place of the job's, such as `provider`.

    Raises:
        FacefindError: a process cannot begin, or too many died.
    """
    if not job.left():
        return
    cpus = _cores(workers or usable_cores()) if pin else [None] * (workers or 1)
    more = {"threads": 1, **more} if pin else more
    context = multiprocessing.get_context("spawn")
    restarts = _RESTARTS * len(cpus)
    running: dict[connection.Connection, tuple[Any, int | None]] = {}
    shards: dict[connection.Connection, Done] = {}

    def start(cpu: int | None) -> None:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(job, theirs, cpu, make, more), daemon=True)
        with _one_thread(pin):
            process.start()
        theirs.close()
        running[ours] = process, cpu

    try:
        for cpu in cpus:
            start(cpu)
        while running:
            for pipe in connection.wait(list(running)):
                assert isinstance(pipe, connection.Connection)
                with suppress(EOFError, ConnectionError):
                    said = pipe.recv()
                    if isinstance(said, Exception):
                        raise said
                    shards[pipe] = said
                    watch(said)
                    continue
                process, cpu = running.pop(pipe)
                process.join()
                if process.exitcode == 0:
                    continue
                _release(job, shards.pop(pipe, None))
                restarts -= 1
                if restarts < 0:
                    raise FacefindError(
                        f"workers died again and again, the last with exit code "
                        f"{process.exitcode} (a negative one is a signal: -9 where memory ran "
                        "out); what is done is kept"
                    )
                start(cpu)
    finally:
        for process, _ in running.values():
            process.terminate()
        for pipe, (process, _) in running.items():
            process.join()
            _release(job, shards.get(pipe))


def _work(
    job: Job, pipe: connection.Connection, cpu: int | None, make: Make, more: dict[str, Any]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it gets it, too, and ends it
    if cpu is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cpu})
    try:
        worker = make(job, watch=pipe.send, **more)
        for _ in worker.run():
            pass
    except BrokenPipeError:  # whoever started it is gone
        pass
    except FacefindError as error:  # the others would fail alike
        pipe.send(error)


def _release(job: Job, last: Done | None) -> None:
    """Give up the claim of a worker that has died, unless its shard is done."""
    if last is not None and not last.whole:
        with suppress(OSError):
            Claim(job, last.shard, last.generation, "").release()


def _cores(count: int) -> list[int | None]:
    """The CPU of each of so many workers: one of each core first."""
    cpus = logical_cpus()
    step = max(1, len(cpus) // usable_cores())
    order = [cpu for first in range(step) for cpu in cpus[first::step]]
    return [order[number % len(order)] for number in range(count)]


@contextmanager
def _one_thread(pin: bool) -> Iterator[None]:
    """Has libraries of the processes that are started take one thread each."""
    before = {name: os.environ.get(name) for name in _THREADS}
    if pin:
        os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
