"""Pictures that are nowhere, and a detector that costs nothing: what is left is the machinery."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from facefind.batch import Done, Job, Worker
from facefind.detector import DetectionResult
from facefind.errors import ImageError
from facefind.faces import Faces
from facefind.images import Found
from facefind.pipeline.units import Unit
from facefind.streaming import detect_stream

IMAGE = np.zeros((8, 8, 3), np.uint8)
FACE = Faces([[1, 2, 5, 6]], [0.9], image_size=(8, 8))
BAD = "7777.jpg"
"""The end of the names of pictures that fail."""


def units(count: int) -> Iterator[Unit]:
    """So many pictures by name."""
    return (Unit(f"{n:08}.jpg", f"/nowhere/{n:08}.jpg") for n in range(count))


def detect(
    files: Iterable[Found], *, before: Callable[[str], None] = lambda name: None
) -> Iterator[DetectionResult]:
    """A face in each picture, found by the stream that all detectors use."""

    def read(file: Found) -> Any:
        before(file.name)
        if file.name.endswith(BAD):
            raise ImageError(f"{file.name} is no picture")
        return IMAGE

    return detect_stream(files, read, lambda images: [FACE] * len(images), batch_size=8)


def worker(
    job: Job,
    watch: Callable[[Done], None],
    *,
    kill_at: str = "",
    marks: str = "",
    threads: int = 1,
) -> Worker:
    """A worker that is killed when it reads the picture of this name.

    Args:
        job: The job.
        watch: As of `Worker`.
        kill_at: The picture.
        marks: A folder; each kill takes one of its files away, and without any there is none.
        threads: Not used.
    """

    def before(name: str) -> None:
        if name != kill_at:
            return
        if marks:
            mark = next(Path(marks).iterdir(), None)
            if mark is None:
                return
            mark.unlink()
        os.kill(os.getpid(), signal.SIGKILL)

    return Worker(job, partial(detect, before=before), watch=watch)
