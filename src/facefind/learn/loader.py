"""Loading: the sampled images, decoded, augmented and collated into batches."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from facefind import images
from facefind.datasets import Sample, read_size
from facefind.errors import DataError, ImageError
from facefind.learn.augment import draw_view, render, view_labels
from facefind.learn.cache import make_cache
from facefind.learn.jitter import Image
from facefind.learn.labels import Labels
from facefind.learn.recipe import AugmentConfig
from facefind.learn.targets import BatchTargets, Target

logger = logging.getLogger(__name__)


class Item(NamedTuple):
    """One training image: (H,W,3) uint8, its target and its name."""

    image: Tensor
    target: Target
    name: str


class Batch(NamedTuple):
    """Images (B,H,W,3) uint8, their targets, their names."""

    images: Tensor
    targets: BatchTargets
    names: list[str]

    def to(self, device: torch.device) -> Batch:
        """The same on another device; copies do not wait for it where memory is pinned."""
        images = self.images.to(device, non_blocking=True)
        return Batch(images, self.targets.to(device), self.names)


class TrainingSet(Dataset[Item]):
    """Augmented images: (index, sample number) -> item, as `IndexSampler` pairs them.

    Args:
        samples: the labeled images.
        config: how they are augmented.
        seed: of the augmentation.
        cache: `--cache`: auto, host, a folder; None: no cache.

    Raises:
        DataError: if there are no images, or values of `config` or `cache` make no sense.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        config: AugmentConfig,
        seed: int = 0,
        cache: str | None = None,
    ) -> None:
        if not samples:
            raise DataError("no training images were given; name at least one set with --data SET")
        resized = config.resized
        if not (resized.short_sides and 0 < resized.min_crop <= 1 and resized.multiple >= 1):
            raise DataError(
                "--augment.resized: expected one or more short_sides, min_crop from 0 to 1 and a "
                f"multiple of 1 or more, got {resized}"
            )
        self.samples, self.config, self.seed = list(samples), config, seed
        self._cache = make_cache(cache, self.samples)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, pair: tuple[int, int] | tuple[int, int, int]) -> Item:
        """The sample augmented by the random generator of (seed, index).

        A third number is the side of a square crop in pixels, where it is not the recipe's. An
        image that cannot be read is skipped with a warning, and the next one of the set taken.
        """
        index, number, *size = pair
        for _ in range(len(self.samples)):
            try:
                return self._augmented(number, np.random.default_rng((self.seed, index)), *size)
            except (ImageError, DataError, OSError) as error:
                logger.warning("skipped an image: %s", error)
                number = (number + 1) % len(self.samples)
        raise DataError(f"none of the {len(self.samples)} training images can be read")

    def _augmented(self, number: int, rng: np.random.Generator, size: int | None = None) -> Item:
        config, sample = self.config, self.samples[number]
        labels = Labels(sample.boxes, sample.landmarks, sample.ignore)
        image_size = sample.image_size or read_size(sample.path)
        view = draw_view(config, image_size, labels, rng, size)
        image, factor = self._read(number, view.shrink)
        pixels = render(image, view, factor, config.fill)
        labels = view_labels(view, labels, config)
        faces, ignored = labels.keep(~labels.ignore), labels.keep(labels.ignore)
        target = Target(
            torch.from_numpy(faces.boxes),
            torch.from_numpy(faces.landmarks),
            torch.from_numpy(ignored.boxes),
        )
        return Item(torch.from_numpy(pixels), target, sample.name)

    def _read(self, number: int, shrink: int) -> tuple[Image, int]:
        """A sample's image, perhaps decoded up to `shrink` times smaller, and how many times."""
        sample = self.samples[number]
        if self._cache is None:
            return images.read_reduced(sample.path, shrink)
        return self._cache.read(number, sample), 1


def collate(
    items: Sequence[Item], *, multiple: int = 1, fill: tuple[int, int, int] = (0, 0, 0)
) -> Batch:
    """The batch of single items.

    Images that differ in size, or whose size is not a `multiple`, are padded to the right and
    below with the color `fill`.
    """
    pictures, targets, names = zip(*items, strict=True)
    sizes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
    height, width = (-(-max(sides) // multiple) * multiple for sides in zip(*sizes, strict=True))
    sized = [replace(target, size=size) for target, size in zip(targets, sizes, strict=True)]
    packed = BatchTargets.from_images(sized, (height, width))
    if set(sizes) == {(height, width)}:
        return Batch(torch.stack(pictures), packed, list(names))
    padded = torch.tensor(fill, dtype=torch.uint8).repeat(len(pictures), height, width, 1)
    for image, picture, (h, w) in zip(padded, pictures, sizes, strict=True):
        image[:h, :w] = picture
    return Batch(padded, packed, list(names))


def loader(
    dataset: TrainingSet,
    sampler: Iterable[tuple[int, int]],
    *,
    batch: int,
    workers: int = 0,
    prefetch: int = 4,
    pin_memory: bool = False,
) -> Iterable[Batch]:
    """Endless batches of `batch` images, in the sampler's order.

    Args:
        dataset: the images.
        sampler: (index, sample) pairs for this process, drawn here and not in the workers.
        batch: images a step for this process.
        workers: processes that load and augment (0: load in this one).
        prefetch: batches that each of them loads ahead.
        pin_memory: whether batches are page-locked, for copies to a GPU that do not wait.
    """
    import cv2

    config = dataset.config
    multiple = config.resized.multiple if config.crop == "resized" else 1
    # A forked process that finds OpenCV's threads half alive may hang: leave none before the fork.
    cv2.setNumThreads(1)
    batches: DataLoader[Batch] = DataLoader(
        dataset,  # type: ignore[arg-type]  # one item is no batch yet; `collate` makes it one
        batch_size=batch,
        sampler=sampler,
        num_workers=workers,
        collate_fn=partial(collate, multiple=multiple, fill=config.fill),
        prefetch_factor=prefetch if workers else None,
        pin_memory=pin_memory,
    )
    return batches
