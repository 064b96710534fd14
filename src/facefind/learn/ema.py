"""Averaged weights: a moving mean of a network's weights, smoother than the last step's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from facefind.errors import DataError


class EMA(AveragedModel):
    """Exponential moving average of a network's parameters; its buffers are copied.

    The decay grows as (1 + n) / (10 + n) with the number of updates n, up to `decay`, so that the
    random start is soon forgotten.

    Args:
        network: its present weights are the average's first value.
        decay: weight of the past once warmed up.

    Attributes:
        module: the network with averaged weights, in eval mode.

    Raises:
        DataError: if `decay` is none.

    Source: Polyak averaging (SIAM J. Control Optim. 30(4), 1992) in its exponential form.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise DataError(f"--optim.ema: expected a decay between 0 and 1, got {decay}")
        super().__init__(network, multi_avg_fn=self._average)
        self.decay = decay
        self._share: Tensor | float = 1.0
        self.n_averaged.fill_(1)  # the initial weights; on the host, so that no step waits for it
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, finite: Tensor | None = None) -> None:
        """Move the average towards the network's present weights.

        Args:
            network: the network that learns.
            finite: scalar on the device; where it is false the averaged weights stay as they are.
        """
        self._share = 1.0 if finite is None else finite.float()
        self.update_parameters(network)

    def _average(
        self,
        averaged: tuple[Tensor, ...] | list[Tensor],
        present: tuple[Tensor, ...] | list[Tensor],
        count: Tensor | int,
    ) -> None:
        warm = (1 + torch.as_tensor(count)) / (10 + torch.as_tensor(count))
        weight = (1 - warm.clamp(max=self.decay)) * self._share
        change = torch._foreach_sub(present, averaged)
        torch._foreach_mul_(change, weight)
        torch._foreach_add_(averaged, change)
