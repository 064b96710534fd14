"""Images on the device: a whole set decoded once, and batches that are made of it there.

Between host and device nothing travels in a step but what was drawn, and labels.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from facefind import images
from facefind.datasets import Sample
from facefind.errors import DataError, FacefindError
from facefind.learn.cache import check_size, header_size
from facefind.learn.loader import Batch, TrainingSet, ahead, packed
from facefind.learn.rendering import numbers, render
from facefind.learn.targets import BatchTargets, Target

logger = logging.getLogger(__name__)

SHRINKS = (1, 2, 4)
"""An image is kept whole and at a half and a quarter of its sides, for windows that shrink."""


class DeviceImages:
    """Every image of a set in one tensor of pixels on a device.

    Args:
        samples: the labeled images.
        sizes: (H,W) of each, as their headers say; (0,0) where there is no picture.
        device: where they are kept.
        workers: processes that share the decoding (0: this one decodes).
        fill: RGB of what lies beyond an image's right and lower border, where a pixel of a smaller
            level reaches over it.
        reading: how image files are read, in `images.read`'s options.

    Attributes:
        pixels: (N,3) uint8 RGB of all levels of all images, row by row.
        starts: (len(SHRINKS),S) int64 row of `pixels` at which an image's level begins.
        sides: (len(SHRINKS),S,2) int64 its height and width.
        readable: (S,) bool; images that cannot be decoded, or are not as large as their header
            says, are named in a warning.

    Raises:
        DataError: if no image can be read.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        sizes: Sequence[tuple[int, int]],
        device: torch.device,
        *,
        workers: int = 0,
        fill: tuple[int, int, int] = (0, 0, 0),
        reading: Mapping[str, Any] = {},
    ) -> None:
        self.sides = _sides(sizes)
        counts = self.sides.prod(-1)
        ends = counts.cumsum().reshape(counts.shape)
        self.starts = ends - counts
        self.pixels = torch.empty(int(ends[-1, -1]), 3, dtype=torch.uint8, device=device)
        self.readable: NDArray[np.bool_] = np.zeros(len(samples), np.bool_)
        decoded = DataLoader(
            _Decoded(samples, sizes, reading),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=ahead(3 * max(h * w for h, w in sizes) or 1, workers, 8),
        )
        border = torch.tensor(fill, dtype=torch.uint8, device=device)
        for number, image in enumerate(decoded):
            if isinstance(image, str):
                logger.warning("left out an image: %s", image)
            else:
                self._keep(number, image.to(device), border)
        if not self.readable.any():
            raise DataError(f"none of the {len(samples)} training images can be read")

    def __str__(self) -> str:
        size = self.pixels.numel() / 2**30
        return f"decoded images on {self.pixels.device}, {size:.1f} GiB"

    @staticmethod
    def bytes_needed(sizes: Sequence[tuple[int, int]]) -> int:
        """Bytes that images of these sizes (H,W) take on the device."""
        return 3 * int(_sides(sizes).prod(-1).sum())

    def _keep(self, number: int, level: Tensor, border: Tensor) -> None:
        for start, (height, width) in zip(
            self.starts[:, number].tolist(), self.sides[:, number].tolist(), strict=True
        ):
            if (level.shape[0], level.shape[1]) != (height, width):
                level = _halved(level, border)
            self.pixels[start : start + height * width] = level.reshape(-1, 3)
        self.readable[number] = True


