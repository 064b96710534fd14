"""A folder of JPEGs beside what its parts take alone: reading, and finding faces.

    python benchmarks/folder.py --count 60 --side 1280 4000 --threads 2 --rounds 5

The pictures are `examples/demo.py`'s crowd at other sizes, each slightly different. For each
`--side` three ways take turns: all pictures are read by the detector's own readers (reduced where
that is enough), the faces of pictures that are read already are found, and `FaceDetector.stream`
does both. What binds is the longer of both parts, or their processor time over all cores.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from facefind import FaceDetector
from facefind.runtimes.cpu import usable_cores

READERS = 2  # as `FaceDetector.stream` has them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["scrfd-500m-kps", "scrfd-2.5g-kps"])
    parser.add_argument("--count", type=int, default=60, help="pictures")
    parser.add_argument("--side", type=int, nargs="+", default=[640, 1280, 4000])
    parser.add_argument("--threads", type=int, default=None, help="of the network")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{options.count} JPEGs, {options.rounds} rounds in turns, {usable_cores()} cores")
    print(
        "model, long side: ms a picture, reading / finding / both; the bound / both, cores / both"
    )
    with tempfile.TemporaryDirectory() as folder:
        for side in options.side:
            paths = pictures(Path(folder) / str(side), side, options.count)
            for model in options.model:
                detector = FaceDetector(model, threads=options.threads, precision=options.precision)
                print(f"{model}, {side}: " + measured(detector, paths, options.rounds), flush=True)


def pictures(folder: Path, side: int, count: int) -> list[Path]:
    """JPEGs of a crowd, of a long side in pixels."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
    import demo

    folder.mkdir()
    crowd = demo.crowd(*demo.portraits())
    height = round(crowd.height * side / crowd.width)
    paths = []
    for number in range(count):
        path = folder / f"{number:04}.jpg"
        left = number % 8
        part = (left, 0, crowd.width - 8 + left, crowd.height)
        crowd.resize((side, height), box=part).save(path, quality=90)
        paths.append(path)
    return paths


def measured(detector: FaceDetector, paths: list[Path], rounds: int) -> str:
    """Medians of both parts and of the whole, and the whole's rate of what binds it."""
    pool = ThreadPoolExecutor(READERS)
    read_already = list(pool.map(detector.read, paths))
    ways: dict[str, Callable[[], Any]] = {
        "reading": lambda: list(pool.map(detector.read, paths)),
        "finding": lambda: [detector.detect(picture) for picture in read_already],
        "both": lambda: list(detector.stream(paths, readers=READERS)),
    }
    walls: dict[str, list[float]] = {name: [] for name in ways}
    cpus: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in reversed(ways.items()) if turn % 2 else ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            way()
            if turn:  # the first warms up
                walls[name].append(time.perf_counter() - wall)
                cpus[name].append(time.process_time() - cpu)
    pool.shutdown()
    each = 1e3 / len(paths)
    turns = range(rounds)
    bound = [max(walls["reading"][i], walls["finding"][i]) / walls["both"][i] for i in turns]
    full = [
        (cpus["reading"][i] + cpus["finding"][i]) / usable_cores() / walls["both"][i] for i in turns
    ]
    return (
        " / ".join(f"{statistics.median(walls[name]) * each:.1f}" for name in ways)
        + f"; {statistics.median(bound):.2f}, {statistics.median(full):.2f}"
    )


if __name__ == "__main__":
    main()
