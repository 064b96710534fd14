"""Loading: the images of the stream, decoded, augmented and made into batches."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from facefind import images
from facefind.datasets import Sample, read_size
from facefind.errors import DataError, ImageError
from facefind.learn.augment import (
    Labels,
    crop,
    draw_scale,
    recolor,
    recolor_and_flip,
    resize_and_cut,
    window_for,
)
from facefind.learn.jitter import Image
from facefind.learn.recipe import AugmentConfig
from facefind.learn.targets import Target

logger = logging.getLogger(__name__)

Batch = tuple[Tensor, list[Target], list[str]]
"""Images (B,3,H,W) uint8, their targets, their names."""


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
        resized = config.resized
        if not (resized.short_sides and 0 < resized.least <= 1 and resized.multiple >= 1):
            raise DataError(
                "--augment.resized: wanted a short side or more, a least part in 0..1 and a "
                f"multiple from 1 on, got {resized}"
            )
        self.samples, self.config, self.seed, self.cache = list(samples), config, seed, cache
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: tuple[int, int]) -> tuple[Tensor, Target, str]:
        """Image (3,H,W) uint8 with its target, drawn by the generator of (seed, place).

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
        if config.crop == "square":
            window = window_for(config, image_size, labels, rng)
            image = decoded(sample.path, self.cache, shrink=window.side // config.size)
            shrink = image_size[0] / image.shape[0]
            image, labels = crop(
                image,
                labels,
                window,
                config.size,
                config.fill,
                shrink,
                clip_boxes=config.clip_boxes,
            )
        else:
            scale = draw_scale(image_size, config.resized, rng)
            image = decoded(sample.path, self.cache, shrink=int(1 / scale))
            if config.resized.color_first:
                image = recolor(image, config, rng)
            image, labels = resize_and_cut(image, labels, image_size, scale, config.resized, rng)
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


def collate(
    items: Sequence[tuple[Tensor, Target, str]],
    *,
    multiple: int = 1,
    fill: tuple[int, int, int] = (0, 0, 0),
) -> Batch:
    """A batch of single items; targets stay a list, since images differ in faces.

    Images that differ in size, or are no `multiple` of pixels, are padded to the right and below
    with the color `fill`, and their targets tell the size before.
    """
    pictures, targets, names = zip(*items, strict=True)
    sizes = [(picture.shape[1], picture.shape[2]) for picture in pictures]
    height, width = (-(-max(sides) // multiple) * multiple for sides in zip(*sizes, strict=True))
    if set(sizes) == {(height, width)}:
        return torch.stack(pictures), list(targets), list(names)
    padded = torch.tensor(fill, dtype=torch.uint8)[:, None, None].expand(3, height, width)
    images = padded.repeat(len(pictures), 1, 1, 1)
    for image, picture, (h, w) in zip(images, pictures, sizes, strict=True):
        image[:, :h, :w] = picture
    told = [replace(target, size=size) for target, size in zip(targets, sizes, strict=True)]
    return images, told, list(names)


def loader(
    dataset: TrainingSet,
    stream: Iterable[tuple[int, int]],
    *,
    batch: int,
    workers: int = 0,
    ahead: int = 4,
) -> Iterable[Batch]:
    """Endless batches of `batch` images, as they stand in the stream.

    Args:
        dataset: the images.
        stream: (place, sample) pairs for this process; they are drawn here, not in the workers.
        batch: images a step for this process.
        workers: processes that load and augment (0: load in this one).
        ahead: batches that each of them is ahead of what was taken.
    """
    import cv2

    config = dataset.config
    multiple = config.resized.multiple if config.crop == "resized" else 1
    # A forked process that finds OpenCV's threads half alive may hang: leave none before the fork.
    cv2.setNumThreads(1)
    batches: DataLoader[Batch] = DataLoader(
        dataset,  # type: ignore[arg-type]  # one item is no batch yet; `collate` makes it one
        batch_size=batch,
        sampler=stream,
        num_workers=workers,
        collate_fn=partial(collate, multiple=multiple, fill=config.fill),
        prefetch_factor=ahead if workers else None,
        pin_memory=torch.cuda.is_available(),
    )
    return batches
