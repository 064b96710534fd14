"""Precision: the numbers that a run computes with, and what `auto` stands for."""

from __future__ import annotations

import logging
from typing import Literal

import torch

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


def _named(device: torch.device) -> str:
    return "this processor" if device.type == "cpu" else f"the device {device}"
