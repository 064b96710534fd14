"""Hard image mining: easy images are skipped in most passes.

A pass goes once through the whole set, in a new order, without the easy images that are skipped at
random; it is what the paper calls an epoch. What counts epochs elsewhere (a schedule) counts images
that were seen: a run with mining takes as many steps as one without, in more passes.

An image is easy when the lowest score of its positive anchors is above a threshold, in the crop
that training has just seen. It has one mark, whether that crop was mirrored or not.

Loading runs ahead of training, so a pass is made from the marks of a fixed number of batches
(`MiningConfig.lag`) before its first batch. That makes it a function of the seed and of what was
seen, however many processes load and wherever a run was interrupted.

Source: SmallHardFace, sec. 3.2.
Differs: the authors' code doubles the set with mirrored images, each with a mark of its own, and
draws the same coins in every pass; ours mirrors at random, and draws new ones.

Legend: N samples of the set, L lists, I images that a batch takes from each list.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from facefind import files
from facefind.errors import DataError
from facefind.learn.index_sampler import Epochs
from facefind.learn.recipe import MiningConfig, Recipe


@dataclass(frozen=True)
class Pass:
    """One pass through the set, as it is made.

    Attributes:
        owner: process whose list it is; 0 where all share one.
        number: of the pass, from 0.
        skipped: fraction of the set's images that it skips, 0..1.
        easy: fraction of the set's images that were marked easy.
    """

    owner: int
    number: int
    skipped: float
    easy: float

    def record(self) -> dict[str, float]:
        """Values for the log of a run; the first list's have no number in their names."""
        values = {"pass": self.number, "skipped": self.skipped, "easy": self.easy}
        end = f"_{self.owner}" if self.owner else ""
        return {f"mining_{name}{end}": value for name, value in values.items()}


@dataclass(frozen=True)
class _Walk:
    """A pass: the marks that it was made from, its images in order, and how many were drawn."""

    number: int
    marks: NDArray[np.bool_]
    order: NDArray[np.int64]
    taken: int = 0


