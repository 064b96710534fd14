"""Loading: the sampled images, decoded, augmented and collated into batches."""

from __future__ import annotations

import contextlib
import logging
import math
import multiprocessing
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from facefind import images
from facefind.datasets import Sample, read_size
from facefind.errors import DataError, ImageError
from facefind.learn.augment import View, draw_view, render, view_labels
from facefind.learn.cache import check_size, make_cache, shared_bytes
from facefind.learn.checks import check_augment
from facefind.learn.jitter import Image
from facefind.learn.labels import Labels
from facefind.learn.recipe import AugmentConfig, DataConfig
from facefind.learn.targets import BatchTargets, Target
from facefind.runtimes import cpu

logger = logging.getLogger(__name__)

AHEAD = 1 << 31
"""Bytes of images that may wait to be trained on; one batch of each loading process may in any
case."""
LARGE = 1 << 25
"""Pixels of an image that one loading process at a time decodes, so that not all hold such ones."""


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
    """Augmented images: (index, sample number, crop size) -> item, as `sized` samplers give them.

    Args:
        samples: the labeled images.
        config: how they are augmented.
        seed: of the augmentation.
        cache: `--cache`: auto, host, a folder; None: no cache.
        reading: what of image files is read, as `images.read` takes it: `max_pixels`, `truncated`.

    Raises:
        DataError: if there are no images, or values of `config` or `cache` make no sense.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        config: AugmentConfig,
        seed: int = 0,
        cache: str | None = None,
        reading: Mapping[str, Any] = {},
    ) -> None:
        if not samples:
            raise DataError("no training images were given; name at least one set with --data SET")
        check_augment(config)
        self.samples, self.config, self.seed = list(samples), config, seed
        self.reading = reading
        self.cache = make_cache(cache, self.samples, reading)
        self._sizes: dict[int, tuple[int, int]] = {}
        self._large = multiprocessing.Lock()

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
                return self._augmented(index, number, *size)
            except (ImageError, DataError, OSError) as error:
                logger.warning("skipped an image: %s", error)
                number = (number + 1) % len(self.samples)
        raise DataError(f"none of the {len(self.samples)} training images can be read")

    def draw(
        self, index: int, number: int, image_size: tuple[int, int], size: int | None = None
    ) -> tuple[View, Target]:
        """What is shown of sample `number`, an image of size (H,W), and the faces on it.

        It depends on the seed, the index and the sample alone. `size` is the side of a square crop
        in pixels, where it is not the recipe's.
        """
        config, sample = self.config, self.samples[number]
        labels = Labels(sample.boxes, sample.landmarks, sample.ignore)
        rng = np.random.default_rng((self.seed, index))
        view = draw_view(config, image_size, labels, rng, size)
        labels = view_labels(view, labels, config)
        faces, ignored = labels.keep(~labels.ignore), labels.keep(labels.ignore)
        target = Target(
            torch.from_numpy(faces.boxes),
            torch.from_numpy(faces.landmarks),
            torch.from_numpy(ignored.boxes),
        )
        return view, target

    def _augmented(self, index: int, number: int, size: int | None = None) -> Item:
        height, width = self.image_size(number)
        view, target = self.draw(index, number, (height, width), size)
        with self._large if height * width > LARGE else contextlib.nullcontext():
            image, factor = self.read(number, view.shrink)
            pixels = render(image, view, factor, self.config.fill)
            del image
        return Item(torch.from_numpy(pixels), target, self.samples[number].name)

    def image_size(self, number: int) -> tuple[int, int]:
        """(H,W) of a sample's image; its header is read once."""
        if number not in self._sizes:
            sample = self.samples[number]
            self._sizes[number] = sample.image_size or read_size(sample.path)
        return self._sizes[number]

    def read(self, number: int, shrink: int) -> tuple[Image, int]:
        """A sample's image, perhaps decoded up to `shrink` times smaller, and how many times.

        Raises:
            DataError: if it is not as large as its label or header says.
        """
        sample, factor = self.samples[number], 1
        if self.cache is None:
            image, factor = images.read_reduced(sample.path, shrink, **self.reading)
        else:
            image = self.cache.read(number, sample)
        check_size(sample, image, self.image_size(number), factor)
        return image, factor


