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
        whole_set(options.wider, options.detections, options.rounds)
        against_the_plain_one(options.wider, options.detections, options.images, options.rounds)
    if options.fddb:
        all_of_fddb()


def whole_set(labels: Path, found: Path, rounds: int) -> None:
    """The whole of WIDER FACE val: reading, and both modes on what is in memory.

    Once on the detections themselves, and once on 300 to 1,000 a picture, as a low least score
    gives them: the same ones and made-up ones of low scores.
    """
    few, many = "as read", "300 to 1,000 a picture"
    truth = wider.read_ground_truth(labels)
    faces = {few: files.read(found)}
    faces[many] = crowded(faces[few], truth)
    calls: dict[str, Callable[[], Any]] = {
        "read labels": lambda: wider.read_ground_truth(labels),
        "read detections": lambda: files.read(found),
    }
    for name, pairs in faces.items():
        for mode in ("official", "strict"):
            calls[f"{mode}, {name}"] = lambda p=pairs, m=mode: wider.evaluate(p, truth, m)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            result = call()
            times[name].append(time.perf_counter() - started)
            if isinstance(result, wider.WiderResult) and len(times[name]) == 1:
                ap = " / ".join(f"{100 * value:.2f}" for value in result.ap.values())
                print(f"{name}: {result.images} images, {result.detections} detections: {ap}")
    for name, seconds in times.items():
        print(f"{name:>40} {statistics.median(seconds):6.2f} s")
    for name in faces:
        both = zip(times[f"official, {name}"], times[f"strict, {name}"], strict=True)
        print(f"{'both modes, ' + name:>40} {statistics.median(map(sum, both)):6.2f} s")
    print()


def crowded(found: files.Detections, truth: wider.GroundTruth) -> files.Detections:
    """The detections, and about labeled faces and elsewhere more of them, to 300 to 1,000."""
    rng = np.random.default_rng(0)
    made = {}
    for name, faces in zip(truth.names, truth.boxes, strict=True):
        boxes, scores = found[name]
        more = max(int(rng.integers(300, 1001)) - len(boxes), 0)
        near = faces[rng.integers(0, len(faces), more // 2 if len(faces) else 0)]
        sides = np.maximum(near[:, 2:] - near[:, :2], 4)
        centers = (near[:, 2:] + near[:, :2]) / 2 + rng.normal(0, 0.4, sides.shape) * sides
        sides = sides * np.exp(rng.normal(0, 0.4, sides.shape))
        rest = more - len(near)
        centers = np.concatenate([centers, rng.uniform(0, 1000, (rest, 2))])
        sides = np.concatenate([sides, np.exp(rng.uniform(2, 5.5, (rest, 1))) * [1, 1.25]])
        corners = np.concatenate([centers - sides / 2, centers + sides / 2], axis=1)
        low = 0.01 + 0.9 * rng.beta(0.6, 8, more)
        made[name] = np.concatenate([boxes, corners]), np.concatenate([scores, low])
    return made


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
