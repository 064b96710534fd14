"""What `detect`, `align` and `redact` do alike: list images, work through them, say how it went."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from facefind import pipeline
from facefind.cli import output
from facefind.cli.options import Batch
from facefind.cli.progress import Progress, peek
from facefind.errors import ImageError
from facefind.images import SUFFIXES

if TYPE_CHECKING:
    from facefind.detector import DetectionResult, FaceDetector
    from facefind.images import Found

__all__ = ["Work"]

Peeked: TypeAlias = "tuple[list[Found], int | None, Iterator[Found]]"


class Work:
    """The images of a command, from their sources to a line that says what came of them.

    Args:
        command: Its name, for messages.
        options: The command's own.
        files: The files that it writes, by option; `--failures` is added.
        folders: The folders that it writes into, by option.
        reads: What it reads beside the images.
        suffixes: In lower case, those of the files in folders that it reads.

    Raises:
        DataError: an output is, holds or lies where an input is read.
    """

    def __init__(
        self,
        command: str,
        options: Batch,
        *,
        files: Mapping[str, str | Path | None] = {},
        folders: Mapping[str, str | Path | None] = {},
        reads: Iterable[str] = (),
        suffixes: Collection[str] = SUFFIXES,
    ) -> None:
        options.check_batch()
        self._command, self._options, self._suffixes = command, options, suffixes
        self._inside = pipeline.check_outputs(
            [*options.images, *([options.files_from] if options.files_from else []), *reads],
            files={**files, "--failures": options.failures},
            folders=folders,
            suffixes=suffixes,
        )
        self._quick = pipeline.lists_quickly(options.images, options.files_from)
        self._unlisted: dict[str, ImageError] = {}
        self._failures: pipeline.JsonLines | None = None
        self._failed_before: set[str] = set()
        self._started = time.perf_counter()

    def images(self) -> Iterator[Found]:
        """The images; folders that cannot be listed are named on stderr and passed over."""
        options = self._options
        shard = None if options.shard is None else pipeline.Shard.from_text(options.shard)
        for folder in self._inside:
            self._say(f"{folder} is written to: it is not searched")
        return pipeline.list_images(
            options.images,
            shard,
            files_from=options.files_from,
            skip=self._inside,
            on_error=self._pass_over,
            suffixes=self._suffixes,
        )

    def distinct(
        self, output: Callable[[Found], Path], folder: str | Path, what: str, files: Iterable[Found]
    ) -> Iterable[Found]:
        """The images, of which no two are made into one file.

        Those of files and folders are all looked at here; others when their turn comes.
        """
        pairs = ((file, output(file)) for file in files)
        checked = pipeline.distinct(pairs, folder, what)
        return list(checked) if self._quick else checked

    def peek(self, files: Iterable[Found]) -> Peeked:
        """As `progress.peek`; of images that are in memory no more than one is looked at."""
        return peek(files) if self._quick else peek(files, 1)

    def left(self, peeked: Peeked, done: Collection[str]) -> Peeked:
        """What was peeked at, without the images that are done or known to fail."""
        first, total, files = peeked
        known = self._failed_before.union(done)
        left = [file for file in first if file.name not in known]
        if total is not None:
            total = len(left) if total == len(first) else total - len(known)
        return left, total, (file for file in files if file.name not in known)

    def folders(self) -> dict[str, list[str]]:
        """A setting: the folders that the names of images count from."""
        here = [os.curdir] if self._options.files_from else []
        return pipeline.image_folders([*self._options.images, *here])

    def open_failures(self, *, overwrite: bool | None = None) -> pipeline.JsonLines | None:
        """The file of `--failures`, which must be begun and closed; None where there is none.

        `overwrite` is that option of the command; None is of one that has no such option.
        """
        options = self._options
        if options.failures is not None:
            again = overwrite or (options.retry_failed and options.failures.exists())
            self._failures = pipeline.JsonLines(
                options.failures, resume=options.resume and not again, overwrite=again or overwrite
            )
            self._failed_before = self._failures.names
        return self._failures

    def do(
        self,
        detector: FaceDetector,
        files: Iterable[Found],
        write: Callable[[DetectionResult], None],
        progress: Progress,
        total: int | None,
        *,
        images: bool,
    ) -> Iterator[DetectionResult]:
        """Yield each result that is written; what fails is named on stderr and in `--failures`."""
        stages = pipeline.Stages()

        def timed(result: DetectionResult) -> None:
            with stages("writing"):
                write(result)

        results = pipeline.detect_files(detector, files, images=images, stages=stages)
        written = pipeline.write_results(results, timed, self._failures)
        yield from self.follow(written, progress, total, stages)

    def progress(self, *, needs_reader: bool) -> Progress:
        """What shows how far it is, as the command's options say."""
        options = self._options
        return Progress(
            self._command,
            needs_reader=needs_reader,
            quiet=options.quiet,
            json=options.progress == "json",
        )

    def follow(
        self,
        results: Iterable[DetectionResult],
        progress: Progress,
        total: int | None,
        stages: pipeline.Stages | None = None,
    ) -> Iterator[DetectionResult]:
        """Yield each result that has no error; folders that could not be listed have failed."""
        self._started = time.perf_counter()
        yield from progress(results, total, stages)
        for folder, error in self._unlisted.items():
            if self._failures is not None and folder not in self._failed_before:
                self._failures.write_failure(folder, error)

    def report(self, parts: list[str], progress: Progress, done: set[str]) -> int:
        """Say what came of it on stderr; gives the exit code."""
        failed = progress.failed + len(self._unlisted)
        before = len(self._failed_before - self._unlisted.keys())
        if done:
            parts.append(f"{len(done)} done before")
        if failed:
            parts.append(f"{failed} failed")
        if before:
            parts.append(f"{before} failed before")
        output.say(f"{', '.join(parts)} in {time.perf_counter() - self._started:.1f} s")
        return 1 if failed or before else 0

    def _pass_over(self, folder: Path, error: ImageError) -> None:
        self._unlisted[f"{folder}/"] = error
        self._say(pipeline.reason(error))

    def _say(self, text: str) -> None:
        output.say(f"facefind {self._command}: {output.printable(text)}")
