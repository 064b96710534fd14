"""What a command that works through images shows meanwhile: a bar, and those that fail by name."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sized
from itertools import chain, islice
from typing import TypeVar

from tqdm import tqdm

from facefind.cli import output
from facefind.detector import DetectionResult
from facefind.pipeline import reason

__all__ = ["Progress", "peek"]

T = TypeVar("T")
_PEEKED = 10_000


def peek(items: Iterable[T], most: int = _PEEKED) -> tuple[list[T], int | None, Iterator[T]]:
    """The first items, `most` at most; the number of all, if that is known; and all of them.

    So folders of any length are listed lazily, and those of usual length have a total.
    """
    rest = iter(items)
    first = list(islice(rest, most + 1))
    total = len(first) if len(first) <= most else None
    return first[:most], len(items) if isinstance(items, Sized) else total, chain(first, rest)


class Progress:
    """Hands on results as they come, of which it counts and names those that failed on stderr.

    Args:
        command: The name that failures are printed under.
        hand_on_failed: Whether those that failed are handed on, too.
        needs_reader: Whether what is printed is all that comes of it: the work ends, by a
            BrokenPipeError, when nobody reads it any more. Otherwise it goes on.

    Attributes:
        done: Results without an error so far.
        failed: Results with an error so far.
    """

    def __init__(
        self, command: str, *, hand_on_failed: bool = False, needs_reader: bool = True
    ) -> None:
        self._command, self._hand_on_failed = command, hand_on_failed
        self._needs_reader = needs_reader
        self._bar = tqdm(unit="image", leave=False, disable=not sys.stderr.isatty())
        self.done = self.failed = 0

    def __call__(
        self, results: Iterable[DetectionResult], total: int | None
    ) -> Iterator[DetectionResult]:
        """The results that did not fail, or all; `total` is how many there will be, if known."""
        self._bar.total = total
        with self._bar:
            for result in results:
                self._bar.update()
                if result.error is None:
                    self.done += 1
                else:
                    self.failed += 1
                    name = getattr(result.source, "name", result.source)
                    text = output.printable(f"{name}: {reason(result.error)}")
                    output.say(f"facefind {self._command}: {text}")
                if result.error is None or self._hand_on_failed:
                    yield result

    def note(self, text: str) -> None:
        """Show a word about what is being done, behind the bar."""
        self._bar.set_postfix_str(text)

    def print(self, text: str) -> None:
        """Print to stdout, beside the bar."""
        try:
            self._bar.write(text, file=sys.stdout)
            sys.stdout.flush()
        except BrokenPipeError:
            if self._needs_reader:
                raise
            output.drop_stdout()
