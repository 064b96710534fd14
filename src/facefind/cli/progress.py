"""What a command that works through images shows meanwhile: a bar, and those that fail by name."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import closing
from itertools import chain, islice
from typing import TypeVar

from tqdm import tqdm

from facefind.cli import output
from facefind.detector import DetectionResult
from facefind.pipeline import Meter, Stages, reason

__all__ = ["Progress", "Reports", "peek"]

T = TypeVar("T")
_PEEKED = 10_000
_LINE_EVERY, _JSON_EVERY = 30.0, 5.0  # seconds


def peek(items: Iterable[T], most: int = _PEEKED) -> tuple[list[T], int | None, Iterator[T]]:
    """The first items, `most` at most; the number of all, if that is known; and all of them.

    So folders of any length are listed lazily, and those of usual length have a total.
    """
    rest = iter(items)
    first = list(islice(rest, most + 1))
    total = len(first) if len(first) <= most else None
    return first[:most], len(items) if isinstance(items, Sized) else total, chain(first, rest)


class Reports:
    """Says on stderr how far work is, for whoever watches: a bar, a line at times, or JSON.

    Args:
        meter: What is said.
        command: The name that lines are printed under.
        quiet: Whether nothing is said.
        json: Whether it is said as lines of JSON, `{"progress": {...}}`, for other programs.
    """

    def __init__(
        self, meter: Meter, command: str, *, quiet: bool = False, json: bool = False
    ) -> None:
        self._meter, self._command, self._quiet, self._json = meter, command, quiet, json
        bar = sys.stderr.isatty() and not (quiet or json)
        self._bar = tqdm(unit="image", leave=False, disable=not bar)
        self._every = _JSON_EVERY if json else _LINE_EVERY
        self._next = time.monotonic() + self._every

    def update(self) -> None:
        """Say what is new, where it is time."""
        self._bar.total = self._meter.total
        self._bar.update(self._meter.done - self._bar.n)
        if self._bar.disable and not self._quiet and time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every
            self._say()

    def close(self) -> None:
        """Take the bar away; the last JSON line has all that was done."""
        self._bar.close()
        if self._json and not self._quiet:
            self._say()

    def note(self, text: str) -> None:
        """Show a word about what is being done, behind the bar."""
        self._bar.set_postfix_str(text)

    def _say(self) -> None:
        if self._json:
            output.say(json.dumps({"progress": self._meter.to_dict()}))
        else:
            output.say(f"facefind {self._command}: {self._meter.line()}")


class Progress:
    """Hands on results as they come, of which it counts and names those that failed on stderr.

    Args:
        command: The name that failures are printed under.
        hand_on_failed: Whether those that failed are handed on, too.
        needs_reader: Whether what is printed is all that comes of it: the work ends, by a
            BrokenPipeError, when nobody reads it any more. Otherwise it goes on.
        quiet: Whether nothing is printed but failures.
        json: As of `Reports`.

    Attributes:
        meter: Counts the results.
    """

    def __init__(
        self,
        command: str,
        *,
        hand_on_failed: bool = False,
        needs_reader: bool = True,
        quiet: bool = False,
        json: bool = False,
    ) -> None:
        self._command, self._hand_on_failed = command, hand_on_failed
        self._needs_reader, self._quiet = needs_reader, quiet
        self.meter = Meter()
        self._reports = Reports(self.meter, command, quiet=quiet, json=json)

    @property
    def done(self) -> int:
        """Results without an error so far."""
        return self.meter.done - self.meter.failed

    @property
    def failed(self) -> int:
        """Results with an error so far."""
        return self.meter.failed

    def __call__(
        self, results: Iterable[DetectionResult], total: int | None, stages: Stages | None = None
    ) -> Iterator[DetectionResult]:
        """The results that did not fail, or all.

        Args:
            results: As they come.
            total: How many there will be, if known.
            stages: What their time goes into.
        """
        self.meter.total = total
        with closing(self._reports):
            for result in results:
                failed = result.error is not None
                faces = 0 if failed else len(result.faces)
                spent = None if stages is None else stages.take()
                self.meter.add(failed=int(failed), faces=faces, stages=spent)
                self._reports.update()
                if result.error is not None:
                    name = getattr(result.source, "name", result.source)
                    text = output.printable(f"{name}: {reason(result.error)}")
                    output.say(f"facefind {self._command}: {text}")
                if not failed or self._hand_on_failed:
                    yield result

    def note(self, text: str) -> None:
        """Show a word about what is being done, behind the bar."""
        self._reports.note(text)

    def print(self, text: str) -> None:
        """Print to stdout, beside the bar."""
        if not self._quiet:
            output.show(text, needed=self._needs_reader)
