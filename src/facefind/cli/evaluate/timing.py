"""One protocol over a set of pictures in a process of its own: faces, time and peak of memory.

What is measured of a picture stands in its line of the kept file, so that a run that was stopped
goes on with nothing lost but the picture it was at.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facefind.cli import pictures
from facefind.cli.evaluate.detections import Finding, Record, goes_on, opened
from facefind.errors import FacefindError
from facefind.evaluation.cost import peak_mib

__all__ = ["HOW", "Timed", "measure"]

HOW = (
    "ms: median over the images of one call, decoded image to faces, one image at a time, the "
    "first call left out; MiB: the most main memory that a process for this protocol alone has "
    "held, interpreter, libraries, model and image included"
)
_CHILD = "from facefind.cli.evaluate import timing; timing._child()"


@dataclass(frozen=True)
class Timed:
    """What one protocol found in each picture, and what that took.

    Attributes:
        faces: faces by picture name.
        source: the settings that found them.
        failed: pictures that could not be read, with the reason.
        milliseconds: median time a picture.
        passes: mean number of times that the model was shown a picture or a part of it.
        megapixels: mean number of pixels that it was shown a picture, in millions.
        peak_mib: the most memory that the process has held; None where the system does not tell.
    """

    faces: dict[str, Record]
    source: dict[str, Any]
    failed: dict[str, str]
    milliseconds: float
    passes: float
    megapixels: float
    peak_mib: float | None


def measure(asked: Finding, paths: Mapping[str, Path], keep: Path) -> Timed:
    """Faces of the pictures `paths`, timed one by one in a new process, kept in `keep`.

    Raises:
        FacefindError: where the process says why it stopped, or was killed, as for memory.
    """
    given = {
        "model": asked.model,
        "protocol": asked.protocol,
        "min_score": asked.min_score,
        "runtime": asked.runtime,
        "precision": asked.precision,
        "threads": asked.threads,
        "keep": str(keep),
        "paths": {name: str(path) for name, path in paths.items()},
    }
    done = subprocess.run(
        [sys.executable, "-c", _CHILD],
        input=json.dumps(given),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise FacefindError(f"its process ended with code {done.returncode} (out of memory?)")
    told = json.loads(done.stdout.splitlines()[-1])
    if "error" in told:
        raise FacefindError(told["error"])
    faces: dict[str, Record] = {}
    facts: list[dict[str, Any]] = []
    with keep.open(encoding="utf-8") as lines:
        for line in lines:
            content = json.loads(line)
            if content["image"] in paths:
                faces[content["image"]] = Record.of_dict(content)
                facts.append(content["cost"])
    if not facts:
        raise FacefindError(f"none of the {len(paths)} pictures could be read")
    peaks = [fact["peak_mib"] for fact in facts]
    return Timed(
        faces=faces,
        source=told["source"],
        failed=told["failed"],
        milliseconds=statistics.median(fact["milliseconds"] for fact in facts),
        passes=statistics.fmean(fact["passes"] for fact in facts),
        megapixels=statistics.fmean(fact["megapixels"] for fact in facts),
        peak_mib=None if None in peaks else max(peaks),
    )


def _child() -> None:
    """Measure what stdin asks for, and print the settings, or the error, as JSON."""
    given = json.loads(sys.stdin.read())
    paths, keep = given.pop("paths"), Path(given.pop("keep"))
    try:
        told = _timed(Finding(**given), paths, keep)
    except (FacefindError, OSError) as error:
        told = {"error": " ".join(str(error).split())}
    print(json.dumps(told))


def _timed(asked: Finding, paths: Mapping[str, str], keep: Path) -> dict[str, Any]:
    from tqdm import tqdm

    from facefind import images

    detector, source = opened(asked)
    source |= {"threads": detector.runtime.threads, "timed": "one image at a time"}
    known = pictures.keep_whole_lines(keep, "evaluate") if goes_on(keep, source) else set()
    todo = [name for name in paths if name not in known]
    failed: dict[str, str] = {}
    warm = False
    with keep.open("a", encoding="utf-8") as sink:
        for name in tqdm(todo, asked.protocol, unit="image", disable=not sys.stderr.isatty()):
            try:
                picture = images.read(paths[name])
                if not warm:
                    detector.detect(picture)
                    warm = True
                started = time.perf_counter()
                faces = detector.detect(picture)
                seconds = time.perf_counter() - started
            except pictures.ONE_IMAGE as error:
                failed[name] = " ".join(str(error).split()) or type(error).__name__
                continue
            views = detector.protocol.views(faces.image_size)
            cost = {
                "milliseconds": round(1e3 * seconds, 3),
                "passes": len(views),
                "megapixels": round(sum(view.size[0] * view.size[1] for view in views) / 1e6, 6),
                "peak_mib": peak_mib(),
            }
            sink.write(Record.of(faces).line(name, cost=cost) + "\n")
            sink.flush()
    return {"source": source, "failed": failed}
