"""Plain numbers as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def constant(values: Sequence[float] | Sequence[Sequence[float]], like: Tensor) -> Tensor:
    """The numbers in the type and on the device of `like`; a GPU is not waited for.

    `like.new_tensor(values)` waits until all that the GPU has been given is done.
    """
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)
