"""Graphs: steps captured once as CUDA graphs, and replayed.

A detector of this size is some two thousand short kernels a step: launching them one by one takes
the host longer than a large GPU takes to run them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from facefind.learn.loader import Batch

logger = logging.getLogger(__name__)

Work = Callable[[Sequence[Batch]], tuple[Tensor, ...]]
"""What is captured: the parts of a step's batch, on the device, -> tensors."""


class GraphedWork:
    """Work that is replayed as a CUDA graph, one for each shape of batch.

    The first batch of a shape is worked on as ever, which compiles and allocates what has to be;
    the second is captured. Where capturing fails, a warning says why, and nothing is captured from
    then on.

    Args:
        work: gives the same tensors for each shape, reads nothing back, and depends on the host
            in nothing but its batches and the rates of the optimizer.
        optimizer: which the work steps; a fused one.
    """

    def __init__(self, work: Work, optimizer: torch.optim.Optimizer) -> None:
        self._work, self._optimizer = work, optimizer
        self._seen: dict[tuple[Any, ...], _Captured | None] = {}
        self._pool: Any = None
        self._failed = False

    def __call__(self, parts: Sequence[Batch]) -> tuple[Tensor, ...]:
        """The work's tensors for a batch."""
        shapes = tuple(tuple(value.shape) for part in parts for value in _tensors(part))
        if self._failed or shapes not in self._seen:
            self._seen[shapes] = None
            return self._work(parts)
        captured = self._seen[shapes]
        if captured is None:
            try:
                captured = _Captured(self._work, parts, self._optimizer, self._pool)
            except Exception as error:  # CUDA and torch refuse in many ways
                logger.warning("steps are not captured as CUDA graphs: %s", error)
                self._failed = True
                torch.cuda.synchronize()
                return self._work(parts)
            self._pool = captured.pool
            self._seen[shapes] = captured
        return captured(parts)


class _Captured:
    """One graph, with the memory that it reads its batch and rates from."""

    def __init__(
        self, work: Work, parts: Sequence[Batch], optimizer: torch.optim.Optimizer, pool: Any
    ) -> None:
        self._parts = [_copied(part) for part in parts]
        self._optimizer = optimizer
        device = parts[0].images.device
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        self._rates = [torch.tensor(rate, device=device) for rate in rates]
        self._graph = torch.cuda.CUDAGraph()
        for group, rate in zip(optimizer.param_groups, self._rates, strict=True):
            group["lr"], group["capturable"] = rate, True
        torch.cuda.synchronize()
        try:
            # Other threads may go on: one of them pins the memory of the batches to come.
            with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
                self._results = work(self._parts)
        finally:
            for group, known in zip(optimizer.param_groups, rates, strict=True):
                group["lr"], group["capturable"] = known, False
        self.pool = self._graph.pool()

    def __call__(self, parts: Sequence[Batch]) -> tuple[Tensor, ...]:
        for own, given in zip(self._parts, parts, strict=True):
            for kept, value in zip(_tensors(own), _tensors(given), strict=True):
                kept.copy_(value, non_blocking=True)
        for rate, group in zip(self._rates, self._optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        self._graph.replay()
        return tuple(value.clone() for value in self._results)


def _tensors(batch: Batch) -> list[Tensor]:
    return [batch.images, *(getattr(batch.targets, f.name) for f in fields(batch.targets))]


def _copied(batch: Batch) -> Batch:
    images, *labels = (value.clone() for value in _tensors(batch))
    return Batch(images, type(batch.targets)(*labels), batch.names)
