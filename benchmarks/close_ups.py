"""Faces that fill the image: what a small pass beside the large one finds, and what it costs.

    python benchmarks/close_ups.py --model default --faces partial:lfw/train.json \\
        --data WIDER_train --sizes 128 160 192 --gates 0 .3 .4 .5
    python benchmarks/close_ups.py --model default --faces partial:lfw/test.json --ratios 1.25

Each picture of `--faces` is cut to a square around its first face, whose side is the face's longer
side times each of `--ratios`, as far as the picture goes. A face is found once where one detection
of the display threshold and more lies on it (intersection over the smaller area above .5), and that
one has an IoU of .4 with it.

`--data`: AP on the images that training holds out (faces by height, mode strict), as difference to
the first protocol. `--time N`: milliseconds an image, the protocols in turns over N such images.

The rows are `--test-protocols`, then one for each of `--sizes` and `--gates`: a long side of 640
and one of that size, from which faces come whose longer side is more than that part of it.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from facefind import boxes, datasets, images, protocols, weights
from facefind.detector import FaceDetector
from facefind.evaluation import wider
from facefind.faces import Faces
from facefind.protocols import Pass, TestProtocol
from facefind.runtimes import Candidates, Runtime, open_model

FLOOR = 0.02
KEPT = 100  # canvases


class Remembered:
    """A runtime that runs its model but once on canvases that come again soon, as they do here."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.card, self.name, self.provider = runtime.card, runtime.name, runtime.provider
        self.precision, self.threads = runtime.precision, runtime.threads
        self.known: dict[tuple[Any, ...], Candidates] = {}

    def __call__(self, canvases: np.ndarray) -> Candidates:
        key = (canvases.shape, hashlib.sha1(np.ascontiguousarray(canvases)).digest())
        if key not in self.known:
            found = self.runtime(canvases)
            kept = (found.scores >= FLOOR).any(axis=0)
            points = None if found.landmarks is None else found.landmarks[:, kept]
            self.known[key] = Candidates(found.boxes[:, kept], found.scores[:, kept], points)
            while len(self.known) > KEPT:
                self.known.pop(next(iter(self.known)))
        return self.known[key]


def main() -> None:
    options = arguments()
    runtime = open_model(weights.find(options.model), options.runtime, options.threads)
    remembered = Remembered(runtime)
    threshold = runtime.card.min_score if options.min_score is None else options.min_score
    rows = tested(options)
    print(f"{runtime.card.name}, threshold {threshold:g}, {runtime.name}")
    detectors = [
        FaceDetector(remembered, protocol=row, min_score=FLOOR, batch_size=1) for row in rows
    ]
    columns, cells = found_once(detectors, threshold, options)
    held_out = []
    if options.data:
        _, held_out = datasets.read_sets([options.data], hold_out=options.hold_out)
        for row, ap in zip(cells, accuracy(detectors, held_out), strict=True):
            row += ap
        columns += wider.from_samples(held_out).subsets
    print(f"\n| protocol | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|")
    for protocol, row in zip(rows, cells, strict=True):
        print(f"| {protocol.name} | {' | '.join(row)} |")
    if options.time:
        timed(rows, runtime, threshold, [s.path for s in held_out[: options.time]])


def tested(options: argparse.Namespace) -> list[TestProtocol]:
    """The protocols of all rows."""
    rows = [protocols.get(name) for name in options.test_protocols]
    for size, gate in itertools.product(options.sizes, options.gates):
        small = Pass(size=size, min_input_size=gate * size if gate else None)
        rows.append(TestProtocol(name=f"640 and {size} from {gate:g}", sizes=(640, small)))
    return rows


