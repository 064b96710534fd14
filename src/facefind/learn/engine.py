"""The training loop: recipe in, run folder out.

A run folder holds `recipe.json` and `run.json` (all that made the run), `log.jsonl` and
TensorBoard events, `last.pt` (to go on from) and, at the end, `final.pt` (the result).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from facefind import datasets
from facefind.datasets import Sample
from facefind.errors import DataError, ImageError
from facefind.learn import checkpoints
from facefind.learn.distributed import world
from facefind.learn.ema import EMA
from facefind.learn.index_sampler import Epochs, Stream
from facefind.learn.initialization import begin
from facefind.learn.loader import Batch, TrainingSet, loader
from facefind.learn.logs import Log, Meter
from facefind.learn.mining import Miner
from facefind.learn.optimizers import freeze, make_optimizer, set_rate
from facefind.learn.recipe import Recipe
from facefind.learn.schedule import learning_rate
from facefind.learn.state import State, TrainingError
from facefind.learn.targets import BatchTargets

__all__ = ["TrainingError", "train"]

logger = logging.getLogger(__name__)


def train(recipe: Recipe, *, resume: bool = False, stop_at: int | None = None) -> Path:
    """Train a recipe and return its run folder.

    Under torchrun every process calls this with the same recipe; gradients are averaged, the
    first process writes. A resumed run gives the weights of an uninterrupted one.

    Args:
        recipe: what to train.
        resume: go on from the folder's last checkpoint; without one, begin.
        stop_at: end after this many steps, as if killed just after a checkpoint.

    Raises:
        DataError: if no training images are named or a set cannot be read.
        TrainingError: if the folder holds another run, or the loss is no longer finite.
    """
    with _processes() as (rank, processes):
        return _train(recipe, resume, stop_at, rank, processes)


def _train(recipe: Recipe, resume: bool, stop_at: int | None, rank: int, processes: int) -> Path:
    run, schedule = recipe.run, recipe.schedule
    folder = run.out or Path("runs") / recipe.name
    if (folder / checkpoints.LAST).exists() and not resume:
        raise TrainingError(
            f"{folder} already holds a run; go on with --resume, or choose another --run.out"
        )
    parts = recipe.optim.accumulate
    if parts < 1 or schedule.batch % (processes * parts):
        raise TrainingError(
            f"a batch of {schedule.batch} cannot be split over {processes} processes "
            f"in {parts} parts"
        )
    device = _device(run.device, rank)
    if run.threads:
        torch.set_num_threads(run.threads)
    torch.manual_seed(run.seed)
    samples, held_out = datasets.read_sets(recipe.data.root, hold_out=recipe.data.hold_out)
    dataset = TrainingSet(samples, recipe.augment, run.seed, recipe.data.cache)
    steps = max(round(schedule.epochs * len(samples) / schedule.batch), 1)
    warmup = min(round(schedule.warmup_epochs * len(samples) / schedule.batch), steps // 2)

    network = recipe.network.build()
    if run.begin and not (folder / checkpoints.LAST).exists():
        begin(network, run.begin)
    network = network.to(device)
    if run.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    still = freeze(network, recipe.optim.frozen)
    optimizer = make_optimizer(network, recipe.optim)
    ema = EMA(network, recipe.optim.ema) if recipe.optim.ema else None
    scaler = torch.amp.GradScaler(device.type, enabled=run.precision == "fp16")
    epochs = Epochs([s.group for s in samples], run.seed, balance=recipe.data.balance)
    miner = _miner(epochs, recipe, processes)
    state = State(network, still, optimizer, ema, scaler, miner)
    step = state.restore(folder, recipe) if resume else 0

    if rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(folder / "recipe.json", recipe.to_dict())
        facts = checkpoints.provenance() | {
            "images": len(samples),
            "images_held_out": len(held_out),
            "digest": datasets.digest(samples),
            "steps": steps,
            "parameters": sum(p.numel() for p in network.parameters()),
            "processes": processes,
            "device": str(device),
        }
        _write_json(folder / "run.json", facts)
    model: nn.Module = network
    if processes > 1:
        model = DistributedDataParallel(network, [device] if device.type == "cuda" else None)
    batches = loader(
        dataset,
        miner.stream(rank, processes)
        if miner
        else Stream(epochs, start=step * schedule.batch, rank=rank, processes=processes),
        batch=schedule.batch // processes // parts,
        workers=recipe.data.workers,
        ahead=_ahead(recipe),
    )
    with Log(folder, steps, step) if rank == 0 else contextlib.nullcontext() as log:
        meter, last_save = Meter(), time.monotonic()
        evaluate_at = _next_evaluation(step, len(samples), recipe)
        end = min(steps, stop_at or steps)
        waiting = time.monotonic()
        supply = iter(batches)
        while step < end:
            batch = list(itertools.islice(supply, parts))
            loaded = time.monotonic()
            rate = recipe.optim.lr * learning_rate(step, steps, warmup, schedule)
            terms, norm, weakest = _step(model, state, batch, rate, recipe, device)
            step += 1
            for begun in state.observe(weakest):
                if log:
                    log.write(step, **begun.record())
            meter.add(terms, norm, weakest, loaded - waiting, time.monotonic() - loaded)
            if log and (step % run.log_every == 0 or step == end):
                values = meter.take(schedule.batch)
                log.write(step, lr=rate, **values)
                log.tell(step, "  ".join(f"{k} {v:.4g}" for k, v in values.items()))
            if log and (step == end or time.monotonic() - last_save > run.checkpoint_every):
                state.save(folder / checkpoints.LAST, step, recipe)
                last_save = time.monotonic()
            if log and (step == steps or step >= evaluate_at):
                if step == steps:
                    final = {"network": state.best_network().state_dict(), "step": step}
                    checkpoints.save(
                        folder / checkpoints.FINAL, final | {"recipe": recipe.to_dict()}
                    )
                _evaluate(state.best_network(), recipe, held_out, log, step)
                evaluate_at = _next_evaluation(step, len(samples), recipe)
            waiting = time.monotonic()
    return folder


def _step(
    model: nn.Module,
    state: State,
    parts: Sequence[Batch],
    rate: float,
    recipe: Recipe,
    device: torch.device,
) -> tuple[dict[str, Tensor], Tensor, list[Tensor]]:
    """Update the network once by the mean gradient over the parts of a batch.

    Returns the means of the loss terms, the gradient's norm before clipping, and the weakest
    positives of each part's images.
    """
    network, sums, weakest = state.network, dict[str, Tensor](), list[Tensor]()
    layout = torch.channels_last if recipe.run.channels_last else torch.contiguous_format
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(recipe.run.precision)
    model.train()
    for module in state.still:
        module.eval()
    set_rate(state.optimizer, rate)
    state.optimizer.zero_grad(set_to_none=True)
    for number, (pictures, labels, names) in enumerate(parts, start=1):
        images = pictures.to(device, non_blocking=True).contiguous(memory_format=layout)
        targets = BatchTargets.from_images(labels, (images.shape[2], images.shape[3])).to(device)
        alone = isinstance(model, DistributedDataParallel) and number < len(parts)
        with model.no_sync() if alone else contextlib.nullcontext():  # type: ignore[operator]
            with torch.autocast(device.type, kind, enabled=kind is not None):
                outputs = model(images)
            losses = recipe.criterion.build(network)(outputs, targets)  # type: ignore[arg-type]
            loss = torch.stack(list(losses.terms.values())).sum()
            if not torch.isfinite(loss):
                found = ", ".join(f"{k} {v.item():.3g}" for k, v in losses.terms.items())
                raise TrainingError(
                    f"the loss is no longer finite ({found}); lower --optim.lr, "
                    f"or look at these images: {', '.join(names[:8])}"
                )
            state.scaler.scale(loss / len(parts)).backward()  # type: ignore[no-untyped-call]
        for name, term in losses.terms.items():
            share = term.detach() / len(parts)
            sums[name] = sums[name] + share if name in sums else share
        weakest.append(losses.min_positive_scores)
    state.scaler.unscale_(state.optimizer)
    norm = nn.utils.clip_grad_norm_(network.parameters(), recipe.optim.clip or float("inf"))
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.ema:
        state.ema.update(network)
    return sums, norm, weakest


def _evaluate(
    network: nn.Module, recipe: Recipe, held_out: Sequence[Sample], log: Log, step: int
) -> None:
    """Log the AP on held-out images, by the least height of the faces that count."""
    from facefind.detector import FaceDetector
    from facefind.evaluation import wider
    from facefind.runtimes.pytorch import TorchRuntime

    if not held_out:
        return
    some = datasets.evenly_spaced(held_out, recipe.run.evaluate_images)
    detector = FaceDetector(TorchRuntime(network), protocol=recipe.protocol, min_score=0.02)
    faces = {}
    for sample in some:
        try:
            faces[sample.name] = detector.detect(sample.path)
        except ImageError as error:
            logger.warning("passed over a held-out image: %s", error)
    some = [sample for sample in some if sample.name in faces]
    result = wider.evaluate(faces, wider.from_samples(some, title="held out"), mode="strict")
    ap = {f"ap_{subset}": value for subset, value in result.ap.items()}
    log.write(step, **ap, images_measured=len(some), digest_measured=datasets.digest(some))
    log.tell(step, "held out: " + "  ".join(f"{k} {v:.4f}" for k, v in ap.items()))


def _miner(epochs: Epochs, recipe: Recipe, processes: int) -> Miner | None:
    """The miner that a recipe asks for, before the first batch."""
    if not recipe.mining.on:
        return None
    lists = 1 if recipe.mining.shared else processes
    images = recipe.schedule.batch // recipe.optim.accumulate // lists
    return Miner(epochs, recipe.mining, images=images, lists=lists)


def _ahead(recipe: Recipe) -> int:
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


@contextlib.contextmanager
def _processes() -> Iterator[tuple[int, int]]:
    """Rank and number of processes; joins the group that torchrun announces, leaves it after."""
    begun = "WORLD_SIZE" in os.environ and not torch.distributed.is_initialized()
    if begun:
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield world()
    finally:
        if begun:
            torch.distributed.destroy_process_group()


def _device(name: str, rank: int) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise TrainingError(f"--run.device {name} was asked for, but torch sees no CUDA GPU")
    return device


def _write_json(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".tmp")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
