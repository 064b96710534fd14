"""Plain numbers as tensors."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor


def constant(values: Sequence[float] | Sequence[Sequence[float]], like: Tensor) -> Tensor:
    """The numbers in the type and on the device of `like`, not to be changed.

    A GPU is not waited for, as it would be by `like.new_tensor(values)`. There each constant is
    sent once and kept: what a captured graph replays must not be read from the host's memory.
    """
    if like.device.type == "cuda" and not torch.compiler.is_compiling():
        rows = tuple(v if isinstance(v, int | float) else tuple(v) for v in values)
        return _kept(rows, like.dtype, like.device)
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)


@functools.lru_cache(maxsize=256)
def _kept(values: tuple[object, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype).to(device, non_blocking=True)
