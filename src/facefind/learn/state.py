"""State of a run: what a step changes, saved in checkpoints and restored from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facefind.errors import FacefindError
from facefind.learn import checkpoints
from facefind.learn.distributed import gather
from facefind.learn.ema import EMA
from facefind.learn.mining import Miner, Pass
from facefind.learn.recipe import Recipe


class TrainingError(FacefindError):
    """Training cannot continue; the last checkpoint is intact."""


class State:
    """All that a step changes: what a checkpoint must hold.

    Args:
        network: the network that learns.
        frozen_bn: its frozen batch normalizations, which stay in `eval`.
        optimizer: of its parameters, a fused one.
        ema: its averaged weights, where they are kept.
        scaler: of the loss, for half precision.
        miner: of hard images, where there is mining.
    """

    def __init__(
        self,
        network: nn.Module,
        frozen_bn: Sequence[nn.Module],
        optimizer: torch.optim.Optimizer,
        ema: EMA | None,
        scaler: torch.amp.GradScaler,
        miner: Miner | None,
    ) -> None:
        self.network, self.frozen_bn, self.optimizer = network, frozen_bn, optimizer
        self.ema, self.scaler, self.miner = ema, scaler, miner

    def best_network(self) -> nn.Module:
        """The network to evaluate and export: the averaged one where there is one."""
        return self.ema.module if self.ema else self.network

    def set_training(self) -> None:
        """Put the network into training mode, all but what is frozen."""
        if not self.network.training:
            self.network.train()
        for module in self.frozen_bn:
            module.eval()

    def step(self, finite: Tensor) -> None:
        """Step the optimizer, where the bool scalar `finite` is true."""
        self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]  # see torch.amp
        self.optimizer.step()
        self.scaler.update()

    def average(self, finite: Tensor) -> None:
        """Move the averaged weights, where the bool scalar `finite` is true."""
        if self.ema:
            self.ema.update(self.network, finite)

    def observe(self, scores: Sequence[Tensor]) -> list[Pass]:
        """Pass minimal positive scores, by parts of a step, to the miner; return passes begun."""
        if self.miner is None:
            return []
        seen = [self.miner.observe(HostCopy(gather(part.float()))) for part in scores]
        return [begun for part in seen for begun in part]

    def save(self, path: Path, step: int, recipe: Recipe, data: str, **more: Any) -> None:
        """Write all of it to a checkpoint, with the fingerprint of the training images."""
        content: dict[str, Any] = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": step,
            "recipe": recipe.to_dict(),
            "data": data,
            **more,
        }
        if self.ema:
            content["ema"] = self.ema.module.state_dict()
            content["ema_updates"] = self.ema.updates
        if self.miner:
            content["mining"] = self.miner.state()
        checkpoints.save(path, content)

    def restore(self, content: dict[str, Any]) -> int:
        """Load the content of a checkpoint of the same recipe, and return its step.

        Raises:
            DataError: if its mining was of other images or processes.
        """
        self.network.load_state_dict(content["network"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])
        if self.ema:
            self.ema.module.load_state_dict(content["ema"])
            self.ema.updates = content["ema_updates"]
        if self.miner:
            self.miner.restore(content["mining"])
        return int(content["step"])


class HostCopy:
    """A tensor on its way to the host: NumPy reads it as an array, and only then waits for it."""

    def __init__(self, tensor: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if tensor.device.type == "cuda":
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()
        else:
            self._host = tensor.cpu()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if self._event is not None:
            self._event.synchronize()
        return np.asarray(self._host.numpy(), dtype)
