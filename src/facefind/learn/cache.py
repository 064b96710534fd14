"""Cache: decoded training images, kept in a folder or in memory that loading processes share."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

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


def make_cache(name: str | None, samples: Sequence[Sample]) -> Cache | None:
    """The cache that `--cache` names: `auto`, `host`, a folder; None where images are not kept.

    `auto` is `host` where all images take at most half of the free shared memory.

    Raises:
        DataError: if the images do not fit into shared memory.
    """
    if name is None:
        return None
    if name not in ("auto", "host"):
        return FolderCache(Path(name))
    sizes = [header_size(sample) for sample in samples]
    need = sum(h * w * 3 for h, w in sizes) * int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    free = _free_shared_memory()
    if need <= (free // 2 if name == "auto" else free):
        return HostCache(sizes)
    fact = f"the decoded images take {need / 2**30:.1f} GiB, of shared memory {free / 2**30:.1f}"
    if name == "host":
        raise DataError(f"--cache host: {fact} GiB are free; name a folder instead")
    logger.warning("images are not cached: %s GiB are free", fact)
    return None


class FolderCache:
    """Images in a folder, a file each, found by the original's path, size and time of change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
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
                np.save(opened, images.read(path))
        return file


class HostCache:
    """Images in shared memory; whichever process reads one first decodes it for all."""

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
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
            image = images.read(sample.path)
            if image.shape != kept.shape:
                return image
            kept[:] = image
            self._filled[number] = 1  # two processes at once write the same pixels
        return kept


def shared_bytes(count: int) -> torch.Tensor:
    """(count,) uint8, not initialized, in memory that other processes can read."""
    storage = torch.UntypedStorage._new_shared(max(count, 1))  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=torch.uint8).set_(storage)


def header_size(sample: Sample) -> tuple[int, int]:
    """(H,W) as the label or the file's header says; (0,0) where there is no picture."""
    try:
        return sample.image_size or read_size(sample.path)
    except (FacefindError, OSError):  # the loader warns of it when it is drawn
        return 0, 0


def _free_shared_memory() -> int:
    folder = Path("/dev/shm")
    if folder.is_dir():
        return shutil.disk_usage(folder).free
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (ValueError, AttributeError, OSError):
        return 0
