"""State of a run: what a step changes, kept in checkpoints and taken up again from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facefind.errors import FacefindError
from facefind.learn import checkpoints
from facefind.learn.distributed import gather
from facefind.learn.ema import EMA
from facefind.learn.mining import Miner, Pass
from facefind.learn.recipe import Recipe


class TrainingError(FacefindError):
    """Training cannot go on; the last checkpoint still stands."""


class State:
    """All that a step changes: what a checkpoint must hold.

    Args:
        network: what learns.
        still: its frozen normalizations, which stay in `eval`.
        optimizer: of its parameters.
        ema: its averaged weights, where they are kept.
        scaler: of the loss, for half precision.
        miner: of hard images, where there is mining.
    """

    def __init__(
        self,
        network: nn.Module,
        still: Sequence[nn.Module],
        optimizer: torch.optim.Optimizer,
        ema: EMA | None,
        scaler: torch.amp.GradScaler,
        miner: Miner | None,
    ) -> None:
        self.network, self.still, self.optimizer = network, still, optimizer
        self.ema, self.scaler, self.miner = ema, scaler, miner

    def best_network(self) -> nn.Module:
        """The network to evaluate and export: the averaged one where there is one."""
        return self.ema.network if self.ema else self.network

    def observe(self, weakest: Sequence[Tensor]) -> list[Pass]:
        """Mark the images of a step, by parts; return the passes that began in it."""
        if self.miner is None:
            return []
        seen = [self.miner.observe(gather(part.float()).cpu().numpy()) for part in weakest]
        return [begun for part in seen for begun in part]

    def save(self, path: Path, step: int, recipe: Recipe) -> None:
        """Write all of it to a checkpoint."""
        content: dict[str, Any] = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": step,
            "recipe": recipe.to_dict(),
        }
        if self.ema:
            content |= {"ema": self.ema.network.state_dict(), "ema_updates": self.ema.updates}
        if self.miner:
            content["mining"] = self.miner.state()
        checkpoints.save(path, content)

    def restore(self, folder: Path, recipe: Recipe) -> int:
        """Load the folder's last checkpoint, if there is one, and return its step.

        Raises:
            TrainingError: if it was made by another network or optimizer.
            DataError: if its mining was of other images or processes.
        """
        if not (folder / checkpoints.LAST).exists():
            return 0
        content = checkpoints.load(folder / checkpoints.LAST)
        wanted = recipe.to_dict()["network"]
        # a field that came after the checkpoint stands at what it was without it
        if content["recipe"]["network"] != {k: wanted.get(k) for k in content["recipe"]["network"]}:
            raise TrainingError(
                f"{folder} was trained with another network; choose another --run.out"
            )
        self.network.load_state_dict(content["network"])
        try:
            self.optimizer.load_state_dict(content["optimizer"])
        except ValueError as error:
            raise TrainingError(
                f"{folder} was trained with other --optim options ({error}); go on with the same"
            ) from error
        self.scaler.load_state_dict(content["scaler"])
        if self.ema:
            self.ema.network.load_state_dict(content.get("ema", content["network"]))
            self.ema.updates = content.get("ema_updates", 0)
        step = int(content["step"])
        if self.miner and "mining" in content:
            self.miner.restore(content["mining"])
        elif self.miner:  # mining begins here
            self.miner.batches = step * recipe.optim.accumulate
        return step
