"""What training in several processes needs, in a form that also holds for one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from facefind.errors import DataError

T = TypeVar("T")


def make_device(name: str) -> torch.device:
    """The device that `--device` names; under torchrun, `cuda` is each process's own GPU.

    Raises:
        DataError: if there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DataError(f"--device: expected auto, cpu, cuda[:N] or mps, got {name!r}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DataError(f"--device {name}: torch sees {torch.cuda.device_count()} CUDA GPUs")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DataError("--device mps: torch sees no Apple GPU")
    return device


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[tuple[int, int]]:
    """Rank and number of processes; joins the group that torchrun announces, leaves it after."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    join = "WORLD_SIZE" in os.environ and not torch.distributed.is_initialized()
    if join:
        # Values on the host go by gloo in any case, so that nobody waits for a device.
        torch.distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        )
    try:
        yield world()
    finally:
        if join:
            torch.distributed.destroy_process_group()


def world() -> tuple[int, int]:
    """This process's rank and the number of processes: (0, 1) outside torchrun."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def first_process(value: float) -> float:
    """The first process's value, in every process; the device is not waited for."""
    if world()[1] == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64)
    torch.distributed.broadcast(shared, 0)
    return float(shared)


def any_process(value: bool) -> bool:
    """Whether `value` is true in at least one process; every process must call it."""
    if world()[1] == 1:
        return value
    shared = torch.tensor(value, dtype=torch.uint8)
    torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX)
    return bool(shared)


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a scalar over all processes; `value` itself where there is one process."""
    _, processes = world()
    if processes == 1:
        return value
    total = value.detach().clone()
    torch.distributed.all_reduce(total)
    return total / processes


def all_processes(value: Tensor) -> Tensor:
    """Where `value`, a bool tensor, is true in every process."""
    _, processes = world()
    if processes == 1:
        return value
    flags = value.to(torch.uint8)
    torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MIN)
    return flags.bool()


def gather(value: Tensor) -> Tensor:
    """(P,...) what each of P processes gave, in order; every process gets all of it."""
    _, processes = world()
    if processes == 1:
        return value[None]
    parts = [torch.empty_like(value) for _ in range(processes)]
    torch.distributed.all_gather(parts, value.contiguous())
    return torch.stack(parts)


def gather_objects(value: T) -> list[T]:
    """What each process gave, in order, in the first process; empty in the others."""
    rank, processes = world()
    if processes == 1:
        return [value]
    found: list[T] | None = [value] * processes if rank == 0 else None
    torch.distributed.gather_object(value, found)
    return found or []


@torch.no_grad()
def share_buffers(network: nn.Module) -> None:
    """Give all processes the first one's buffers (batch-norm statistics are each process's own)."""
    if world()[1] > 1:
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, 0)
