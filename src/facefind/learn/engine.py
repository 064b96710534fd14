"""The training loop: recipe in, run folder out.

A run folder holds `recipe.json` and `run.json` (all that made the run), `log.jsonl` and
TensorBoard events, `last.pt` (to resume from) and, at the end, `final.pt` (the result).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from facefind import datasets
from facefind.errors import DataError
from facefind.learn import checkpoints, run_folder
from facefind.learn.device_images import device_loader, on_device
from facefind.learn.distributed import make_device, process_group
from facefind.learn.ema import EMA
from facefind.learn.index_sampler import Epochs, IndexSampler, sized
from facefind.learn.initialization import initialize
from facefind.learn.loader import TrainingSet, loader
from facefind.learn.logs import Log, Meter, clock_time
from facefind.learn.mining import Miner
from facefind.learn.optimizers import freeze, make_optimizer
from facefind.learn.recipe import Recipe
from facefind.learn.schedule import Progress, Stopwatch, crop_size
from facefind.learn.state import State, TrainingError
from facefind.learn.step import Step, captures
from facefind.learn.validation import validate

__all__ = ["TrainingError", "train"]

MAX_STEPS = "FACEFIND_MAX_STEPS"


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
        DataError: if no training images are named, a set cannot be read, or options make no sense.
        TrainingError: if the folder holds another run, or a loss or gradient is not finite.
    """
    device = make_device(recipe.run.device)
    with process_group(device) as (rank, processes):
        return _train(recipe, device, rank, processes, resume=resume, stop_at=stop_at, clock=clock)


