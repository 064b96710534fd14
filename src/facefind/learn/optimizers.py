"""Optimizers: which parameters learn, how fast, and which decay.

A part of a network is named by the dotted name of a module or parameter, and stands for all
within; `*` stands for any text. So `backbone` is all of it, `*.bias` every bias.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from facefind.errors import DataError
from facefind.learn.recipe import OptimConfig


def freeze(network: nn.Module, parts: Iterable[str]) -> list[nn.Module]:
    """Keep parts of a network from learning; return the normalizations that must stay in `eval`.

    Raises:
        DataError: if a name fits nothing.
    """
    still: list[nn.Module] = []
    for part in parts:
        for parameter in _within(network, part, "--optim.frozen"):
            parameter.requires_grad_(False)
        still += [
            module
            for name, module in network.named_modules()
            if isinstance(module, _BatchNorm) and _fits(name, part)
        ]
    return still


def make_optimizer(network: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW; AdamW leaves vectors and scalars without weight decay.

    Each parameter group holds the factor of its learning rate as `factor`.

    Raises:
        DataError: if a group's name fits nothing.
    """
    rates: dict[nn.Parameter, float] = {}
    decays: dict[nn.Parameter, float] = {}
    for group in config.groups:
        for parameter in _within(network, group.part, "optim.groups"):
            rates[parameter] = rates.get(parameter, 1.0) * group.lr
            decays[parameter] = decays.get(parameter, 1.0) * group.decay
    learning = [p for p in network.parameters() if p.requires_grad]
    if config.name == "sgd":
        kinds = [(learning, config.weight_decay)]
    else:
        kinds = [
            ([p for p in learning if p.ndim > 1], config.weight_decay),
            ([p for p in learning if p.ndim <= 1], 0.0),
        ]
    parameter_groups = []
    for parameters, weight_decay in kinds:
        alike: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in parameters:
            key = rates.get(parameter, 1.0), decays.get(parameter, 1.0)
            alike.setdefault(key, []).append(parameter)
        parameter_groups += [
            {"params": same, "weight_decay": weight_decay * decay, "factor": rate}
            for (rate, decay), same in alike.items()
        ]
    if config.name == "sgd":
        return torch.optim.SGD(parameter_groups, config.lr, momentum=config.momentum)
    return torch.optim.AdamW(parameter_groups, config.lr, betas=(config.momentum, 0.999))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the learning rate `rate` times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)  # checkpoints of 0.1 tell no factor


def _fits(name: str, part: str) -> bool:
    return fnmatchcase(name, part) or fnmatchcase(name, f"{part}.*")


def _within(network: nn.Module, part: str, option: str) -> list[nn.Parameter]:
    found = [p for name, p in network.named_parameters() if _fits(name, part)]
    if not found:
        parts = ", ".join(name for name, _ in network.named_children())
        raise DataError(
            f"{option} names {part!r}, but the network has no such part; it has {parts}"
        )
    return found
