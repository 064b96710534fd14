"""Logs of a run: JSON lines, TensorBoard where it is installed, and a line of progress."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class Log:
    """Writes one record at a time to `log.jsonl` and TensorBoard, and tells the terminal.

    Args:
        folder: run folder; records are appended to what stands there.
        total: steps of the run.
        start: step at which this process begins.
        quiet: write files only (processes other than the first write nothing).
    """

    def __init__(self, folder: Path, total: int, start: int = 0, *, quiet: bool = False) -> None:
        self._file = (folder / "log.jsonl").open("a", encoding="utf-8", buffering=1)
        self._board = _tensorboard(folder / "tensorboard")
        self._total, self._start, self._quiet = total, start, quiet
        self._began = time.monotonic()

    def write(self, step: int, **values: Any) -> None:
        """Record values at a step; numbers also go to TensorBoard."""
        self._file.write(json.dumps({"step": step, "time": time.time(), **values}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(name, value, step)

    def tell(self, step: int, text: str) -> None:
        """Print progress with the expected time to the end of the run."""
        if self._quiet:
            return
        taken = time.monotonic() - self._began
        done = step - self._start
        left = taken / done * (self._total - step) if done else 0.0
        print(f"{step}/{self._total}  {text}  left {_clock(left)}", file=sys.stderr, flush=True)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


class Meter:
    """Means of what is logged since it was last taken."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0
        self._weakest: list[Tensor] = []

    def add(
        self,
        terms: dict[str, Tensor],
        norm: Tensor,
        weakest: Sequence[Tensor],
        load_s: float,
        step_s: float,
    ) -> None:
        """Take in a step's loss terms, gradient norm, weakest positives and seconds."""
        values = {f"loss_{name}": term.item() for name, term in terms.items()}
        values |= {"gradient": norm.item(), "load_s": load_s, "step_s": step_s}
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        self._weakest += weakest

    def take(self, batch: int) -> dict[str, float]:
        """The means since the last call, with images a second at `batch` images a step."""
        means = {name: value / self._count for name, value in self._sums.items()}
        means["images_per_s"] = batch / max(means["load_s"] + means["step_s"], 1e-9)
        weakest = torch.cat(self._weakest).nanmean().item()
        if math.isfinite(weakest):  # some image had a positive anchor
            means["weakest"] = weakest
        self._sums, self._count, self._weakest = {}, 0, []
        return means


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