def _train(
    recipe: Recipe,
    device: torch.device,
    rank: int,
    processes: int,
    *,
    resume: bool,
    stop_at: int | None,
    clock: Callable[[], float],
) -> Path:
    run, schedule, parts = recipe.run, recipe.schedule, recipe.optim.accumulate
    folder = run.out or Path("runs") / recipe.name
    last = folder / checkpoints.LAST
    resume &= last.exists()
    if last.exists() and not resume:
        raise TrainingError(
            f"{folder} already holds a run; resume it with --resume {folder}, or choose another "
            "--out"
        )
    if parts < 1 or schedule.batch % (processes * parts):
        raise TrainingError(
            f"a batch of {schedule.batch} cannot be split over {processes} processes "
            f"in {parts} parts"
        )
    if run.threads:
        torch.set_num_threads(run.threads)
    torch.manual_seed(run.seed)
    data = recipe.data
    samples, held_out = datasets.read_sets(data.root, val=data.val, hold_out=data.hold_out)
    kept = on_device(data.cache, samples, device, workers=data.workers, fill=recipe.augment.fill)
    dataset = TrainingSet(samples, recipe.augment, run.seed, None if kept else data.cache)

    network = recipe.network.build()
    if run.init_from and not resume:
        initialize(network, run.init_from)
    network = network.to(device)
    if run.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    frozen_bn = freeze(network, recipe.optim.frozen)
    optimizer = make_optimizer(network, recipe.optim)
    ema = EMA(network, recipe.optim.ema) if recipe.optim.ema else None
    scaler = torch.amp.GradScaler(device.type, enabled=run.precision == "fp16")
    epochs = Epochs([s.group for s in samples], run.seed, balance=data.balance)
    miner = _miner(epochs, recipe, processes)
    state = State(network, frozen_bn, optimizer, ema, scaler, miner)
    fingerprint, step, spent = run_folder.fingerprint(samples), 0, 0.0
    if resume:
        content = checkpoints.load(last)
        run_folder.check_resume(folder, content, recipe, fingerprint)
        step, spent = state.restore(content), content.get("seconds", 0.0)
    watch = Stopwatch(spent, clock)
    progress = Progress(schedule, len(samples), watch, limit=_max_steps())
    if rank == 0:
        facts = run_folder.facts_of(
            samples,
            held_out,
            steps=progress.steps,
            parameters=sum(p.numel() for p in network.parameters()),
            processes=processes,
            device=str(device),
        )
        run_folder.record(folder, step, recipe, facts)

    train_step = Step(state, recipe.criterion.build(network), recipe, device, processes)
    pairs = (
        miner.sampler(rank, processes)
        if miner
        else IndexSampler(epochs, start=step * schedule.batch, rank=rank, processes=processes)
    )
    sampler = sized(
        pairs, schedule.batch, lambda at: crop_size(progress.fraction(at), recipe.augment)
    )
    loading: dict[str, Any] = {
        "batch": schedule.batch // processes // parts,
        "workers": data.workers,
        "prefetch": _prefetch(recipe),
        "steady": captures(recipe, device, processes),
    }
    if kept:
        batches = device_loader(dataset, kept, sampler, compiled=run.compile, **loading)
    else:
        batches = loader(dataset, sampler, pin_memory=device.type == "cuda", **loading)
    with Log(folder) if rank == 0 else contextlib.nullcontext() as log:
        meter, last_save = Meter(lambda: watch.seconds), time.monotonic()
        evaluate_at = _next_evaluation(step, len(samples), recipe)
        last_step = sys.maxsize if stop_at is None else stop_at
        supply = iter(batches)
        watch.start()
        while not progress.done(step) and step < last_step:
            began = watch.seconds
            batch = list(itertools.islice(supply, parts))
            waited = watch.seconds - began
            rate = recipe.optim.lr * progress.rate(step)
            result = train_step(batch, rate)
            step += 1
            progress.update(step)
            done = progress.done(step)
            at_end = done or step == last_step
            for begun in state.observe(result.min_positive_scores):
                if log:
                    log.write(step, **begun.record())
            meter.add(step, result, [name for part in batch for name in part.names], waited)
            if step % run.log_every == 0 or at_end:
                values = meter.take(schedule.batch)
                if log:
                    log.write(step, lr=rate, seconds=watch.seconds, **values)
                    text = "  ".join(f"{k} {v:.4g}" for k, v in values.items())
                    left = clock_time(progress.left(step))
                    log.say(f"{progress.position(step)}  {text}  left {left}")
            if log and (at_end or time.monotonic() - last_save > run.checkpoint_every):
                meter.check()
                with watch.paused():
                    state.save(last, step, recipe, fingerprint, seconds=watch.seconds)
                last_save = time.monotonic()
            if done or step >= evaluate_at:
                meter.check()
                if log and done:
                    final = {"network": state.best_network().state_dict(), "step": step}
                    checkpoints.save(
                        folder / checkpoints.FINAL, final | {"recipe": recipe.to_dict()}
                    )
                with watch.paused():
                    found = validate(state.best_network(), recipe, held_out)
                if log and found:
                    log.write(step, **found)
                    ap = [f"{k} {v:.4f}" for k, v in found.items() if k.startswith("ap_")]
                    log.say(f"{progress.position(step)}  held out: {'  '.join(ap)}")
                evaluate_at = _next_evaluation(step, len(samples), recipe)
    return folder


def _miner(epochs: Epochs, recipe: Recipe, processes: int) -> Miner | None:
    """The miner of a recipe, before the first batch."""
    if not recipe.mining.on:
        return None
    lists = 1 if recipe.mining.shared else processes
    images = recipe.schedule.batch // recipe.optim.accumulate // lists
    return Miner(epochs, recipe.mining, images=images, lists=lists)


def _prefetch(recipe: Recipe) -> int:
    """Batches that each loading process may be ahead of training."""
    mining, workers = recipe.mining, recipe.data.workers
    if not mining.on:
        return 4
    free = mining.lag - (recipe.optim.accumulate - 1)  # a step's parts are drawn together
    if free < workers:
        raise DataError(
            f"--mining.lag {mining.lag} is too short: {workers} loading processes and "
            f"{recipe.optim.accumulate} parts a step draw {mining.lag - free + workers} batches "
            "ahead"
        )
    return min(4, free // max(workers, 1))


def _next_evaluation(step: int, images: int, recipe: Recipe) -> int:
    """The first step after `step` at which an evaluation is due."""
    every = round(recipe.run.evaluate_every * images / recipe.schedule.batch)
    return (step // every + 1) * every if every else sys.maxsize


def _max_steps() -> int:
    text = os.environ.get(MAX_STEPS, "")
    if not text:
        return sys.maxsize
    if not text.isdecimal() or int(text) < 1:
        raise DataError(f"{MAX_STEPS}: expected a number of steps from 1 on, got {text!r}")
    return int(text)
