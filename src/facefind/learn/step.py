"""A training step: one update of a network from one batch, without waiting for the device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from facefind.learn.distributed import all_processes
from facefind.learn.graphs import GraphedWork
from facefind.learn.loader import Batch
from facefind.learn.logs import StepResult
from facefind.learn.optimizers import set_rate
from facefind.learn.precision import autocast
from facefind.learn.recipe import Recipe
from facefind.learn.state import State
from facefind.learn.targets import BatchTargets

if TYPE_CHECKING:
    from facefind.learn.criterion import Losses


class Step:
    """Updates a network by the mean gradient over the parts of a batch.

    Nothing in it reads a value back from the device. A step whose loss or gradient is not finite
    changes neither weights, optimizer nor averaged weights, in any process; its result says so,
    and the caller must read that before anything is saved. (Running statistics of batch norm
    change in the forward pass, with or without a step.)

    Args:
        state: the network, its optimizer and the rest of what a step changes.
        criterion: outputs and targets -> losses.
        recipe: precision, already chosen where it was `auto`, layout, clipping; whether the network
            is compiled and steps captured.
        device: of the network.
        processes: that train together; each calls its own step at the same time.
    """

    def __init__(
        self,
        state: State,
        criterion: Callable[[Any, BatchTargets], Losses],
        recipe: Recipe,
        device: torch.device,
        processes: int = 1,
    ) -> None:
        self._state, self._criterion, self._recipe = state, criterion, recipe
        self._device = device
        self._model: nn.Module = state.network
        if processes > 1:
            devices = [device] if device.type == "cuda" else None
            self._model = DistributedDataParallel(state.network, devices)
        elif compiles(
            recipe, device, processes
        ):  # the network itself stays as it is, for evaluations
            self._model = cast(nn.Module, torch.compile(state.network, dynamic=False))
        self._names: list[str] = []
        self._work: Callable[[Sequence[Batch]], tuple[Tensor, ...]] = self._updated
        if captures(recipe, device, processes):
            self._work = GraphedWork(self._updated, state.optimizer)

    def __call__(self, parts: Sequence[Batch], rate: float) -> StepResult:
        """Update the network once at a learning rate; return what there is to log."""
        state = self._state
        state.set_training()
        set_rate(state.optimizer, rate)
        finite, failed, norm, *rest = self._work([batch.to(self._device) for batch in parts])
        state.average(finite)
        terms, scores = rest[: len(self._names)], rest[len(self._names) :]
        return StepResult(dict(zip(self._names, terms, strict=True)), norm, failed, scores)

    def _updated(self, parts: Sequence[Batch]) -> tuple[Tensor, ...]:
        """Step the optimizer: whether the step is finite and whether it failed, the gradient's
        norm, the loss terms as `_names` has them, and each part's lowest positive scores.
        """
        state, optim = self._state, self._recipe.optim
        state.optimizer.zero_grad(set_to_none=True)
        sums, scores = dict[str, Tensor](), list[Tensor]()
        for number, batch in enumerate(parts, start=1):
            losses = self._backward(batch, len(parts), last=number == len(parts))
            for name, term in losses.terms.items():
                share = term.detach().float() / len(parts)
                sums[name] = sums[name] + share if name in sums else share
            scores.append(losses.min_positive_scores)
        state.scaler.unscale_(state.optimizer)
        norm = nn.utils.clip_grad_norm_(state.network.parameters(), optim.clip or float("inf"))
        loss_finite = torch.stack(list(sums.values())).sum().isfinite()
        # The loss is each process's own; in half precision the gradient may overflow at times.
        finite, loss_finite = all_processes(
            torch.stack([loss_finite & norm.isfinite(), loss_finite])
        )
        state.step(finite)
        self._names = list(sums)
        failed = ~(loss_finite if state.scaler.is_enabled() else finite)
        return finite, failed, norm, *sums.values(), *scores

    def _backward(self, batch: Batch, parts: int, *, last: bool) -> Losses:
        """Add a part's share to the gradient; processes exchange it with the last part."""
        run = self._recipe.run
        images = batch.images.permute(0, 3, 1, 2)  # channels-last as it comes
        if not run.channels_last:
            images = images.contiguous()
        alone = isinstance(self._model, DistributedDataParallel) and not last
        with self._model.no_sync() if alone else contextlib.nullcontext():  # type: ignore[operator]
            with autocast(self._device, run.precision):
                outputs = self._model(images)
            losses = self._criterion(outputs, batch.targets)
            loss = torch.stack(list(losses.terms.values())).sum()
            self._state.scaler.scale(loss / parts).backward()  # type: ignore[no-untyped-call]
        return losses


def compiles(recipe: Recipe, device: torch.device, processes: int) -> bool:
    """Whether the network is compiled: on one GPU, where that pays."""
    return recipe.run.compile and device.type == "cuda" and processes == 1


def captures(recipe: Recipe, device: torch.device, processes: int) -> bool:
    """Whether steps are captured as CUDA graphs: on one GPU, unless losses are scaled by hand."""
    run = recipe.run
    alone = device.type == "cuda" and processes == 1
    return run.graphs and alone and run.precision != "fp16"
