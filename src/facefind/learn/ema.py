"""Averaged weights: a moving mean of a network's weights, smoother than the last step's."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class EMA:
    """Exponential moving average of a network's parameters; its buffers are taken as they are.

    The decay grows as (1 + n) / (10 + n) with the number of updates n, up to `decay`, so that the
    random start is soon forgotten.

    Source: Polyak averaging (SIAM J. Control Optim. 30(4), 1992) in its exponential form.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"the decay of averaged weights was {decay}; wanted 0 < decay < 1")
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards the network's present weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averaged: list[Tensor] = list(self.network.parameters())
        present: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(averaged, present, 1 - decay)
        for mine, theirs in zip(self.network.buffers(), network.buffers(), strict=True):
            mine.copy_(theirs)
