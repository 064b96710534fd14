"""Training speed: crops a second of recipes, and the parts of a step, interleaved.

Usage: python benchmarks/train.py [--recipes scrfd-2.5g-kps retinaface-mobile smallhardface-light]
           [--data SET ...] [--size 320] [--batch 16] [--rounds 5] [--precision fp32 bf16]
           [--device auto] [--threads N] [--workers 2] [--cache device] [--compile] [--graphs]
           [--json FILE]

A step is forward, losses, backward (with clipping) and optimizer (with averaged weights), on random
images with nine faces each; with `--data`, on a set's own crops, and the time that a step
waits for them is the part `data`. On a GPU the host runs ahead of the device: parts are measured
with a wait after each, of steps that are not captured as graphs; whole steps without, by tens; and
`idle` is what of a whole step the GPU has nothing to do, as torch's profiler sees it. Recipes take
turns, so that a machine whose speed drifts slows all alike; medians are printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from facefind import datasets, recipes
from facefind.learn.device_images import device_loader, on_device
from facefind.learn.distributed import make_device
from facefind.learn.ema import EMA
from facefind.learn.index_sampler import Epochs, IndexSampler
from facefind.learn.loader import Batch, TrainingSet, loader
from facefind.learn.optimizers import freeze, make_optimizer
from facefind.learn.recipe import Recipe
from facefind.learn.state import State
from facefind.learn.step import Step, captures, compiles
from facefind.learn.targets import BatchTargets, Target

PARTS = ("data", "forward", "loss", "backward", "optimizer")


def synthetic(batch: int, size: int) -> Batch:
    """Random images with nine faces each, from 8 pixels to half the image."""
    sides = torch.linspace(8, size / 2, 9)
    corners = torch.linspace(0, size / 2, 9)
    boxes = torch.stack([corners, corners, corners + sides, corners + sides], 1)
    points = boxes[:, None, :2] + sides[:, None, None] * torch.linspace(0.3, 0.7, 5)[:, None]
    target = Target(boxes, points.expand(-1, 5, 2), torch.zeros(0, 4))
    images = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8)
    targets = BatchTargets.from_images([target] * batch, (size, size))
    return Batch(images, targets, [""] * batch)


def supply(recipe: Recipe, data: list[str], device: torch.device) -> Iterator[Batch]:
    """Endless batches: of the recipe's crops of a set, or always the same synthetic one."""
    batch = recipe.schedule.batch
    if not data:
        one = synthetic(batch, recipe.augment.size)
        while True:
            yield one
    samples, _ = datasets.read_sets(data)
    cache, fill = recipe.data.cache, recipe.augment.fill
    workers = recipe.data.workers or 0
    kept = on_device(cache, samples, device, workers=workers, fill=fill)
    cache = None if kept else cache
    dataset = TrainingSet(samples, recipe.augment, recipe.run.seed, cache)
    sampler = IndexSampler(Epochs([s.group for s in samples], recipe.run.seed))
    options = {"batch": batch, "workers": workers, "steady": captures(recipe, device, 1)}
    if kept:
        yield from device_loader(
            dataset, kept, sampler, compiled=compiles(recipe, device, 1), **options
        )
    yield from loader(dataset, sampler, pin_memory=device.type == "cuda", **options)


