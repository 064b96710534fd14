"""One test protocol over a set of images in a process of its own: faces, time and peak of memory.

What is measured of an image is in its line of the kept file, so that a run that was stopped is
resumed with nothing lost but the image it was at.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from facefind.errors import FacefindError
from facefind.evaluation.cost import peak_mib
from facefind.files import read_json_lines
from facefind.pipeline.kept import DetectorSettings, ExactFaces, KeptDetections
from facefind.pipeline.sinks import reason
from facefind.streaming import ITEM_ERRORS

__all__ = ["METHOD", "Timed", "measure"]

METHOD = (
    "ms: median over the images of one call, decoded image to faces, one image at a time, the "
    "first call left out; MiB: the most main memory that a process for this protocol alone has "
    "held, interpreter, libraries, model and image included"
)
_CHILD = "from facefind.pipeline import timing; timing._child()"


@dataclass(frozen=True)
class Timed:
    """What one protocol found in each image, and what that cost.

    Attributes:
        faces: faces by image name.
        source: the settings that found them.
        failed: images that could not be read, with the reason.
        milliseconds: median time an image.
        passes: mean number of runs of the model an image.
        megapixels: mean number of pixels an image in all these runs, in millions.
        peak_mib: the most memory that the process has held; None where the system does not say.
    """

    faces: dict[str, ExactFaces]
    source: dict[str, Any]
    failed: dict[str, str]
    milliseconds: float
    passes: float
    megapixels: float
    peak_mib: float | None


def measure(settings: DetectorSettings, paths: Mapping[str, Path], keep: Path) -> Timed:
    """Faces of images by name, timed one by one in a new process, kept in a file.

    Raises:
        FacefindError: where the process says why it stopped, or was killed, as for memory.
    """
    job = {
        "settings": asdict(settings),
        "keep": str(keep),
        "paths": {name: str(path) for name, path in paths.items()},
    }
    done = subprocess.run(
        [sys.executable, "-c", _CHILD],
        input=json.dumps(job),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise FacefindError(f"its process ended with code {done.returncode} (out of memory?)")
    said = json.loads(done.stdout.splitlines()[-1])
    if "error" in said:
        raise FacefindError(said["error"])
    faces: dict[str, ExactFaces] = {}
    costs: list[dict[str, Any]] = []
    for _, record in read_json_lines(keep):
        if record["image"] in paths:
            faces[record["image"]] = ExactFaces.from_record(record)
            costs.append(record["cost"])
    if not costs:
        raise FacefindError(f"none of the {len(paths)} images could be read")
    peaks = [cost["peak_mib"] for cost in costs]
    return Timed(
        faces=faces,
        source=said["source"],
        failed=said["failed"],
        milliseconds=statistics.median(cost["milliseconds"] for cost in costs),
        passes=statistics.fmean(cost["passes"] for cost in costs),
        megapixels=statistics.fmean(cost["megapixels"] for cost in costs),
        peak_mib=None if None in peaks else max(peaks),
    )


def _child() -> None:
    """Measure what stdin describes, and print the settings, or the error, as JSON."""
    job = json.loads(sys.stdin.read())
    try:
        said = _timed(DetectorSettings(**job["settings"]), job["paths"], Path(job["keep"]))
    except (FacefindError, OSError) as error:
        said = {"error": reason(error)}
    print(json.dumps(said))


def _timed(settings: DetectorSettings, paths: Mapping[str, str], keep: Path) -> dict[str, Any]:
    from tqdm import tqdm

    detector, source = settings.open()
    source |= {"threads": detector.runtime.threads, "timed": "one image at a time"}
    failed: dict[str, str] = {}
    warm = False
    with KeptDetections(keep, source, {n: Path(p) for n, p in paths.items()}) as kept:
        todo = [name for name in paths if name not in kept.names]
        quiet = not sys.stderr.isatty()
        for name in tqdm(todo, settings.protocol, unit="image", disable=quiet):
            try:
                image = detector.read(paths[name])
                if not warm:
                    detector.detect(image)
                    warm = True
                started = perf_counter()
                faces = detector.detect(image)
                seconds = perf_counter() - started
            except ITEM_ERRORS as error:
                failed[name] = reason(error)
                continue
            views = detector.protocol.views(faces.image_size)
            cost = {
                "milliseconds": round(1e3 * seconds, 3),
                "passes": len(views),
                "megapixels": round(sum(view.size[0] * view.size[1] for view in views) / 1e6, 6),
                "peak_mib": peak_mib(),
            }
            kept.add(name, ExactFaces.from_faces(faces), cost=cost)
    return {"source": source, "failed": failed}
