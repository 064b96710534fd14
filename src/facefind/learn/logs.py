"""Logs of a run: JSON lines, TensorBoard where it is installed, and a line of progress."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facefind import files
from facefind.learn.state import TrainingError
from facefind.runtimes import cpu

logger = logging.getLogger(__name__)


class Log:
    """Writes records to `log.jsonl` and TensorBoard, and progress to the terminal.

    Args:
        folder: run folder; records are appended to those that it holds.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "log.jsonl"
        if path.exists():  # no record is to follow what a kill left of one
            os.truncate(path, files.torn_line(path)[0])
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._board = _tensorboard(folder / "tensorboard")

    def write(self, step: int, **values: Any) -> None:
        """Record values at a step; numbers also go to TensorBoard."""
        self._file.write(json.dumps({"step": step, "time": time.time(), **values}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(name, value, step)

    def picture(self, name: str, pixels: NDArray[np.uint8]) -> None:
        """Show (H,W,3) RGB in TensorBoard."""
        if self._board is not None:
            self._board.add_image(name, pixels, dataformats="HWC")

    def say(self, text: str) -> None:
        """Print a line on stderr; training goes on where nobody is there to read it."""
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


class StepResult(NamedTuple):
    """What a step leaves to be logged, on the device.

    Attributes:
        terms: the loss terms by name, scalars.
        norm: norm of the gradient before clipping, a scalar.
        failed: 1 where the step was not finite and training must end, else 0; a scalar.
        min_positive_scores: for each part of the batch, each image's lowest positive score.
    """

    terms: dict[str, Tensor]
    norm: Tensor
    failed: Tensor
    min_positive_scores: list[Tensor]


class Meter:
    """Means over the steps since the last log line; the device is read once a line.

    Args:
        seconds: gives the seconds of training so far.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._start()

    def _start(self) -> None:
        self._steps: list[tuple[int, StepResult, list[str]]] = []
        self._load_s, self._since = 0.0, self._seconds()

    def add(self, step: int, result: StepResult, names: list[str], load_s: float) -> None:
        """Take in a step's result, its images' names and how long the device waited for them."""
        self._steps.append((step, result, names))
        self._load_s += load_s

    def check(self) -> None:
        """Wait for the device, and see that all steps since the last log line were finite.

        Raises:
            TrainingError: if one was not; names the first of them, its loss and its images.
        """
        self._read()

    def take(self, batch: int) -> dict[str, float]:
        """The means since the last call, with images a second at `batch` images a step.

        `load_s` is the time that the device waits for a step's images, `step_s` all other time.

        Raises:
            TrainingError: as `check` does.
        """
        rows, score = self._read()
        means: dict[str, float] = {}
        for name in dict.fromkeys(name for row in rows for name in row):
            # With half precision a step whose gradient overflows is skipped, and is no mistake.
            values = [row[name] for row in rows if math.isfinite(row.get(name, math.nan))]
            means[name] = sum(values) / max(len(values), 1)
        # Read only now, after the wait for the device: a step returns before its work is done.
        count, taken = len(self._steps), self._seconds() - self._since
        means |= {"load_s": self._load_s / count, "step_s": (taken - self._load_s) / count}
        means["images_per_s"] = batch * count / max(taken, 1e-9)
        if math.isfinite(score):  # some image had a positive anchor
            means["min_positive_score"] = score
        self._start()
        return means

    def _read(self) -> tuple[list[dict[str, float]], float]:
        """Values by name of each step, and the mean of the minimal positive scores."""
        if not self._steps:
            return [], math.nan
        results = [result for _, result, _ in self._steps]
        scores = torch.cat([part for result in results for part in result.min_positive_scores])
        scalars = [value for r in results for value in (*r.terms.values(), r.norm, r.failed)]
        *values, score = torch.stack([*scalars, scores.nanmean()]).tolist()
        numbers = iter(values)
        rows: list[dict[str, float]] = []
        for step, result, names in self._steps:
            terms = {name: next(numbers) for name in result.terms}
            norm, failed = next(numbers), next(numbers)
            if failed:
                raise TrainingError(_failure(step, terms, norm, names))
            rows.append({f"loss_{k}": v for k, v in terms.items()} | {"gradient": norm})
        return rows, score


class DeviceWork:
    """Whether a device has done all the work it was given, without waiting for it.

    While a GPU still computes the last step, the host may wait for images without loss.
    """

    def __init__(self, device: torch.device) -> None:
        self._event: Any = None
        if device.type == "cuda":
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def mark(self) -> None:
        """Mark the end of the work given so far."""
        if self._event is not None:
            self._event.record()

    def is_done(self) -> bool:
        """Whether the work up to the last mark is done; always true where nothing is deferred."""
        return self._event is None or bool(self._event.query())


class LoadingWatch:
    """Warns once where steps wait for their images a third of the time or more.

    The first log line is left out: loading has just begun.

    Args:
        workers: processes that load them.
        cache: where decoded images are kept; None: nowhere.
    """

    FEWEST = 15
    """Steps after the first log line before which nothing is said."""

    def __init__(self, workers: int, cache: str | None) -> None:
        self._workers, self._cache, self._warned = workers, cache, False
        self._begin: int | None = None
        self._step, self._load_s, self._step_s = 0, 0.0, 0.0

    def add(self, step: int, means: Mapping[str, float]) -> None:
        """Take in the means of the log line after a step, as `Meter.take` gives them."""
        if self._begin is None:
            self._begin = self._step = step
            return
        self._load_s += (step - self._step) * means["load_s"]
        self._step_s += (step - self._step) * means["step_s"]
        self._step, steps = step, step - self._begin
        whole = self._load_s + self._step_s
        if self._load_s > whole / 3 and steps >= self.FEWEST and not self._warned:
            self._warned = True
            logger.warning(
                "training waits for its images: %.2g of the %.2g seconds that a step takes%s",
                self._load_s / steps,
                whole / steps,
                self._advice(),
            )

    def _advice(self) -> str:
        workers, cores, advice = self._workers, cpu.usable_cores(), []
        if workers < cores:
            advice.append(f"raise --data.workers, {workers} of {cores} processor cores now")
        if self._cache is None:
            advice.append("keep decoded images with --cache auto")
        return f"; {', or '.join(advice)}" if advice else ""


def _failure(step: int, terms: dict[str, float], norm: float, names: Sequence[str]) -> str:
    values = ", ".join(f"{k} {v:.3g}" for k, v in (terms | {"gradient norm": norm}).items())
    if not all(map(math.isfinite, terms.values())):
        what = "loss"
    elif not math.isfinite(norm):
        what = "gradient"
    else:
        return f"the loss of step {step} is not finite in another process; here it is ({values})"
    return (
        f"the {what} of step {step} is not finite ({values}); lower --optim.lr, or look at these "
        f"images: {', '.join(names[:8])}"
    )


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))
