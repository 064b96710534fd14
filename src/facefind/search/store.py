"""The store of a study: plain files that survive kills and that several processes may share.

study.json            what is searched, and how; written once
step1.json            the candidates of step 1, step2.json those of step 2
trials/KEY.json       the result of a trial; it is there whole or not at all
trials/KEY.lock       held by the process that works on the trial
runs/KEY/             its run folder, which is resumed after a kill
found.json, found.py  the recipe of the best network; report.json and the figures
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facefind import files
from facefind.errors import DataError


class Store:
    """The files of one study below `folder`, which is made where it is missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trials = folder / "trials"
        self.trials.mkdir(parents=True, exist_ok=True)

    def read(self, name: str) -> Any | None:
        """The content of a file such as `study.json`; None where there is none yet."""
        path = self.folder / name
        if not path.exists():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise DataError(f"{path} is not JSON ({error}); move it away to start again") from None

    def write(self, name: str, content: Any) -> None:
        """Write such a file."""
        files.write_json(self.folder / name, content)

    def result(self, key: str) -> dict[str, Any] | None:
        """The result of a trial, None until it has ended."""
        found: dict[str, Any] | None = self.read(f"trials/{key}.json")
        return found

    def finish(self, key: str, result: dict[str, Any]) -> None:
        """Keep the result of a trial."""
        self.write(f"trials/{key}.json", result)

    def run_folder(self, key: str) -> Path:
        """Where a trial trains."""
        return self.folder / "runs" / key

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether this process got a trial (or any name) to itself; held until the block ends.

        The claim is a lock of the operating system, which falls when its holder dies, whatever
        kills it: no claim is ever left behind.
        """
        lock = files.Lock(self.trials / f"{key}.lock")
        got = lock.acquire()
        try:
            yield got
        finally:
            lock.release()
