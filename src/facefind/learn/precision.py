"""Precision: the numbers that a run computes with, and what `auto` stands for."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from facefind.errors import RuntimeUnavailableError
from facefind.runtimes import cpu

logger = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[str, torch.dtype | None] = {
    "fp32": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
"""What convolutions are cast to, by precision; None: nothing."""


def has_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 numbers in hardware; False where not known.

    Without such hardware they are emulated: on a CPU a convolution takes ten times as long.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and cpu.has_bf16()


def choose_precision(
    requested: Precision | Literal["auto"], device: torch.device, begun_in: Precision | None = None
) -> tuple[Precision, str]:
    """The precision of a run, and why it was chosen.

    Args:
        requested: `--run.precision`; `auto` is bf16 where the device has it, else fp32.
        device: where the run computes.
        begun_in: the precision of the run's earlier stages, which `auto` keeps where it can.

    Raises:
        RuntimeUnavailableError: if bf16 is requested by name, and the device is known to lack it.
    """
    able = has_bf16(device)
    if requested == "bf16" and not able and device.type in ("cpu", "cuda"):
        raise RuntimeUnavailableError(
            f"--run.precision bf16: {_named(device)} has no bf16 arithmetic, and emulates it many "
            "times slower than fp32; use --run.precision fp32, or auto, which chooses"
        )
    if requested != "auto":
        return requested, "as asked for"
    if begun_in == "bf16" and not able:
        logger.warning(
            "the run was begun in bf16, of which %s has no arithmetic; it goes on in fp32, and "
            "will not end with quite the same weights",
            _named(device),
        )
    elif begun_in:
        return begun_in, "auto: as the run began"
    has = "has" if able else "has no"
    return "bf16" if able else "fp32", f"auto: {_named(device)} {has} bf16 arithmetic"


@contextlib.contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """Compute a training's forward pass in one of `DTYPES` on a device, within this context."""
    kind = DTYPES[precision]
    with (
        torch.autocast(device.type, kind, enabled=kind is not None),
        _SoundConvolutions() if device.type == "cpu" else contextlib.nullcontext(),
    ):
        yield


class _SoundConvolutions(TorchFunctionMode):
    """Has `torch.conv2d` computed by `_convolve`, whose backward pass is right on every CPU."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return (_convolve if func is torch.conv2d else func)(*args, **kwargs or {})


def _convolve(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """`torch.conv2d` without two faults of oneDNN (3.12, in torch 2.13) with AVX-512.

    Weights get wrong gradients in bf16, from memory that nothing was written to: those of dilated
    kernels, and of taps that lie beyond the map wherever the kernel stands, at one pixel of height
    or width. Such convolutions are computed in fp32. A kernel of one pixel with a stride and fewer
    than 16 channels writes beyond its memory in the backward pass, in any precision
    (https://github.com/uxlfoundation/oneDNN/issues/6035): it gets the pixels that it looks at.
    """
    kernel = weight.shape[-2:]
    down, right = _pair(stride)
    padded = not isinstance(padding, str) and max(_pair(padding)) > 0
    if max(kernel) == 1 and max(down, right) > 1 and not padded:
        input, stride = input[..., ::down, ::right], 1
    beyond = any(size <= taps // 2 for size, taps in zip(input.shape[-2:], kernel, strict=True))
    if not beyond and max(_pair(dilation)) == 1:
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    full = None if bias is None else bias.float()
    with torch.autocast("cpu", enabled=False):
        return torch.conv2d(input.float(), weight.float(), full, stride, padding, dilation, groups)


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    """Height's and width's part of an argument of a convolution."""
    first, last = (value, value) if isinstance(value, int) else (value[0], value[-1])
    return first, last


def _named(device: torch.device) -> str:
    return "this processor" if device.type == "cpu" else f"the device {device}"
