"""Averaged weights: a moving mean of a network's weights, smoother than the last step's."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from facefind.errors import DataError


class EMA:
    """Exponential moving average of a network's parameters; its buffers are copied.

    The decay grows as (1 + n) / (10 + n) with the number of updates n, up to `decay`, so that the
    random start is soon forgotten.

    Args:
        network: its present weights are the average's first value.
        decay: weight of the past once warmed up.

    Attributes:
        module: the network with averaged weights, in eval mode.
        updates: n; the initial weights count as the first.

    Raises:
        DataError: if `decay` is none.

    Source: Polyak averaging (SIAM J. Control Optim. 30(4), 1992) in its exponential form.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise DataError(f"--optim.ema: expected a decay between 0 and 1, got {decay}")
        self.module = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay, self.updates = decay, 1

    @torch.no_grad()
    def update(self, network: nn.Module, finite: Tensor | None = None) -> None:
        """Move the average towards the network's present weights.

        Args:
            network: the network that learns.
            finite: scalar on the device; where it is false the averaged weights stay as they are.
        """
        weight = 1 - min((1 + self.updates) / (10 + self.updates), self.decay)
        averaged: list[Tensor] = list(self.module.parameters())
        present: list[Tensor] = list(network.parameters())
        change = list(torch._foreach_sub(present, averaged))
        torch._foreach_mul_(change, weight if finite is None else finite.float() * weight)
        torch._foreach_add_(averaged, change)
        if buffers := list(self.module.buffers()):
            torch._foreach_copy_(buffers, list(network.buffers()))
        self.updates += 1
