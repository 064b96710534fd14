"""The training loop: recipe in, run folder out.

A run folder holds `recipe.json` and `run.json` (all that made the run), `first_batch.jpg`,
`log.jsonl` and TensorBoard events, `last.pt` (to resume from), `best.pt` (the weights of the best
evaluation, where there are several) and, at the end, `final.pt` (the result).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import torch

from facefind import datasets
from facefind.errors import DataError
from facefind.files import Lock
from facefind.learn import checkpoints, run_folder
from facefind.learn.cache import make_cache
from facefind.learn.checks import check
from facefind.learn.device_images import device_loader, on_device
from facefind.learn.distributed import any_process, make_device, process_group
from facefind.learn.ema import EMA
from facefind.learn.index_sampler import Epochs, IndexSampler, sized
from facefind.learn.initialization import prepared
from facefind.learn.loader import Batch, TrainingSet, loader, worker_count
from facefind.learn.logs import DeviceWork, LoadingWatch, Log, Meter
from facefind.learn.mining import batches_ahead, make_miner
from facefind.learn.opening import cache_line, opening_lines, write_first_batch
from facefind.learn.optimizers import freeze, make_optimizer
from facefind.learn.precision import choose_precision
from facefind.learn.recipe import Recipe
from facefind.learn.schedule import Progress, Stopwatch, crop_size, step_limit
from facefind.learn.state import State, TrainingError
from facefind.learn.step import Step, captures, compiles
from facefind.learn.validation import Evaluator
from facefind.outputs import check_outputs

__all__ = ["TrainingError", "train"]


def train(
    recipe: Recipe,
    *,
    resume: bool = False,
    stop_at: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Path:
    """Train a recipe and return its run folder.

    Under torchrun every process calls this with the same recipe; gradients are averaged, the
    first process writes. A resumed run gives the weights of an uninterrupted one.

    The environment variable FACEFIND_MAX_STEPS, a number, limits every training to as many steps:
    the schedule then spans these, and the run is finished after them. It is meant for trying out
    a command.

    Args:
        recipe: what to train.
        resume: start from the folder's last checkpoint where there is one. Options that would
            change the run are refused.
        stop_at: end after this many steps, as if killed just after a checkpoint.
        clock: gives the seconds by which a run of `schedule.minutes` is measured.

    Raises:
        DataError: if no training images are named, a set cannot be read, none of its images has a
            face, or options make no sense.
        TrainingError: if the folder holds another run, or a loss or gradient is not finite.
        RuntimeUnavailableError: if bf16 is requested by name on a device without it.
    """
    device = make_device(recipe.run.device)
    with process_group(device) as (rank, processes), _locked(recipe, rank):
        run = _Run(recipe, device, rank, processes, resume=resume, clock=clock)
        run.train(stop_at or sys.maxsize)
        return run.folder


@contextlib.contextmanager
def _locked(recipe: Recipe, rank: int) -> Iterator[None]:
    """The run folder, which is no folder of images, held by the first process of the run."""
    specs = [datasets.SetSpec.parse(one) for one in (*recipe.data.root, *recipe.data.val)]
    folder = _folder(recipe)
    if check_outputs([spec.path for spec in specs], folders={"--out": folder}):
        raise DataError(f"--out {folder} lies in a set of --data: give a folder elsewhere")
    if rank:
        yield
        return
    lock = Lock(folder / "lock")
    if not lock.acquire():
        raise TrainingError(f"{folder} is being trained by {lock.holder()}: wait for it")
    try:
        yield
    finally:
        lock.release()


class _Termination:
    """SIGTERM while a run trains: it takes effect when a step has ended, `at_once` where none runs.

    Called, it says whether SIGTERM has come to any of the processes; each must call it.
    """

    def __init__(self) -> None:
        self._came, self._owner = threading.Event(), os.getpid()
        self._before: Any = None  # signals are the main thread's alone

    def __call__(self) -> bool:
        if any_process(self._came.is_set()):
            self._came.set()
        return self._came.is_set()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._deliver()

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """While all is saved, and what is done takes long: SIGTERM does what it did before."""
        if self._before is None:
            yield
            return
        signal.signal(signal.SIGTERM, self._before)
        try:
            self._deliver()
            yield
        finally:
            signal.signal(signal.SIGTERM, self._note)

    def _deliver(self) -> None:
        if self._came.is_set():
            self._came.clear()
            signal.raise_signal(signal.SIGTERM)

    def _note(self, number: int, frame: object) -> None:
        if os.getpid() == self._owner:
            self._came.set()
        else:  # a process that loads images
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _folder(recipe: Recipe) -> Path:
    return recipe.run.out or Path("runs") / recipe.name


class _Run:
    """A run in one of its processes: all that a recipe is made into, and the loop over steps."""

    def __init__(
        self,
        recipe: Recipe,
        device: torch.device,
        rank: int,
        processes: int,
        *,
        resume: bool,
        clock: Callable[[], float],
    ) -> None:
        run, schedule, data = recipe.run, recipe.schedule, recipe.data
        self.recipe, self.device, self.rank, self.clock = recipe, device, rank, clock
        self.processes = processes
        self.folder = _folder(recipe)
        last = self.folder / checkpoints.LAST
        if last.exists() and not resume:
            raise TrainingError(
                f"{self.folder} already holds a run; resume it with --resume {self.folder}, or "
                "choose another --out"
            )
        check(recipe, processes)
        if run.threads:
            torch.set_num_threads(run.threads)
        torch.manual_seed(run.seed)
        samples, held_out = datasets.read_sets(data.root, val=data.val, hold_out=data.hold_out)
        if held_out and not samples:
            raise DataError(f"--data.hold-out {data.hold_out} leaves no image to train on")
        datasets.check_faces(samples, "to learn from")
        self.reading = {"max_pixels": data.max_pixels, "truncated": data.truncated}
        self.dataset = TrainingSet(samples, recipe.augment, run.seed, reading=self.reading)
        self.fingerprint = run_folder.fingerprint(samples)
        content = checkpoints.load(last) if last.exists() else {}
        if content:
            run_folder.check_resume(self.folder, content, recipe, self.fingerprint)
        begun_in = run_folder.begun_in(content)
        self.precision, why = choose_precision(run.precision, device, begun_in)

        network = prepared(recipe.network.build(), run, device, fresh=not content)
        epochs = Epochs([s.group for s in samples], run.seed, balance=data.balance)
        self.state = State(
            network,
            freeze(network, recipe.optim.frozen),
            make_optimizer(network, recipe.optim),
            EMA(network, recipe.optim.ema) if recipe.optim.ema else None,
            torch.amp.GradScaler(device.type, enabled=self.precision == "fp16"),
            make_miner(epochs, recipe, processes),
        )
        self.step = self.state.restore(content) if content else 0
        self.watch = Stopwatch(content.get("seconds", 0.0), clock)
        self.progress = Progress(schedule, len(samples), self.watch, limit=step_limit())
        self.evaluator = Evaluator(self.folder, recipe, held_out, len(samples))
        over = self.progress.done(self.step)
        self.finished = over and run_folder.is_finished(self.folder, self.step)
        facts = run_folder.facts_of(
            samples,
            held_out,
            steps=self.progress.steps,
            parameters=sum(p.numel() for p in network.parameters()),
            processes=processes,
            device=str(device),
            precision=self.precision,
        )
        if rank == 0:
            run_folder.record(self.folder, self.step, recipe, facts)
        self.opening = opening_lines(recipe, self.folder, facts, step=self.step, why=why)
        chosen = replace(recipe, run=replace(run, precision=self.precision))
        self.update = Step(self.state, recipe.criterion.build(network), chosen, device, processes)
        self.sampler = self._sampler(epochs, processes)
        self.loading: dict[str, Any] = {
            "batch": schedule.batch // processes // recipe.optim.accumulate,
            "workers": worker_count(data),
            "prefetch": batches_ahead(recipe, worker_count(data)),
            "steady": captures(chosen, device, processes),
        }
        self.compiled = compiles(chosen, device, processes)

    def _sampler(self, epochs: Epochs, processes: int) -> Iterator[tuple[int, int, int]]:
        """What this process draws from the present step on: (index, sample, size)."""
        batch, miner, augment = self.recipe.schedule.batch, self.state.miner, self.recipe.augment
        start = self.step * batch
        pairs = (
            miner.sampler(self.rank, processes)
            if miner
            else IndexSampler(epochs, start=start, rank=self.rank, processes=processes)
        )
        return sized(pairs, batch, lambda step: crop_size(self.progress.fraction(step), augment))

    def _batches(self, log: Log | None) -> Iterable[Batch]:
        """Endless batches; images that are kept on the device are decoded here."""
        recipe, dataset, loading = self.recipe, self.dataset, self.loading
        cache, fill, workers = recipe.data.cache, recipe.augment.fill, loading["workers"]
        kept = on_device(
            cache, dataset.samples, self.device, workers=workers, fill=fill, reading=self.reading
        )
        if kept is None:
            dataset.cache = make_cache(cache, dataset.samples, self.reading)
        if log:
            log.say(cache_line(cache, kept or dataset.cache))
        if kept:
            return device_loader(dataset, kept, self.sampler, compiled=self.compiled, **loading)
        pinned = self.device.type == "cuda"
        return loader(dataset, self.sampler, pin_memory=pinned, **loading)

    def train(self, stop_at: int) -> None:
        """Take steps until the run is over, `stop_at` of them are done, or SIGTERM comes."""
        with _Termination() as terminated:
            self._train(stop_at, terminated)

    def _train(self, stop_at: int, terminated: _Termination) -> None:
        recipe, run, progress, watch = self.recipe, self.recipe.run, self.progress, self.watch
        with Log(self.folder) if self.rank == 0 else contextlib.nullcontext() as log:
            if log:
                log.say("\n".join(self.opening))
            if self.finished:
                if log:
                    log.say(f"nothing is left to do: it is finished after {self.step} steps")
                return
            missed = self.rank == 0 and self.evaluator.missed(self.step)
            if not progress.done(self.step) and any_process(missed):
                self._evaluate(log, terminated)
            begin, supply, work = self.step, iter(self._batches(log)), DeviceWork(self.device)
            waits = LoadingWatch(self.loading["workers"], recipe.data.cache)
            meter, saved = Meter(lambda: watch.seconds), self.clock()
            watch.start()
            stopped = False
            while not (stopped or progress.done(self.step)) and self.step < stop_at:
                started = watch.seconds
                batch = list(itertools.islice(supply, recipe.optim.accumulate))
                waited = watch.seconds - started if work.is_done() else 0.0
                if log and self.step == 0:
                    with watch.paused():
                        log.picture("first batch", write_first_batch(self.folder, batch[0]))
                rate = recipe.optim.lr * progress.rate(self.step)
                result = self.update(batch, rate)
                work.mark()
                self.step += 1
                progress.update(self.step)
                for begun in self.state.observe(result.min_positive_scores):
                    if log:
                        log.write(self.step, **begun.record())
                names = [name for part in batch for name in part.names]
                meter.add(self.step, result, names, waited)
                over = progress.done(self.step)
                stopped = terminated()
                at_end = over or self.step == stop_at or stopped
                if self.step % run.log_every == 0 or self.step == begin + 1 or at_end:
                    means = meter.take(recipe.schedule.batch)
                    if log:
                        self._report(log, rate, means)
                        waits.add(self.step, means)
                due = self.evaluator.due(self.step) and not over
                if log and (at_end or due or self.clock() - saved > run.checkpoint_every):
                    meter.check()
                    self._save()
                    saved = self.clock()
                if due and not stopped:
                    meter.check()
                    with watch.paused():
                        self._evaluate(log, terminated)
            if progress.done(self.step):
                with terminated.at_once():
                    self._finish(log)

    def _report(self, log: Log, rate: float, means: dict[str, float]) -> None:
        """Log the means of the last steps, and say them with the time that is left."""
        log.write(self.step, lr=rate, seconds=self.watch.seconds, **means)
        text = "  ".join(f"{name} {value:.4g}" for name, value in means.items())
        left = timedelta(seconds=int(self.progress.left(self.step)))
        log.say(f"{self.progress.position(self.step)}  {text}  left {left}")

    def _save(self) -> None:
        """Write all that the run needs to be resumed."""
        with self.watch.paused():
            facts = {"precision": self.precision, "seconds": self.watch.seconds}
            path = self.folder / checkpoints.LAST
            self.state.save(path, self.step, self.recipe, self.fingerprint, **facts)

    def _evaluate(self, log: Log | None, terminated: _Termination) -> None:
        """Evaluate the network as it is. What SIGTERM ends is made when the run goes on."""
        with terminated.at_once():
            self.evaluator(self.state.best_network(), self.step, log)

    def _finish(self, log: Log | None) -> None:
        """Write the result, evaluate it, and write beside it what was found."""
        network, path = self.state.best_network(), self.folder / checkpoints.FINAL
        final = {"network": network.state_dict(), "step": self.step}
        final["recipe"] = self.recipe.to_dict()
        if log:
            checkpoints.save(path, final)
        found = self.evaluator(network, self.step, log)
        if log:
            checkpoints.save(path, final | {"evaluation": found})
            if best := self.evaluator.best():
                ap = best["evaluation"]["mean_ap"]
                log.say(f"best evaluation: after {best['step']} steps, mean_ap {ap:.4f}: best.pt")
