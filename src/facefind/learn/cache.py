"""Cache: decoded training images, kept in a folder or in memory that loading processes share."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from facefind import images
from facefind.datasets import Sample, read_size
from facefind.errors import DataError, FacefindError
from facefind.files import atomic
from facefind.learn.jitter import Image

logger = logging.getLogger(__name__)


class Cache(Protocol):
    """Reads images, and remembers them."""

    def read(self, number: int, sample: Sample) -> Image:
        """The whole image of sample `number` of the set, (H,W,3) uint8 RGB, not to be changed."""


def make_cache(
    name: str | None, samples: Sequence[Sample], reading: Mapping[str, Any] = {}
) -> Cache | None:
    """The cache that `--cache` names: `auto`, `host`, a folder; None where images are not kept.

    `auto` is `host` where all images take at most half of the free shared memory. `reading` is how
    image files are read, in `images.read`'s options.

    Raises:
        DataError: if the images do not fit into shared memory.
    """
    if name is None:
        return None
    if name not in ("auto", "host"):
        return FolderCache(Path(name), reading)
    sizes = [header_size(sample, reading) for sample in samples]
    need = sum(h * w * 3 for h, w in sizes) * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    free = _free_shared_memory()
    if need <= (free // 2 if name == "auto" else free):
        return HostCache(sizes, reading)
    fact = f"the decoded images take {need / 2**30:.1f} GiB, of shared memory {free / 2**30:.1f}"
    if name == "host":
        raise DataError(f"--cache host: {fact} GiB are free; name a folder instead")
    logger.warning("images are not cached: %s GiB are free", fact)
    return None


class FolderCache:
    """Images in a folder, a file each, found by the original's path, size and time of change."""

    def __init__(self, folder: Path, reading: Mapping[str, Any] = {}) -> None:
        self._folder, self._reading = folder, reading
        self._files: dict[Path, Path] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def __str__(self) -> str:
        return f"decoded images in {self._folder}"

    def read(self, number: int, sample: Sample) -> Image:
        """The image of a sample, decoded at first and memory-mapped from then on."""
        file = self._files.get(sample.path)
        if file is None or not file.exists():
            file = self._files[sample.path] = self._kept(sample.path)
        mapped: Image = np.load(file, mmap_mode="r")
        return mapped

    def _kept(self, path: Path) -> Path:
        """The file that holds an image's pixels; it is written where it is missing."""
        facts = path.stat()
        key = f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns}"
        file = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
        if not file.exists():
            with atomic(file) as draft, draft.open("wb") as opened:
                np.save(opened, images.read(path, **self._reading))
        return file


class HostCache:
    """Images in shared memory; whichever process reads one first decodes it for all."""

    def __init__(self, sizes: Sequence[tuple[int, int]], reading: Mapping[str, Any] = {}) -> None:
        self._reading = reading
        ends = np.cumsum([h * w * 3 for h, w in sizes]).tolist()
        self._sizes, self._starts = list(sizes), [0, *ends[:-1]]
        # Memory is taken as it is written, so that an empty cache costs nothing.
        self._pixels = shared_bytes(ends[-1])
        self._filled = shared_bytes(len(sizes)).zero_()

    def __str__(self) -> str:
        return f"decoded images in memory, {len(self._pixels) / 2**30:.1f} GiB"

    def read(self, number: int, sample: Sample) -> Image:
        """The image of sample `number`; one that is not as large as its header said is not kept."""
        height, width = self._sizes[number]
        start = self._starts[number]
        kept = self._pixels[start : start + height * width * 3].numpy().reshape(height, width, 3)
        if not self._filled[number]:
            image = images.read(sample.path, **self._reading)
            if image.shape != kept.shape:
                return image
            kept[:] = image
            self._filled[number] = 1  # two processes at once write the same pixels
        return kept


def shared_bytes(count: int) -> torch.Tensor:
    """(count,) uint8, not initialized, in memory that other processes can read."""
    storage = torch.UntypedStorage._new_shared(max(count, 1))  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=torch.uint8).set_(storage)


def header_size(sample: Sample, reading: Mapping[str, Any] = {}) -> tuple[int, int]:
    """(H,W) as the label or the file's header says; (0,0) where there is no picture to be read."""
    try:
        height, width = sample.image_size or read_size(sample.path)
    except (FacefindError, OSError):  # the loader warns of it when it is drawn
        return 0, 0
    within = height * width <= reading.get("max_pixels", images.MAX_PIXELS)
    return (height, width) if within else (0, 0)


def check_size(sample: Sample, image: Image, size: tuple[int, int], factor: int = 1) -> None:
    """Raise DataError unless an image has the (H,W) that its label or header says.

    Boxes would lie elsewhere: labels may be of the picture as it is stored, before EXIF turns it.
    `factor` is how many times smaller the image was decoded.
    """
    if image.shape[:2] != (-(-size[0] // factor), -(-size[1] // factor)):
        height, width = image.shape[:2] if factor == 1 else read_size(sample.path)
        raise DataError(
            f"{sample.path}: the image is {height} high and {width} wide, its label or header says "
            f"{size[0]} and {size[1]}: its boxes lie elsewhere"
        )


def _free_shared_memory() -> int:
    folder = Path("/dev/shm")
    if folder.is_dir():
        return shutil.disk_usage(folder).free
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (ValueError, AttributeError, OSError):
        return 0