class Trial:
    """One recipe in one precision, ready to be timed step by step."""

    def __init__(self, recipe: Recipe, data: list[str], device: torch.device) -> None:
        network = recipe.network.build().to(device)
        if recipe.run.channels_last:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optim = recipe.optim
        state = State(
            network,
            freeze(network, optim.frozen),
            make_optimizer(network, optim),
            EMA(network, optim.ema) if optim.ema else None,
            torch.amp.GradScaler(device.type, enabled=recipe.run.precision == "fp16"),
            None,
        )
        self.batch, self._device, self._rate = recipe.schedule.batch, device, optim.lr / 1000
        self._criterion = recipe.criterion.build(network)
        self._step = Step(state, self._timed_criterion, recipe, device)
        apart = replace(recipe, run=replace(recipe.run, graphs=False))
        self._in_parts = Step(state, self._timed_criterion, apart, device)
        self._supply = supply(recipe, data, device)
        self._marks: list[float] | None = None
        network.register_forward_pre_hook(lambda *_: self._mark())
        step = state.step

        def timed_step(finite: torch.Tensor) -> None:
            self._mark()
            step(finite)

        state.step = timed_step  # type: ignore[method-assign]

    def step(self) -> float:
        """Seconds of a step, data included; on a GPU of ten, one after another."""
        count = 10 if self._device.type == "cuda" else 1
        began = time.perf_counter()
        for _ in range(count):
            self._step([next(self._supply)], self._rate)
        self._wait()
        return (time.perf_counter() - began) / count

    def busy(self) -> float:
        """Seconds of a step in which a CUDA GPU works."""
        activity = torch.profiler.ProfilerActivity.CUDA
        with torch.profiler.profile(activities=[activity]) as profile:
            for _ in range(3):
                self._step([next(self._supply)], self._rate)
            self._wait()
        kernels = (e for e in profile.key_averages() if e.device_type.name == "CUDA")
        return sum(kernel.self_device_time_total for kernel in kernels) / 3e6

    def parts(self) -> dict[str, float]:
        """Seconds of each part of a step."""
        began = time.perf_counter()
        batch = next(self._supply).to(self._device)
        self._wait()
        loaded = time.perf_counter()
        self._marks = []
        self._in_parts([batch], self._rate)
        self._mark()
        forward, loss, backward, optimizer, end = self._marks
        self._marks = None
        times = (loaded - began, loss - forward, backward - loss, optimizer - backward,
                 end - optimizer)  # fmt: skip
        return dict(zip(PARTS, times, strict=True))

    def _timed_criterion(self, outputs: object, targets: BatchTargets) -> object:
        self._mark()
        found = self._criterion(outputs, targets)
        self._mark()
        return found

    def _mark(self) -> None:
        if self._marks is not None:
            self._wait()
            self._marks.append(time.perf_counter())

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = ["scrfd-2.5g-kps", "retinaface-mobile", "smallhardface-light"]
    parser.add_argument("--recipes", nargs="+", default=names)
    parser.add_argument("--data", nargs="+", default=[])
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", nargs="+", default=["fp32"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cache")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--graphs", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = make_device(options.device)
    trials = {}
    for name in options.recipes:
        for precision in options.precision:
            recipe = recipes.get(name)
            recipe = replace(
                recipe,
                data=replace(recipe.data, workers=options.workers, cache=options.cache),
                augment=replace(recipe.augment, size=options.size),
                schedule=replace(recipe.schedule, batch=options.batch),
                run=replace(
                    recipe.run, precision=precision, compile=options.compile, graphs=options.graphs
                ),
            )
            trials[f"{name} {precision}"] = Trial(recipe, options.data, device)
    for trial in trials.values():
        trial.parts()
        trial.step()
    steps: dict[str, list[float]] = defaultdict(list)
    parts: dict[str, list[dict[str, float]]] = defaultdict(list)
    for _ in range(options.rounds):
        for name, trial in trials.items():
            steps[name].append(trial.step())
            parts[name].append(trial.parts())
    print(f"{options.batch} x {options.size}x{options.size}, {torch.get_num_threads()} threads, "
          f"{device}, torch {torch.__version__}, median of {options.rounds}")  # fmt: skip
    width = max(map(len, trials))
    print(f"{'recipe':{width}}  crops/s  {'  '.join(f'{p:>9}' for p in PARTS)}  (ms)")
    found = {}
    for name, trial in trials.items():
        speed = trial.batch / statistics.median(steps[name])
        medians = {p: 1000 * statistics.median(one[p] for one in parts[name]) for p in PARTS}
        cells = "  ".join(f"{medians[p]:9.1f}" for p in PARTS)
        print(f"{name:{width}}  {speed:7.1f}  {cells}")
        found[name] = {"crops_per_s": speed, "parts_ms": medians}
        if device.type == "cuda":
            whole = 1000 * statistics.median(steps[name])
            found[name] |= {"step_ms": whole, "idle_ms": whole - 1000 * trial.busy()}
            print(f"{'':{width}}  a step {whole:.1f} ms, idle {found[name]['idle_ms']:.1f} ms")
    if device.type == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
