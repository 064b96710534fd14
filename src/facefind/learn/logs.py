"""Logs of a run: JSON lines, TensorBoard where it is installed, and a line of progress."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


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
