"""Bilevel search: weights learn on one half of the images, the architecture on the other.

They take turns, each by the gradient of the detector's own loss at the other's present values
(first order). It has a loop of its own beside `learn.engine`'s, for it has two sets of images, two
optimizers, and a network that computes another path at each step; the parts are the same.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from facefind import datasets
from facefind.datasets import Sample
from facefind.errors import DataError
from facefind.learn import checkpoints, run_folder
from facefind.learn.checks import check
from facefind.learn.distributed import make_device
from facefind.learn.index_sampler import Epochs, IndexSampler, sized
from facefind.learn.initialization import prepared
from facefind.learn.loader import Batch, TrainingSet, loader, worker_count
from facefind.learn.logs import Log, Meter
from facefind.learn.optimizers import freeze, make_optimizer
from facefind.learn.precision import choose_precision
from facefind.learn.recipe import Recipe
from facefind.learn.schedule import Progress, Stopwatch, crop_size, step_limit
from facefind.learn.state import State, TrainingError
from facefind.learn.step import Step
from facefind.learn.validation import validate
from facefind.search.supernet import Mode, Role, supernet

WEIGHTS, ARCHITECTURE = 0, 1


@dataclass(frozen=True, kw_only=True)
class Method:
    """How an architecture is searched.

    Source: ASFD, sec. 4.1: nodes, optimizer, and that it begins after 20 of 50 epochs.
    Differs: the moments' decays are those of DARTS (arXiv:1806.09055), the paper gives none. What
    is computed until it begins is ours: a path drawn at random for every step.
    """

    mode: Mode = "sampled"
    """One path a node (ASFD), all of them on a quarter of the channels (PC-DARTS) or on all
    channels (DARTS)."""
    nodes: int = 6
    """Nodes of a context's cell."""
    concat: Literal["leaf", "all"] = "leaf"
    """Which of them are joined (table 2)."""
    begin: float = 0.4
    """Fraction of the run before which only weights learn."""
    lr: float = 0.01
    weight_decay: float = 5e-4
    betas: tuple[float, float] = (0.5, 0.999)