def packed(
    targets: Sequence[Target],
    sizes: Sequence[tuple[int, int]],
    multiple: int,
    *,
    steady: bool = False,
) -> tuple[tuple[int, int], BatchTargets]:
    """(H,W) of a batch of images of some sizes (h,w), multiples of `multiple`, and its targets.

    Args:
        targets: of each image.
        sizes: of each image.
        multiple: of the batch's sides.
        steady: whether the numbers of faces and ignored regions are padded to powers of two.
    """
    height, width = (-(-max(sides) // multiple) * multiple for sides in zip(*sizes, strict=True))
    sized = [replace(target, size=size) for target, size in zip(targets, sizes, strict=True)]
    labels = BatchTargets.from_images(sized, (height, width))
    return (height, width), labels.padded() if steady else labels


def collate(
    items: Sequence[Item],
    *,
    multiple: int = 1,
    fill: tuple[int, int, int] = (0, 0, 0),
    steady: bool = False,
) -> Batch:
    """The batch of single items.

    Images that differ in size, or whose size is not a `multiple`, are padded to the right and
    below with the color `fill`; labels as in `packed`.
    """
    pictures, targets, names = zip(*items, strict=True)
    sizes = [(picture.shape[0], picture.shape[1]) for picture in pictures]
    size, labels = packed(targets, sizes, multiple, steady=steady)
    batch = _new_images(len(pictures), *size)
    for image, picture, (h, w) in zip(batch, pictures, sizes, strict=True):
        image[:h, :w] = picture
        image[:h, w:] = image[h:] = torch.tensor(fill, dtype=torch.uint8)
    return Batch(batch, labels, list(names))


def _new_images(count: int, height: int, width: int) -> Tensor:
    """(count,height,width,3) uint8; in a loading process, memory that the training one can read."""
    shape = (count, height, width, 3)
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    return shared_bytes(math.prod(shape)).view(shape)


def loader(
    dataset: TrainingSet,
    sampler: Iterable[tuple[int, int] | tuple[int, int, int]],
    *,
    batch: int,
    workers: int = 0,
    prefetch: int = 4,
    pin_memory: bool = False,
    steady: bool = False,
) -> Iterable[Batch]:
    """Endless batches of `batch` images, in the sampler's order.

    Args:
        dataset: the images.
        sampler: (index, sample) or (index, sample, size) for this process, drawn here and not in
            the workers.
        batch: images a step for this process.
        workers: processes that load and augment (0: load in this one).
        prefetch: batches that each of them loads ahead, fewer where they would be over `AHEAD`.
        pin_memory: whether batches are page-locked, for copies to a GPU that do not wait.
        steady: whether labels are padded, so that few shapes of batches differ.
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
        collate_fn=partial(collate, multiple=multiple, fill=config.fill, steady=steady),
        prefetch_factor=ahead(batch * _largest(config), workers, prefetch),
        pin_memory=pin_memory,
    )
    return batches


def ahead(largest: int, workers: int, most: int) -> int | None:
    """How much each loading process has ready, of which one takes `largest` bytes; 1 to `most`."""
    return min(most, max(AHEAD // (workers * largest), 1)) if workers else None


def _largest(config: AugmentConfig) -> int:
    """Bytes of the largest image that augmentation gives."""
    sides = [phase.size for phase in config.phases] + [config.size]
    side = config.resized.long_side if config.crop == "resized" else max(sides)
    return 3 * side**2


def worker_count(data: DataConfig) -> int:
    """Loading processes of each process that trains."""
    if data.workers is not None:
        return data.workers
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(min(cpu.usable_cores() // here, 8), 1)
