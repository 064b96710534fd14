"""Optimizers: which parameters learn, how fast, and which decay.

A part of a network is named by the dotted name of a module or parameter, and includes all within;
`*` matches any text. So `backbone` is all of it, `*.bias` every bias. The name of a class, such as
`BatchNorm2d`, names all modules of it.
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
    """Freeze parts of a network; return their batch normalizations, which must stay in `eval`.

    Raises:
        DataError: if a name matches nothing.
    """
    frozen_bn: list[nn.Module] = []
    for part in parts:
        for parameter in _within(network, part, "--optim.frozen"):
            parameter.requires_grad_(False)
        frozen_bn += [
            module
            for name, module in network.named_modules()
            if isinstance(module, _BatchNorm) and _matches(network, name, part)
        ]
    return frozen_bn


def make_optimizer(network: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW; AdamW leaves vectors and scalars without weight decay.

    Each parameter group holds the factor of its learning rate as `factor`. The optimizer is a
    fused one: where its attribute `found_inf`, a float tensor on the device, is 1, a step changes
    nothing.

    Raises:
        DataError: if a group's name matches nothing, unless it is optional, or every part is
            frozen.
    """
    rates: dict[nn.Parameter, float] = {}
    decays: dict[nn.Parameter, float] = {}
    for group in config.groups:
        option = None if group.optional else "optim.groups"
        for parameter in _within(network, group.part, option):
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
    if not learning:
        raise DataError("--optim.frozen: nothing is left to learn; freeze fewer parts")
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
    if config.name == "adamw":
        betas = (config.momentum, 0.999)
        return torch.optim.AdamW(parameter_groups, config.lr, betas=betas, fused=True)
    sgd = torch.optim.SGD(parameter_groups, config.lr, momentum=config.momentum, fused=True)
    if config.momentum:  # a first step that changes nothing would leave fresh buffers unset
        for parameter in learning:
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the learning rate `rate` times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)


def _matches(network: nn.Module, name: str, part: str) -> bool:
    """Whether a module or parameter of a network is, or lies within, a part of it."""
    named = [place for place, module in network.named_modules() if type(module).__name__ == part]
    return any(fnmatchcase(name, one) or fnmatchcase(name, f"{one}.*") for one in [part, *named])


def _within(network: nn.Module, part: str, option: str | None) -> list[nn.Parameter]:
    """The parameters of a part; where there are none, the option that named it is wrong."""
    found = [p for name, p in network.named_parameters() if _matches(network, name, part)]
    if not found and option:
        parts = ", ".join(name for name, _ in network.named_children())
        raise DataError(f"{option}: expected a part of the network ({parts}, ...), got {part!r}")
    return found