class Search:
    """A search of one feature module; it resumes what its recipe's run folder holds.

    An epoch is a pass through the weights' half of the images.

    Args:
        recipe: how weights learn, and on what; its network is that around the module.
        role: what is searched for.
        method: how.

    Raises:
        DataError: if options make no sense, or ask for what a search has not.
        TrainingError: if the folder holds a search with other options or images.
    """

    def __init__(self, recipe: Recipe, role: Role, method: Method) -> None:
        _check(recipe, method)
        run = replace(recipe.run, compile=False, graphs=False)  # paths change from step to step
        self.recipe, self.method, device = recipe, method, make_device(run.device)
        self.folder = run.out or Path("runs") / recipe.name
        if run.threads:
            torch.set_num_threads(run.threads)
        torch.manual_seed(run.seed)
        samples, self.held_out = datasets.read_sets(
            recipe.data.root, val=recipe.data.val, hold_out=recipe.data.hold_out
        )
        self.halves = halves(samples, run.seed)
        self.fingerprint = run_folder.fingerprint(samples)
        last = self.folder / checkpoints.LAST
        content = checkpoints.load(last) if last.exists() else {}
        if content:
            self._check_resume(content)
        precision, _ = choose_precision(run.precision, device, run_folder.begun_in(content))
        self.precision = precision

        self.supernet = supernet(
            recipe.network, role, method.mode, nodes=method.nodes, concat=method.concat
        )
        network = prepared(self.supernet.network, run, device, fresh=not content)
        frozen = freeze(network, recipe.optim.frozen)
        own = [p for p in self.supernet.parameters() if p.requires_grad]
        for parameter in own:
            parameter.requires_grad_(False)
        self.learning = [[p for p in network.parameters() if p.requires_grad], own]
        adam = torch.optim.Adam(
            own, method.lr, method.betas, weight_decay=method.weight_decay, fused=True
        )
        self.states = [
            State(network, frozen, optimizer, None, scaler, None)
            for optimizer in (make_optimizer(network, recipe.optim), adam)
            for scaler in [torch.amp.GradScaler(device.type, enabled=precision == "fp16")]
        ]
        self.step = 0
        if content:
            self.step = self.states[WEIGHTS].restore(content)
            adam.load_state_dict(content["architecture"])
            self.states[ARCHITECTURE].scaler.load_state_dict(content["architecture_scaler"])
        self.watch = Stopwatch(content.get("seconds", 0.0))
        self.progress = Progress(
            recipe.schedule, len(self.halves[WEIGHTS]), self.watch, limit=step_limit()
        )
        assert self.progress.steps is not None
        self.steps = self.progress.steps
        self.begin = round(method.begin * self.steps)
        chosen = replace(recipe, run=replace(run, precision=precision))
        criterion = recipe.criterion.build(network)
        self.updates = [Step(state, criterion, chosen, device) for state in self.states]
        self.facts = run_folder.facts_of(
            samples,
            self.held_out,
            steps=self.steps,
            parameters=sum(p.numel() for p in network.parameters()),
            device=str(device),
            precision=precision,
        )
        run_folder.record(self.folder, self.step, recipe, self.facts)

    def run(self, stop_at: int = sys.maxsize) -> None:
        """Take all steps, or end after `stop_at` of them as if killed just after a checkpoint."""
        run, optim, network = self.recipe.run, self.recipe.optim, self.supernet
        supplies = [self._batches(WEIGHTS, 0), self._batches(ARCHITECTURE, self.begin)]
        meters = [Meter(lambda: self.watch.seconds) for _ in supplies]
        saved, first = time.monotonic(), self.step

        def turn(part: int, rate: float) -> None:
            for p in self.learning[1 - part]:
                p.requires_grad_(False)
                p.grad = None
            for p in self.learning[part]:
                p.requires_grad_(True)
            rng = np.random.default_rng((run.seed, self.step, part))
            network.draw(rng, uniform=self.step < self.begin)
            started = self.watch.seconds
            batch = list(itertools.islice(supplies[part], optim.accumulate))
            waited = self.watch.seconds - started
            result = self.updates[part](batch, rate)
            names = [name for one in batch for name in one.names]
            meters[part].add(self.step + 1, result, names, waited)

        with Log(self.folder) as log:
            self.watch.start()
            while self.step < min(self.steps, stop_at):
                if self.step >= self.begin:
                    turn(ARCHITECTURE, self.method.lr)
                rate = optim.lr * self.progress.rate(self.step)
                turn(WEIGHTS, rate)
                self.step += 1
                self.progress.update(self.step)
                at_end = self.step in (self.steps, stop_at)
                if self.step % run.log_every == 0 or self.step == first + 1 or at_end:
                    self._report(log, rate, meters)
                if at_end or time.monotonic() - saved > run.checkpoint_every:
                    for meter in meters:
                        meter.check()
                    self._save()
                    saved = time.monotonic()

    def result(self) -> dict[str, Any]:
        """What the finished search has come to, in plain values, as `trial.train_candidate` does.

        `ap` is that of the supernet itself along the chosen paths: how far its weights came, and
        no measure of the module, which is trained anew. `genotype` is the module; `entropy` how
        undecided its choices still are on average.
        """
        self.supernet.settle()
        found = validate(self.supernet.network, self.recipe, self.held_out)
        with Log(self.folder) as log:
            log.write(self.step, **found)
        entropies = self.supernet.entropies()
        return {
            "ap": {k[3:]: value for k, value in found.items() if k.startswith("ap_")},
            "protocol": self.recipe.protocol,
            "images_measured": found["images_measured"],
            "digest_measured": found["digest_measured"],
            "facts": self.facts,
            "genotype": self.supernet.genotype().to_dict(),
            "entropy": sum(entropies) / len(entropies),
        }

    def _batches(self, part: int, offset: int) -> Iterator[Batch]:
        """Endless batches of a half, whose first step is `offset`, from the present step on."""
        recipe, samples = self.recipe, self.halves[part]
        batch, data = recipe.schedule.batch, recipe.data
        epochs = Epochs([s.group for s in samples], recipe.run.seed, balance=data.balance)
        pairs = IndexSampler(epochs, start=max(self.step - offset, 0) * batch)

        def size(step: int) -> int:
            return crop_size(self.progress.fraction(step + offset), recipe.augment)

        # The second half's crops are drawn by another seed: its images have the same numbers.
        dataset = TrainingSet(samples, recipe.augment, recipe.run.seed + part, data.cache)
        return iter(
            loader(
                dataset,
                sized(pairs, batch, size),
                batch=batch // recipe.optim.accumulate,
                workers=worker_count(data),
                pin_memory=torch.cuda.is_available(),
            )
        )

    def _report(self, log: Log, rate: float, meters: Sequence[Meter]) -> None:
        """Log means, entropies and what is chosen; say how far it is."""
        batch, entropies = self.recipe.schedule.batch, self.supernet.entropies()
        means = meters[WEIGHTS].take(batch)
        if self.step > self.begin:
            of_architecture = meters[ARCHITECTURE].take(batch)
            means |= {
                f"architecture_{name}": value
                for name, value in of_architecture.items()
                if name.startswith("loss") or name == "gradient"
            }
        means["mean_entropy"] = sum(entropies) / len(entropies)
        names = list(self.supernet.choices)
        log.write(
            self.step,
            lr=rate,
            seconds=self.watch.seconds,
            **means,
            entropy=dict(zip(names, entropies, strict=True)),
            chosen=self.supernet.edges(),
        )
        text = "  ".join(f"{name} {value:.4g}" for name, value in means.items())
        left = timedelta(seconds=int(self.progress.left(self.step)))
        log.say(f"{self.progress.position(self.step)}  {text}  left {left}")

    def _save(self) -> None:
        with self.watch.paused():
            architecture = self.states[ARCHITECTURE]
            self.states[WEIGHTS].save(
                self.folder / checkpoints.LAST,
                self.step,
                self.recipe,
                self.fingerprint,
                precision=self.precision,
                seconds=self.watch.seconds,
                method=asdict(self.method),
                architecture=architecture.optimizer.state_dict(),
                architecture_scaler=architecture.scaler.state_dict(),
            )

    def _check_resume(self, content: dict[str, Any]) -> None:
        run_folder.check_resume(self.folder, content, self.recipe, self.fingerprint)
        if content.get("method") != asdict(self.method):
            raise TrainingError(
                f"{self.folder} holds a search by {content.get('method')}, not by "
                f"{asdict(self.method)}; give another folder"
            )


def halves(samples: Sequence[Sample], seed: int) -> tuple[list[Sample], list[Sample]]:
    """The samples for weights and those for the architecture, drawn at random, in order.

    Raises:
        DataError: if there are fewer than two.
    """
    if len(samples) < 2:
        raise DataError(f"a search needs images for both of its halves, got {len(samples)}")
    order = np.random.default_rng((seed, 2)).permutation(len(samples))
    first, second = np.array_split(order, 2)
    return [samples[n] for n in sorted(first)], [samples[n] for n in sorted(second)]


def _check(recipe: Recipe, method: Method) -> None:
    check(recipe)
    unsupported = {
        "optim.ema": recipe.optim.ema,
        "mining.on": recipe.mining.on,
        "schedule.minutes": recipe.schedule.minutes,
    }
    if wrong := [name for name, value in unsupported.items() if value]:
        raise DataError(f"a search has no {', '.join(wrong)}; leave it off in its recipe")
    if not 0 <= method.begin < 1:
        raise DataError(f"a search begins after 0 to less than 1 of its run, got {method.begin}")
