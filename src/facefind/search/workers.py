"""Who does a study's trials: this process, several of this machine, or a Ray cluster."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facefind.datasets import SetSpec
from facefind.errors import RuntimeUnavailableError
from facefind.search.candidates import Candidates
from facefind.search.settings import Settings, Trial
from facefind.search.study import Study, StudyError

_RETRIES = 3  # times that a trial is given to another node after it lost its own


def run_processes(folder: Path, settings: Settings, processes: int) -> Study:
    """The finished study, worked on by so many processes of this machine (1: by this one).

    Any number of such calls may work on one folder at once, from several terminals too.

    Raises:
        StudyError: if a process died; what it has finished is kept, and the next call resumes.
    """
    study = Study(folder, settings)
    if processes <= 1:
        study.run()
        return study
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_work, args=(str(folder), settings)) for _ in range(processes)
    ]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
    failed = [worker.exitcode for worker in workers if worker.exitcode]
    if failed:
        raise StudyError(
            f"{len(failed)} of {processes} processes ended with exit codes {failed}, their "
            "messages are above; what was finished is kept: run the search again"
        )
    return study


def _work(folder: str, settings: Settings) -> None:
    Study(folder, settings).run()


class RayRunner:
    """A runner: trials become tasks on a Ray cluster, and this process keeps the store.

    The training images must lie under the same path on every node. Where the study's folder does
    too (a shared disk), a trial that lost its node is resumed from its checkpoint; elsewhere it
    starts again on another node.

    Args:
        address: of the cluster; None starts Ray on this machine, "auto" joins what runs here.
        cpus: CPU cores of a trial.
        gpus: GPUs of a trial; a fraction shares one.

    Raises:
        RuntimeUnavailableError: if Ray is not installed.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        cpus: float = 1,
        gpus: float = 0,
        **options: Any,
    ) -> None:
        try:
            ray: Any = importlib.import_module("ray")
        except ModuleNotFoundError as error:
            raise RuntimeUnavailableError(
                "trials on a cluster need Ray: pip install 'facefind[ray]' on every node"
            ) from error
        if not ray.is_initialized():
            ray.init(address=address, **options)
        self._ray, self._cpus, self._gpus = ray, cpus, gpus
        self._task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=_RETRIES)(_train)

    def slots(self) -> int:
        """Trials that the cluster can do at once; at least 1."""
        there = self._ray.cluster_resources()
        fitting = [
            there.get(name, 0) // needed
            for name, needed in (("CPU", self._cpus), ("GPU", self._gpus))
            if needed
        ]
        return max(int(min(fitting, default=1)), 1)

    def __call__(self, study: Study, trials: Sequence[Trial]) -> bool:
        """Do every trial that can be claimed; True if there was any."""
        waiting, any_done = list(trials), False
        under_way: dict[Any, tuple[Trial, contextlib.ExitStack]] = {}
        try:
            while waiting or under_way:
                while waiting and len(under_way) < self.slots():
                    trial, claim = waiting.pop(0), contextlib.ExitStack()
                    got = claim.enter_context(study.store.claim(trial.key))
                    if got and study.store.result(trial.key) is None:
                        task = self._task.remote(
                            study.settings.candidates, trial.step, _absolute(trial)
                        )
                        under_way[task] = trial, claim
                    else:
                        claim.close()
                if not under_way:
                    break
                done, _ = self._ray.wait(list(under_way), num_returns=1)
                trial, claim = under_way.pop(done[0])
                with claim:
                    study.finish(trial, self._ray.get(done[0]))
                any_done = True
        finally:
            for task, (_, claim) in under_way.items():
                self._ray.cancel(task, force=True)
                claim.close()
        return any_done

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()


def _train(candidates: Candidates, step: int, content: dict[str, Any]) -> dict[str, Any]:
    return candidates.train(step, content)


def _absolute(trial: Trial) -> dict[str, Any]:
    """The trial's recipe with whole paths: a task runs in a folder of its own."""
    content = trial.recipe.to_dict()
    content["run"]["out"] = str(Path(content["run"]["out"]).resolve())
    start = content["run"]["init_from"]
    if start and Path(start).exists():  # else it is the name of a model
        content["run"]["init_from"] = str(Path(start).resolve())
    if content["data"]["cache"]:
        content["data"]["cache"] = str(Path(content["data"]["cache"]).resolve())
    for sets in ("root", "val"):
        content["data"][sets] = [str(SetSpec.parse(s).absolute()) for s in content["data"][sets]]
    return content
