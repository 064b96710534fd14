"""The stream: which image stands at which place of training.

What stands at place n depends on the seed and n alone: not on the number of loading processes,
nor on where a run was interrupted. That is what makes a resumed run equal to an uninterrupted one,
and what lets processes of a distributed run take turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
            raise DataError(f"balance is {balance}; wanted a number from 0 (as is) to 1 (even)")
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


class Stream(Sampler[tuple[int, int]]):
    """Endless (place, sample) pairs, from place `start` on, for one of several processes."""

    def __init__(
        self, epochs: Epochs, *, start: int = 0, rank: int = 0, processes: int = 1
    ) -> None:
        self.epochs, self.start, self.rank, self.processes = epochs, start, rank, processes

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Pairs of this process; the epoch's order is drawn anew where an epoch begins."""
        place, epoch, order = self.start + self.rank, -1, np.empty(0, np.int64)
        while True:
            if place // self.epochs.size != epoch:
                epoch = place // self.epochs.size
                order = self.epochs.order(epoch)
            yield place, int(order[place % self.epochs.size])
            place += self.processes
