"""What training in several processes needs, in a form that also holds for one."""

from __future__ import annotations

import torch
from torch import Tensor


def world() -> tuple[int, int]:
    """This process's rank and the number of processes: (0, 1) outside torchrun."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a scalar over all processes; `value` itself where there is one process."""
    _, processes = world()
    if processes == 1:
        return value
    total = value.detach().clone()
    torch.distributed.all_reduce(total)
    return total / processes


def gather(value: Tensor) -> Tensor:
    """(P,...) what each of P processes gave, in order; every process gets all of it."""
    _, processes = world()
    if processes == 1:
        return value[None]
    parts = [torch.empty_like(value) for _ in range(processes)]
    torch.distributed.all_gather(parts, value.contiguous())
    return torch.stack(parts)