class Miner:
    """Marks of the easy images, and the lists of images that skip them.

    Its state is that of training: `observe` advances it by a batch. `sampler` runs ahead.
    Every process holds the state of all lists.

    Args:
        epochs: the orders of the set; balanced ones too.
        config: when an image is easy, and how often it is skipped.
        images: images that a batch takes from each list.
        lists: 1, or as many as there are processes, each with its own marks.

    Attributes:
        batches: batches that were seen.

    Raises:
        DataError: if a value of `config` makes no sense.
    """

    def __init__(
        self, epochs: Epochs, config: MiningConfig, *, images: int, lists: int = 1
    ) -> None:
        if not 0 <= config.threshold <= 1:
            raise DataError(f"--mining.threshold: expected a score in 0..1, got {config.threshold}")
        if not 0 <= config.skip < 1:
            raise DataError(
                "--mining.skip: expected a probability from 0 to less than 1, or nothing would be "
                f"left once every image is easy, got {config.skip}"
            )
        if config.lag < 0:
            raise DataError(f"--mining.lag: expected batches, 0 or more, got {config.lag}")
        self._epochs, self._config, self._images, self._lists = epochs, config, images, lists
        self.batches = 0
        self._marks = np.zeros((lists, epochs.size), bool)
        self._recent: deque[tuple[NDArray[np.int64], ArrayLike]] = deque()
        nothing = np.empty(0, np.int64)
        self._walks = [_Walk(-1, marks, nothing) for marks in self._marks.copy()]

    def observe(self, scores: ArrayLike) -> list[Pass]:
        """Take in a batch's scores, and return the passes that began in it.

        Args:
            scores: (P,I) lowest positive score of each image by the process that saw it, NaN
                without positives; where all share one list, I is a process's share of it. They
                are read only when the marks are made from them, `lag` batches later.
        """
        begun: list[Pass] = []
        samples = np.empty((self._lists, self._images), np.int64)
        for which in range(self._lists):
            for place in range(self._images):
                walk = self._advance(which, self._walks[which], self.batches)
                if walk.number != self._walks[which].number:
                    begun.append(self._pass(which, walk))
                samples[which, place], self._walks[which] = walk.order[walk.taken - 1], walk
        self._recent.append((samples, scores))
        self.batches += 1
        while len(self._recent) > self._config.lag:
            seen, late = self._recent.popleft()
            for marks, mine, score in zip(self._marks, seen, self._by_list(late), strict=True):
                self._mark(marks, mine, score)
        return begun

    def _by_list(self, scores: ArrayLike) -> NDArray[np.float32]:
        """(L,I) scores that were observed; processes that share a list take turns in it."""
        found = np.asarray(scores, np.float32)
        return found.T.reshape(1, -1) if self._lists == 1 else found

    def sampler(self, rank: int = 0, processes: int = 1) -> Iterator[tuple[int, int]]:
        """Endless (index, sample) pairs for a process, from the next batch on.

        Raises:
            RuntimeError: if it is drawn more than `lag` batches ahead of what was observed.
        """
        which, turns = rank % self._lists, processes // self._lists
        walk, batch = self._walks[which], self.batches
        while True:
            samples = []  # of the whole batch at once, or its end would be made from later marks
            for _ in range(self._images):
                walk = self._advance(which, walk, batch)
                samples.append(int(walk.order[walk.taken - 1]))
            for index, sample in enumerate(samples, start=batch * self._images):
                if index % turns == rank // self._lists:
                    yield index * self._lists + which, sample
            batch += 1

    def state(self) -> dict[str, Any]:
        """All that `restore` needs, in tensors and plain values."""
        seen = [torch.from_numpy(samples) for samples, _ in self._recent]
        scores = [torch.tensor(np.asarray(one, np.float32)) for _, one in self._recent]
        return {
            "batches": self.batches,
            "marks": torch.from_numpy(self._marks.copy()),
            "recent": list(zip(seen, scores, strict=True)),
            "walks": [
                {"number": w.number, "marks": torch.from_numpy(w.marks.copy()), "taken": w.taken}
                for w in self._walks
            ],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from the `state` of another miner.

        Raises:
            DataError: if that was of another set or of other lists.
        """
        marks = state["marks"].numpy()
        if marks.shape != self._marks.shape:
            raise DataError(
                f"the checkpoint's mining has {marks.shape[0]} list(s) of {marks.shape[1]} images, "
                f"this run {self._lists} of {self._epochs.size}; resume with the same images and "
                "the same number of processes"
            )
        self.batches, self._marks = state["batches"], marks
        self._recent = deque((seen.numpy(), scores.numpy()) for seen, scores in state["recent"])
        self._walks = [
            replace(self._make(which, walk["number"], walk["marks"].numpy()), taken=walk["taken"])
            for which, walk in enumerate(state["walks"])
        ]

    def _advance(self, which: int, walk: _Walk, batch: int) -> _Walk:
        """The walk one image further; a new pass is made from the marks of its first batch."""
        while walk.taken == len(walk.order):
            walk = self._make(which, walk.number + 1, self._marks_for(which, batch))
        return replace(walk, taken=walk.taken + 1)

    def _make(self, which: int, number: int, marks: NDArray[np.bool_]) -> _Walk:
        if number < 0:
            return _Walk(number, marks, np.empty(0, np.int64))
        more = (which,) if which else ()
        order = self._epochs.order(number, *more)
        coins = np.random.default_rng((self._epochs.seed, number, 2, *more)).random(len(order))
        return _Walk(number, marks, order[~marks[order] | (coins >= self._config.skip)])

    def _marks_for(self, which: int, batch: int) -> NDArray[np.bool_]:
        """Marks from which a pass is made whose first image is in `batch`."""
        due = batch - self._config.lag - (self.batches - len(self._recent))
        if due > len(self._recent):
            raise RuntimeError(f"batch {batch} was drawn after {self.batches} were observed")
        marks: NDArray[np.bool_] = self._marks[which].copy()
        for seen, scores in islice(self._recent, max(due, 0)):
            self._mark(marks, seen[which], self._by_list(scores)[which])
        return marks

    def _mark(
        self, marks: NDArray[np.bool_], seen: NDArray[np.int64], scores: NDArray[np.float32]
    ) -> None:
        """Change `marks` (N,) in place by the minimal positive scores of images seen."""
        config, nothing = self._config, np.isnan(scores)
        easy = np.where(nothing, config.no_positives == "easy", scores > config.threshold)
        known = ~nothing | (config.no_positives != "keep")
        if config.sticky:
            known &= easy
        marks[seen[known]] = easy[known]  # where an image is seen twice, the later one counts

    def _pass(self, which: int, walk: _Walk) -> Pass:
        size = self._epochs.size
        return Pass(which, walk.number, 1 - len(walk.order) / size, float(walk.marks.mean()))


def make_miner(epochs: Epochs, recipe: Recipe, processes: int) -> Miner | None:
    """The miner of a recipe, before the first batch; None where it mines nothing."""
    if not recipe.mining.on:
        return None
    lists = 1 if recipe.mining.shared else processes
    images = recipe.schedule.batch // recipe.optim.accumulate // lists
    return Miner(epochs, recipe.mining, images=images, lists=lists)


def batches_ahead(recipe: Recipe, workers: int) -> int:
    """Batches that each of some loading processes may be ahead of training.

    Raises:
        DataError: if a miner's lag is too short for them.
    """
    mining = recipe.mining
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


def passes(folder: Path) -> list[tuple[int, Pass]]:
    """The passes that a run has begun, each with its first step; by owner, then number.

    Raises:
        DataError: if the folder's run was not mined, or is none.
    """
    log = folder / "log.jsonl"
    if not log.is_file():
        raise DataError(f"{folder} is no run folder: it has no log.jsonl")
    found: dict[tuple[int, int], tuple[int, Pass]] = {}
    for _, record in files.read_json_lines(log, skip_broken=True):
        for key in record:
            if key.startswith("mining_pass"):
                end = key.removeprefix("mining_pass")
                number, skipped, easy = (
                    record[f"mining_{name}{end}"] for name in ("pass", "skipped", "easy")
                )
                one = Pass(int(end[1:] or 0), number, skipped, easy)
                found[one.owner, one.number] = record["step"], one
    if not found:
        raise DataError(f"{folder} logged no pass: it was not trained with --mining.on")
    return [found[key] for key in sorted(found)]
