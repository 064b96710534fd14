"""Index sampler: which image is the n-th of a training.

The n-th image depends on the seed and n alone: not on the number of loading processes, nor on where
a run was interrupted. That is what makes a resumed run equal to an uninterrupted one, and what lets
the processes of a distributed run take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from facefind.errors import DataError


class Epochs:
    """The order in which each epoch goes through a set.

    With `balance` 0 every epoch is a fresh permutation of all samples. Otherwise it is as many
    draws, in which a group of n images weighs n^(1 - balance).
    """

    def __init__(self, groups: Sequence[str], seed: int, *, balance: float = 0.0) -> None:
        if not 0 <= balance <= 1:
            raise DataError(f"--data.balance: expected 0 (as is) to 1 (even), got {balance}")
        self.size, self.seed = len(groups), seed
        self.weights: NDArray[np.float64] | None = None
        if balance:
            _, group, counts = np.unique(groups, return_inverse=True, return_counts=True)
            weights = counts[group] ** -float(balance)
            self.weights = weights / weights.sum()

    def order(self, epoch: int, *more: int) -> NDArray[np.int64]:
        """Sample numbers of an epoch, in order; `more` numbers name one order of several."""
        rng = np.random.default_rng((self.seed, epoch, 1, *more))
        return rng.choice(self.size, self.size, replace=self.weights is not None, p=self.weights)


class IndexSampler(Sampler[tuple[int, int]]):
    """Endless (index, sample) pairs for one of several processes, from index `start` on.

    The index counts the images of the whole training; the sample is a number in the set.
    """

    def __init__(
        self, epochs: Epochs, *, start: int = 0, rank: int = 0, processes: int = 1
    ) -> None:
        self.epochs, self.start, self.rank, self.processes = epochs, start, rank, processes

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Pairs of this process; the epoch's order is drawn anew where an epoch begins."""
        index, epoch, order = self.start + self.rank, -1, np.empty(0, np.int64)
        while True:
            if index // self.epochs.size != epoch:
                epoch = index // self.epochs.size
                order = self.epochs.order(epoch)
            yield index, int(order[index % self.epochs.size])
            index += self.processes


def sized(
    pairs: Iterable[tuple[int, int]], batch: int, size_at: Callable[[int], int]
) -> Iterator[tuple[int, int, int]]:
    """(index, sample, size) from (index, sample); all images of a step have one crop size.

    Args:
        pairs: of one process, by rising index.
        batch: images a step, over all processes.
        size_at: step (0-based) -> size; called when the step's first image is drawn.
    """
    step, size = -1, 0
    for index, sample in pairs:
        if index // batch != step:
            step = index // batch
            size = size_at(step)
        yield index, sample, size