def found_once(
    detectors: Sequence[FaceDetector], threshold: float, options: argparse.Namespace
) -> tuple[list[str], list[list[str]]]:
    """A column for each ratio, and for each detector its cells: the faces found once."""
    outcomes = [[Counter[str]() for _ in options.ratios] for _ in detectors]
    for sample in datasets.evenly_spaced(datasets.read(options.faces), options.count):
        picture = images.read(sample.path)
        face = sample[~sample.ignore].boxes[:1].astype(np.float64)
        side = (face[0, 2:] - face[0, :2]).max()
        center = (face[0, 2:] + face[0, :2]) / 2
        for column, ratio in enumerate(options.ratios):
            window = np.concatenate([center - ratio * side / 2, center + ratio * side / 2])
            x1, y1, x2, y2 = boxes.to_pixels(window, picture.shape[:2])
            cut = np.ascontiguousarray(picture[y1:y2, x1:x2])
            moved = face - (x1, y1, x1, y1)
            for detector, own in zip(detectors, outcomes, strict=True):
                own[column][judged(detector.detect(cut), moved, threshold)] += 1
    columns = [f"cut to {ratio:g}" for ratio in options.ratios]
    return columns, [[told(counts) for counts in own] for own in outcomes]


def accuracy(
    detectors: Sequence[FaceDetector], samples: Sequence[datasets.Sample]
) -> list[list[str]]:
    """For each detector the cells of AP by height of face, from the second on as differences."""
    found: list[dict[str, Faces]] = [{} for _ in detectors]
    for sample in samples:
        picture = images.read(sample.path)
        for detector, own in zip(detectors, found, strict=True):
            own[sample.name] = detector.detect(picture)
    truth = wider.from_samples(samples)
    ap = [wider.evaluate(own, truth, "strict").ap for own in found]
    cells = [[f"{100 * value:.2f}" for value in ap[0].values()]]
    for one in ap[1:]:
        cells.append([f"{100 * (one[name] - ap[0][name]):+.2f}" for name in one])
    return cells


def judged(faces: Faces, face: np.ndarray, threshold: float) -> str:
    """What became of one face (1,4): once, missed, or several detections on it."""
    found = faces.boxes[faces.scores >= threshold].astype(np.float64)
    shared = boxes.intersection(found, face)[:, 0]
    on_it = shared > 0.5 * np.minimum(boxes.area(found), boxes.area(face))
    if not (boxes.iou(found, face)[:, 0] >= 0.4).any():
        return "fragments alone" if on_it.any() else "missed"
    return "once" if on_it.sum() == 1 else "several"


def told(outcomes: Counter[str]) -> str:
    """How many faces were found once, and what became of the others."""
    others = [f"{count} {what}" for what, count in sorted(outcomes.items()) if what != "once"]
    total = sum(outcomes.values())
    return f"{outcomes['once']} of {total}" + (f" ({', '.join(others)})" if others else "")


def timed(
    rows: Sequence[TestProtocol], runtime: Runtime, threshold: float, paths: Sequence[Any]
) -> None:
    """Print the median time of each protocol, all in turns over the same decoded images."""
    detectors = [FaceDetector(runtime, protocol=row, min_score=threshold) for row in rows]
    times: list[list[float]] = [[] for _ in rows]
    for path in paths:
        picture = images.read(path)
        for detector, own in zip(detectors, times, strict=True):
            detector.detect(picture)
            started = time.perf_counter()
            detector.detect(picture)
            own.append(1e3 * (time.perf_counter() - started))
    print(f"\n| protocol | ms, median of {len(paths)} | times the first |\n|---|---|---|")
    for row, own in zip(rows, times, strict=True):
        ratio = statistics.median(b / a for a, b in zip(times[0], own, strict=True))
        print(f"| {row.name} | {statistics.median(own):.1f} | {ratio:.3f} |")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--faces", required=True, help="a set with one face a picture or more")
    parser.add_argument("--count", type=int, default=250, help="pictures of it, evenly spaced")
    parser.add_argument("--ratios", type=float, nargs="+", default=[1, 1.25, 1.5, 1.75, 2])
    parser.add_argument("--data", help="a completely labeled set; AP on what training holds out")
    parser.add_argument("--hold-out", type=float, default=0.1)
    parser.add_argument("--test-protocols", nargs="+", default=["640", "everyday"])
    parser.add_argument("--sizes", type=int, nargs="*", default=[])
    parser.add_argument("--gates", type=float, nargs="*", default=[0.4])
    parser.add_argument("--min-score", type=float, help="the card's threshold where not given")
    parser.add_argument("--time", type=int, default=0)
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.time and not options.data:
        parser.error("--time needs --data, whose images are timed")
    return options


if __name__ == "__main__":
    main()