def on_device(
    cache: str | None,
    samples: Sequence[Sample],
    device: torch.device,
    *,
    workers: int = 0,
    fill: tuple[int, int, int] = (0, 0, 0),
    reading: Mapping[str, Any] = {},
) -> DeviceImages | None:
    """The images of a set on a device, where `--cache` says so; None where it says otherwise.

    `device` always does; `auto` on an accelerator, of whose free memory they take at most .6.

    Raises:
        DataError: if they do not fit.
    """
    if cache not in ("auto", "device") or (cache == "auto" and device.type == "cpu"):
        return None
    sizes = [header_size(sample, reading) for sample in samples]
    need, free = DeviceImages.bytes_needed(sizes), _free_memory(device)
    if cache == "auto" and need > 0.6 * free:
        return None
    if need > free:
        raise DataError(
            f"--cache device: the decoded images take {need / 2**30:.1f} GiB, of the memory of "
            f"{device} {free / 2**30:.1f} GiB are free; try --cache host or --cache FOLDER"
        )
    return DeviceImages(samples, sizes, device, workers=workers, fill=fill, reading=reading)


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def _sides(sizes: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """(len(SHRINKS),S,2) sides of each level: halves are rounded up."""
    levels = [np.asarray(sizes, np.int64).reshape(-1, 2)]
    while len(levels) < len(SHRINKS):
        levels.append((levels[-1] + 1) // 2)
    return np.stack(levels)


def _halved(image: Tensor, border: Tensor) -> Tensor:
    """(H,W,3) uint8 at half its sides, rounded up: means of 2 x 2 pixels, `border` beyond it."""
    height, width = (-(-side // 2) * 2 for side in image.shape[:2])
    if (height, width) != (image.shape[0], image.shape[1]):
        padded = border.expand(height, width, 3).clone()
        padded[: image.shape[0], : image.shape[1]] = image
        image = padded
    means = functional.avg_pool2d(image.permute(2, 0, 1)[None].float(), 2)
    return means[0].permute(1, 2, 0).add(0.5).to(torch.uint8)  # halves up, as OpenCV has it


class _Decoded(Dataset["Tensor | str"]):
    """Decoded images, (H,W,3) uint8; where one cannot be used, why."""

    def __init__(
        self,
        samples: Sequence[Sample],
        sizes: Sequence[tuple[int, int]],
        reading: Mapping[str, Any],
    ) -> None:
        self._samples, self._sizes, self._reading = samples, sizes, reading

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, number: int) -> Tensor | str:
        sample = self._samples[number]
        try:
            image = images.read(sample.path, **self._reading)
            check_size(sample, image, self._sizes[number])
        except (FacefindError, OSError) as error:
            return str(error)
        return torch.from_numpy(np.ascontiguousarray(image))


class _Drawn(NamedTuple):
    """What a batch shows, without its pixels: as `rendering.render` takes it."""

    start: Tensor
    numbers: Tensor
    size: Tensor
    targets: BatchTargets
    names: list[str]


class _Draws(Dataset["tuple[int, list[float], tuple[int, int], Target, str]"]):
    """(index, sample number, crop size) -> what is drawn for it."""

    def __init__(self, dataset: TrainingSet, kept: DeviceImages) -> None:
        self._set = dataset
        self._starts, self._sides, self._readable = kept.starts, kept.sides, kept.readable

    def __len__(self) -> int:
        return len(self._set)

    def __getitem__(
        self, key: tuple[int, int] | tuple[int, int, int]
    ) -> tuple[int, list[float], tuple[int, int], Target, str]:
        index, number, *size = key
        while not self._readable[number]:  # as the loader on the host goes on to the next
            number = (number + 1) % len(self._set)
        height, width = self._sides[0, number].tolist()
        view, target = self._set.draw(index, number, (height, width), *size)
        level = max(i for i, shrink in enumerate(SHRINKS) if shrink <= view.shrink)
        height, width = self._sides[level, number].tolist()
        row = numbers(view, SHRINKS[level], (height, width))
        start = int(self._starts[level, number])
        return start, row, view.size, target, self._set.samples[number].name


def _collate(
    items: Sequence[tuple[int, list[float], tuple[int, int], Target, str]],
    *,
    multiple: int,
    steady: bool,
) -> _Drawn:
    starts, rows, sizes, targets, names = zip(*items, strict=True)
    batch_size, labels = packed(targets, sizes, multiple, steady=steady)
    return _Drawn(
        torch.tensor(starts), torch.tensor(rows), torch.tensor(batch_size), labels, list(names)
    )


def device_loader(
    dataset: TrainingSet,
    kept: DeviceImages,
    sampler: Iterable[tuple[int, int] | tuple[int, int, int]],
    *,
    batch: int,
    workers: int = 0,
    prefetch: int = 4,
    steady: bool = False,
    compiled: bool = False,
) -> Iterator[Batch]:
    """Endless batches as `loader` gives them, made on the device that the images are kept on.

    Args:
        dataset: how images are drawn.
        kept: its images.
        sampler: (index, sample) or (index, sample, size) for this process.
        batch: images a step for this process.
        workers: processes that draw (0: this one).
        prefetch: batches that each of them draws ahead.
        steady: whether labels are padded, so that few shapes of batches differ.
        compiled: whether the operations that make the pixels are compiled into one.
    """
    config, device = dataset.config, kept.pixels.device
    draws: DataLoader[_Drawn] = DataLoader(
        _Draws(dataset, kept),  # type: ignore[arg-type]  # `_collate` makes a batch of its items
        batch_size=batch,
        sampler=sampler,
        num_workers=workers,
        collate_fn=functools.partial(
            _collate,
            multiple=config.resized.multiple if config.crop == "resized" else 1,
            steady=steady,
        ),
        prefetch_factor=prefetch if workers else None,
        pin_memory=device.type == "cuda",
    )
    make = torch.compile(render, dynamic=False) if compiled else render
    for drawn in draws:
        start = drawn.start.to(device, non_blocking=True)
        rows = drawn.numbers.to(device, non_blocking=True)
        height, width = drawn.size.tolist()
        pixels = make(kept.pixels, start, rows, (height, width), config)
        yield Batch(pixels, drawn.targets.to(device), drawn.names)
