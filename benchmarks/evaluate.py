"""Times the evaluators: WIDER FACE's against the plain one, and FDDB's on a set of full size.

python benchmarks/evaluate.py --wider GROUND_TRUTH --detections widerface_txt --fddb
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from facefind.datasets import Sample
from facefind.evaluation import detections as files
from facefind.evaluation import fddb, wider

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "reference"))


def main() -> None:
    options = arguments()
    if options.wider:
        whole_set(options.wider, options.detections)
        against_the_plain_one(options.wider, options.detections, options.images, options.rounds)
    if options.fddb:
        all_of_fddb()


def whole_set(labels: Path, found: Path) -> None:
    """The whole of WIDER FACE val, with reading."""
    times = {}
    started = time.perf_counter()
    truth = wider.read_ground_truth(labels)
    times["read labels"] = time.perf_counter() - started
    started = time.perf_counter()
    faces = files.read(found)
    times["read detections"] = time.perf_counter() - started
    for mode in ("official", "strict"):
        started = time.perf_counter()
        result = wider.evaluate(faces, truth, mode)
        times[mode] = time.perf_counter() - started
        ap = " / ".join(f"{100 * value:.2f}" for value in result.ap.values())
        print(f"WIDER FACE, {mode}: {result.images} images, {result.detections} detections: {ap}")
    print(", ".join(f"{name} {seconds:.2f} s" for name, seconds in times.items()))
    print(f"altogether {sum(times.values()):.2f} s\n")


def against_the_plain_one(labels: Path, found: Path, count: int, rounds: int) -> None:
    """Both evaluators in turns over the same few images; their curves must be the same."""
    import wider_protocol as plain

    truth = wider.read_ground_truth(labels)
    some = truth.only(truth.names[:: max(1, len(truth.names) // count)][:count])
    faces = {name: pair for name, pair in files.read(found).items() if name in set(some.names)}
    subsets = list(some.subsets)
    listed = {
        name: (
            [tuple(map(int, box)) for box in some.boxes[i]],
            {subset: some.subsets[subset][i].tolist() for subset in subsets},
        )
        for i, name in enumerate(some.names)
    }
    rows = {
        name: [(tuple(box), score) for box, score in zip(*map(np.ndarray.tolist, pair),
                                                         strict=True)]
        for name, pair in faces.items()
    }  # fmt: skip
    calls: dict[str, Callable[[], Any]] = {
        "fast": lambda: wider.evaluate(faces, some, "official"),
        "plain": lambda: {s: plain.curve(rows, listed, s, whole=True) for s in subsets},
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        results = {}
        for name, call in calls.items():
            started = time.perf_counter()
            results[name] = call()
            times[name].append(time.perf_counter() - started)
    for subset in subsets:
        curve = results["fast"].curves[subset]
        points = np.array(results["plain"][subset])
        assert np.array_equal(curve.precision, points[:, 0], equal_nan=True), subset
        assert np.array_equal(curve.recall, points[:, 1]), subset
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = statistics.median(b / a for a, b in zip(times["fast"], times["plain"], strict=True))
    total = sum(len(pair[1]) for pair in faces.values())
    print(f"{len(some.names)} images, {total} detections, three subsets, {rounds} rounds in turns")
    print(", ".join(f"{name} {1e3 * value:.1f} ms" for name, value in medians.items()))
    print(f"plain / fast: {ratio:.0f}; equal curves\n")


def all_of_fddb() -> None:
    """As many images, faces and folds as FDDB has, with made-up faces and detections."""
    rng = np.random.default_rng(0)
    samples, found = [], {}
    for number in range(2845):
        count = 1 + (number % 11 < 9) * (number % 3 == 0) + (number % 13 == 0) * 4
        ellipses = np.stack(
            [
                rng.uniform(25, 90, count),
                rng.uniform(20, 60, count),
                rng.uniform(1.2, 1.9, count),
                rng.uniform(60, 390, count),
                rng.uniform(60, 250, count),
            ],
            axis=1,
        )
        sample = Sample(
            name=f"big/img_{number}",
            path=Path("none"),
            boxes=np.zeros((count, 4)),
            group=f"{number * 10 // 2845:02d}",
            image_size=(310, 450),
            attributes={"ellipse": ellipses},
        )
        center, radius = ellipses[:, 3:], ellipses[:, [1, 0]]
        near = np.concatenate([center - radius, center + radius], axis=1)
        near = near.repeat(2, axis=0) + rng.normal(0, 4, (2 * count, 4))
        corner = rng.uniform(0, 250, (20, 2))
        far = np.concatenate([corner, corner + rng.uniform(20, 90, (20, 2))], axis=1)
        boxes = np.concatenate([near, far])
        samples.append(sample)
        found[sample.name] = boxes, rng.uniform(0, 1, len(boxes)).round(3)
    started = time.perf_counter()
    result = fddb.evaluate(found, samples, "official")
    seconds = time.perf_counter() - started
    print(
        f"FDDB: {result.images} images, {result.faces} faces, {result.detections} detections "
        f"in {seconds:.1f} s (process {time.process_time():.1f} s)"
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wider", type=Path, help="folder of WIDER FACE's official .mat labels")
    parser.add_argument("--detections", type=Path, help="folder of event/name.txt files")
    parser.add_argument("--images", type=int, default=60, help="images for the plain evaluator")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fddb", action="store_true", help="time FDDB with made-up images, too")
    options = parser.parse_args()
    if bool(options.wider) != bool(options.detections):
        parser.error("--wider and --detections go together")
    return options


if __name__ == "__main__":
    main()
