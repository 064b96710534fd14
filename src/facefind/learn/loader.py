"""Loading: an endless, seeded stream of augmented training images.

What stands at place n of the stream depends on the seed and n alone: not on the number of
loading processes, nor on where a run was interrupted. That is what makes a resumed run equal to
an uninterrupted one, and what lets processes of a distributed run take turns.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from facefind import images
from facefind.datasets import Sample, read_size
from facefind.errors import DataError, ImageError
from facefind.learn.augment import Image, Labels, crop, draw_window, recolor_and_flip
from facefind.learn.recipe import AugmentConfig, DataConfig
from facefind.learn.targets import Target

logger = logging.getLogger(__name__)

Batch = tuple[Tensor, list[Target], list[str]]
"""Images (B,3,S,S) uint8, their targets, their names."""


class TrainingSet(Dataset[tuple[Tensor, Target, str]]):
    """Augmented images by place in the stream: index (place, sample) -> image, target, name."""

    def __init__(
        self,
        samples: Sequence[Sample],
        config: AugmentConfig,
        seed: int = 0,
        cache: Path | None = None,
    ) -> None:
        if not samples:
            raise DataError("no training images were given; name at least one set with --data.root")
        self.samples, self.config, self.seed, self.cache = list(samples), config, seed, cache
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: tuple[int, int]) -> tuple[Tensor, Target, str]:
        """Image (3,S,S) uint8 with its target, drawn by the generator of (seed, place).

        An image that cannot be read is warned of, and the next one of the set takes its place.
        """
        place, number = index
        for _ in range(len(self.samples)):
            sample = self.samples[number]
            try:
                return self._drawn(sample, np.random.default_rng((self.seed, place)))
            except (ImageError, DataError, OSError) as error:
                logger.warning("passed over an image: %s", error)
                number = (number + 1) % len(self.samples)
        raise DataError(f"none of the {len(self.samples)} training images can be read")

    def _drawn(self, sample: Sample, rng: np.random.Generator) -> tuple[Tensor, Target, str]:
        config, labels = self.config, Labels(sample.boxes, sample.landmarks, sample.ignore)
        image_size = sample.image_size or read_size(sample.path)
        window = draw_window(
            image_size, labels, config.crop_sides, rng, background=config.background
        )
        image = decoded(sample.path, self.cache, shrink=window.side // config.size)
        shrink = image_size[0] / image.shape[0]
        image, labels = crop(
            image, labels, window, config.size, config.fill, shrink, cut_boxes=config.cut_boxes
        )
        image, labels = recolor_and_flip(image, labels, config, rng)
        faces, ignored = labels.keep(~labels.ignore), labels.keep(labels.ignore)
        target = Target(
            torch.from_numpy(faces.boxes),
            torch.from_numpy(faces.landmarks),
            torch.from_numpy(ignored.boxes),
        )
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), target, sample.name


def decoded(path: Path, cache: Path | None, shrink: int = 1) -> Image:
    """The image at `path`, (H,W,3) uint8 RGB, perhaps smaller by up to `shrink` times.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where `shrink` allows, in a fraction of the
    time. With a cache the whole image is decoded once, and memory-mapped from then on; it is
    found again by its path, size and time of change.
    """
    if cache is None:
        if shrink < 2 or path.suffix.lower() not in {".jpg", ".jpeg"}:
            return images.read(path)
        with PIL.Image.open(path) as picture:
            picture.draft("RGB", (picture.width // shrink, picture.height // shrink))
            return images.read(picture)
    facts = path.stat()
    key = f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns}"
    place = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
    if not place.exists():
        partial = place.with_suffix(f".{os.getpid()}.tmp")
        with partial.open("wb") as file:
            np.save(file, images.read(path))
        partial.replace(place)
    mapped: Image = np.load(place, mmap_mode="r")
    return mapped


class Stream(Sampler[tuple[int, int]]):
    """Endless (place, sample) pairs, from place `start` on, for one of several processes.

    With `balance` 0 every epoch is a fresh permutation of all samples. Otherwise every place is a
    draw in which a group of n images weighs n^(1 - balance).
    """

    def __init__(
        self,
        groups: Sequence[str],
        seed: int,
        *,
        balance: float = 0.0,
        start: int = 0,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        if not 0 <= balance <= 1:
            raise DataError(f"balance is {balance}; wanted a number from 0 (as is) to 1 (even)")
        self.seed, self.start, self.rank, self.processes = seed, start, rank, processes
        self.size = len(groups)
        self.weights: NDArray[np.float64] | None = None
        if balance:
            _, group, counts = np.unique(groups, return_inverse=True, return_counts=True)
            weights = counts[group] ** -float(balance)
            self.weights = weights / weights.sum()

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Pairs of this process; the epoch's order is drawn anew where an epoch begins."""
        place, epoch, order = self.start + self.rank, -1, np.empty(0, np.int64)
        while True:
            if place // self.size != epoch:
                epoch = place // self.size
                rng = np.random.default_rng((self.seed, epoch, 1))
                order = rng.choice(
                    self.size, self.size, replace=self.weights is not None, p=self.weights
                )
            yield place, int(order[place % self.size])
            place += self.processes


def collate(items: Sequence[tuple[Tensor, Target, str]]) -> Batch:
    """A batch of single items; targets stay a list, since images differ in faces."""
    pictures, targets, names = zip(*items, strict=True)
    return torch.stack(pictures), list(targets), list(names)


def loader(
    dataset: TrainingSet,
    config: DataConfig,
    *,
    batch: int,
    start: int = 0,
    rank: int = 0,
    processes: int = 1,
) -> Iterable[Batch]:
    """Endless batches of `batch` images for this process, from place `start` of the stream on.

    Args:
        dataset: the images.
        config: balance and number of loading processes (0: load in this one).
        batch: images a step for this process.
        start: images that all processes have already seen.
        rank: this process.
        processes: processes that share the stream.
    """
    import cv2

    # A forked process that finds OpenCV's threads half alive may hang: leave none before the fork.
    cv2.setNumThreads(1)
    stream = Stream(
        [sample.group for sample in dataset.samples],
        dataset.seed,
        balance=config.balance,
        start=start,
        rank=rank,
        processes=processes,
    )
    batches: DataLoader[Batch] = DataLoader(
        dataset,  # type: ignore[arg-type]  # one item is no batch yet; `collate` makes it one
        batch_size=batch,
        sampler=stream,
        num_workers=config.workers,
        collate_fn=collate,
        prefetch_factor=4 if config.workers else None,
        pin_memory=torch.cuda.is_available(),
    )
    return batches
