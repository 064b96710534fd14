"""Loading speed: CPU time of a training crop and of its parts, on one thread, interleaved.

Usage: python benchmarks/loading.py --data SET [SET ...] [--recipe scrfd-2.5g-kps]
           [--size 640 320] [--cache none host FOLDER] [--images 64] [--batch 16] [--rounds 12]
           [--json FILE]

`read` decodes an image or finds it in the cache, which holds all of them when timing begins;
`draw` draws what is shown; `window` cuts, resizes, turns and flips; `color` recolors; `labels`
moves the faces; `collate` makes a batch. `crop` is all of them as training calls them. What is
given is milliseconds of CPU time a crop, medians over rounds of a batch each; sizes and caches
take turns. Sending batches between processes is not measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from facefind import datasets, recipes
from facefind.datasets import Sample
from facefind.learn.augment import draw_view, render, view_labels
from facefind.learn.jitter import Colors
from facefind.learn.labels import Labels
from facefind.learn.loader import TrainingSet, collate
from facefind.learn.recipe import AugmentConfig

PARTS = ("crop", "read", "draw", "window", "color", "labels", "collate")


class Trial:
    """One size and cache, ready to be timed batch by batch."""

    def __init__(
        self, samples: list[Sample], config: AugmentConfig, cache: str | None, batch: int
    ) -> None:
        self._dataset = TrainingSet(samples, config, cache=cache)
        self._batch, self._index = batch, 0
        for number in range(len(samples)):
            self._dataset[(number, number)]

    def parts(self) -> dict[str, float]:
        """CPU milliseconds a crop: of a batch as training loads it, and of the same in parts."""
        dataset, spent = self._dataset, dict.fromkeys(PARTS, 0.0)
        pairs = [(self._index + n, (self._index + n) % len(dataset)) for n in range(self._batch)]
        self._index += self._batch
        began = time.process_time()
        items = [dataset[pair] for pair in pairs]
        loaded = time.process_time()
        self._collate(items)
        spent["collate"] = time.process_time() - loaded
        spent["crop"] = time.process_time() - began
        for index, number in pairs:
            for part, seconds in self._parts_of(index, number).items():
                spent[part] += seconds
        return {part: 1000 * seconds / self._batch for part, seconds in spent.items()}

    def _collate(self, items: list) -> None:
        config = self._dataset.config
        multiple = config.resized.multiple if config.crop == "resized" else 1
        collate(items, multiple=multiple, fill=config.fill)

    def _parts_of(self, index: int, number: int) -> dict[str, float]:
        dataset, config = self._dataset, self._dataset.config
        sample, marks = dataset.samples[number], [time.process_time()]
        labels = Labels(sample.boxes, sample.landmarks, sample.ignore)
        rng = np.random.default_rng((dataset.seed, index))
        view = draw_view(config, dataset.image_size(number), labels, rng)
        marks.append(time.process_time())
        image, factor = dataset.read(number, view.shrink)
        marks.append(time.process_time())
        render(image, replace(view, colors=Colors()), factor, config.fill)
        marks.append(time.process_time())
        render(image, view, factor, config.fill)
        marks.append(time.process_time())
        view_labels(view, labels, config)
        marks.append(time.process_time())
        draw, read, window, colored, moved = np.diff(marks).tolist()
        return {"draw": draw, "read": read, "window": window, "color": colored - window,
                "labels": moved}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--recipe", default="scrfd-2.5g-kps")
    parser.add_argument("--size", type=int, nargs="+", default=[640, 320])
    parser.add_argument("--cache", nargs="+", default=["none", "host"])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    samples, _ = datasets.read_sets(options.data)
    samples = samples[:: max(len(samples) // options.images, 1)][: options.images]
    config = recipes.get(options.recipe).augment
    trials = {
        (size, cache): Trial(
            samples, replace(config, size=size), None if cache == "none" else cache, options.batch
        )
        for size in options.size
        for cache in options.cache
    }
    spent: dict[tuple[int, str], list[dict[str, float]]] = defaultdict(list)
    for _ in range(options.rounds):
        for case, trial in trials.items():
            spent[case].append(trial.parts())
    print(f"{options.recipe}, {len(samples)} images of {' '.join(options.data)}, OpenCV "
          f"{cv2.__version__}, median of {options.rounds} rounds of {options.batch}")  # fmt: skip
    print(f"{'size':>4}  {'cache':10}  {'  '.join(f'{p:>7}' for p in PARTS)}  (ms of CPU a crop)")
    found = []
    for (size, cache), rounds in spent.items():
        medians = {p: statistics.median(one[p] for one in rounds) for p in PARTS}
        print(f"{size:4}  {cache[-10:]:10}  {'  '.join(f'{medians[p]:7.2f}' for p in PARTS)}")
        found.append({"size": size, "cache": cache, "ms": medians})
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
