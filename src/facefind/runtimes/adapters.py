"""Reads others' model files, so that they give what ours give.

A published file is recognized by what it returns for a small gray image, never by its name.
To add another layout, write a reader with `match` and add it to `READERS`.

Shapes: B batch, L levels, K anchors a cell, A anchors over all levels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facefind.errors import WeightsError
from facefind.runtimes.card import Card
from facefind.runtimes.contract import (
    Candidates,
    FloatArray,
    ImageBatch,
    Session,
    check_candidates,
    fixed_input,
    fixed_protocol,
)

_PROBE = 256  # side of the image that a file of any size is tried with: 2 cells at stride 128


class Reader(Protocol):
    """How one layout of outputs is fed and read."""

    card: Card

    def prepare(self, images: ImageBatch) -> NDArray[np.generic]:
        """Return the array that the model takes for (B, 3, H, W) uint8 RGB images."""

    def decode(self, outputs: list[FloatArray], size: tuple[int, int]) -> Candidates:
        """Return the candidates that lie in the outputs for an input (height, width)."""


class ScrfdReader:
    """Reads published SCRFD files: per level scores, distances and, in some, landmarks.

    Three levels come with two anchors a cell, five (strides 8 to 128) with one. The batch
    dimension of the outputs may be missing, in which case the images go in one by one.
    Distances are in strides, from cell corners that carry no half-cell offset.

    Source: SCRFD, sec. 3 and 4.1.
    Differs: the paper speaks of boxes matched to anchors; the released files regress distances
    from the anchors' centers, and those lie at whole multiples of the stride.
    """

    def __init__(
        self, name: str, kinds: list[int], anchors: int, fixed_size: tuple[int, int] | None
    ) -> None:
        strides = tuple(8 << level for level in range(kinds.count(1)))
        self._kinds = kinds
        self._anchors = anchors
        self.card = _card(name, "scrfd", strides, fixed_size, landmarks=10 in kinds)

    @classmethod
    def match(
        cls,
        name: str,
        outputs: list[FloatArray],
        size: tuple[int, int],
        fixed_size: tuple[int, int] | None,
    ) -> ScrfdReader | None:
        """Return the reader of a file that gives these outputs for this input size, or None."""
        kinds = [array.shape[-1] if array.ndim in (2, 3) else 0 for array in outputs]
        levels = kinds.count(1)
        if levels not in (3, 5) or kinds.count(4) != levels:
            return None
        if set(kinds) - {1, 4, 10} or kinds.count(10) not in (0, levels):
            return None
        cells = [-(-size[0] // (8 << i)) * -(-size[1] // (8 << i)) for i in range(levels)]
        per_cell = set()
        for kind in set(kinds):
            rows = sorted((a.shape[-2] for a, k in zip(outputs, kinds, strict=True) if k == kind))
            for count, number in zip(reversed(rows), cells, strict=True):
                per_cell.add(count / number)
        anchors = per_cell.pop()
        if per_cell or anchors not in (1, 2):
            return None
        return cls(name, kinds, int(anchors), fixed_size)

    def prepare(self, images: ImageBatch) -> NDArray[np.generic]:
        """Return the images as float32, from -1 to about 1."""
        x = images.astype(np.float32)
        x -= 127.5
        x *= 1 / 128
        return x

    def decode(self, outputs: list[FloatArray], size: tuple[int, int]) -> Candidates:
        """Return the candidates that lie in the outputs for an input (height, width)."""
        scores = self._levels(outputs, 1)
        strides = self.card.strides
        centers = [_centers(size, stride, self._anchors) for stride in strides]
        boxes = []
        for distances, stride, center in zip(
            self._levels(outputs, 4), strides, centers, strict=True
        ):
            low = center - distances[..., :2] * stride
            high = center + distances[..., 2:] * stride
            boxes.append(np.concatenate([low, high], axis=-1))
        landmarks = []
        for offsets, stride, center in zip(
            self._levels(outputs, 10), strides, centers, strict=False
        ):
            pairs = offsets.reshape(*offsets.shape[:-1], 5, 2)
            landmarks.append(pairs * stride + center[:, None])
        return Candidates(
            np.concatenate(boxes, axis=1),
            np.concatenate(scores, axis=1)[..., 0],
            np.concatenate(landmarks, axis=1) if landmarks else None,
        )

    def _levels(self, outputs: list[FloatArray], kind: int) -> list[FloatArray]:
        """Return the (B, K * cells, kind) outputs of one kind, the finest level first."""
        found = [a for a, k in zip(outputs, self._kinds, strict=True) if k == kind]
        batched = [a if a.ndim == 3 else a[None] for a in found]
        return sorted(batched, key=lambda a: -a.shape[1])


class RetinaFaceReader:
    """Reads RetinaFace files of the PyTorch port: boxes, softmax scores and landmarks, all levels.

    Three levels of strides 8, 16 and 32 come with two anchors a cell, in the cell's middle, small
    before large. The files take blue, green, red less their means.

    Source: RetinaFace, sec. 3.1.
    Differs: the port divides box targets by 0.1 and 0.2 and point targets by 0.1 (as in SSD).
    """

    _STRIDES = (8, 16, 32)
    _SIDES = ((16, 32), (64, 128), (256, 512))
    _MEAN_BGR = (104, 117, 123)

    def __init__(self, name: str, kinds: list[int], fixed_size: tuple[int, int] | None) -> None:
        self._kinds = kinds
        self.card = _card(name, "retinaface", self._STRIDES, fixed_size, landmarks=10 in kinds)

    @classmethod
    def match(
        cls,
        name: str,
        outputs: list[FloatArray],
        size: tuple[int, int],
        fixed_size: tuple[int, int] | None,
    ) -> RetinaFaceReader | None:
        """Return the reader of a file that gives these outputs for this input size, or None."""
        kinds = [array.shape[-1] if array.ndim == 3 else 0 for array in outputs]
        if sorted(kinds) not in ([2, 4], [2, 4, 10]):
            return None
        cells = sum(-(-size[0] // s) * -(-size[1] // s) for s in cls._STRIDES)
        if {array.shape[-2] for array in outputs} != {2 * cells}:
            return None
        scores = outputs[kinds.index(2)]
        if not np.allclose(scores.sum(-1), 1, atol=1e-3):  # raw, as in training
            return None
        return cls(name, kinds, fixed_size)

    def prepare(self, images: ImageBatch) -> NDArray[np.generic]:
        """Return the images as float32, blue first, less the means."""
        x = images[:, ::-1].astype(np.float32)
        x -= np.array(self._MEAN_BGR, np.float32)[:, None, None]
        return x

    def decode(self, outputs: list[FloatArray], size: tuple[int, int]) -> Candidates:
        """Return the candidates that lie in the outputs for an input (height, width)."""
        deltas = outputs[self._kinds.index(4)]
        centers, sides = _retinaface_anchors(size, self._STRIDES, self._SIDES)
        middle = centers + deltas[..., :2] * 0.1 * sides
        half = np.exp(deltas[..., 2:] * 0.2) * sides / 2
        landmarks = None
        if 10 in self._kinds:
            offsets = outputs[self._kinds.index(10)]
            pairs = offsets.reshape(*offsets.shape[:-1], 5, 2)
            landmarks = centers[:, None] + pairs * 0.1 * sides[:, None]
        scores = outputs[self._kinds.index(2)][..., 1]
        return Candidates(np.concatenate([middle - half, middle + half], -1), scores, landmarks)


READERS = (ScrfdReader, RetinaFaceReader)


def detect_format(session: Session, name: str) -> Reader:
    """Return the reader of a file that is not ours, found by running it once.

    Raises:
        WeightsError: the layout is not known; the message lists the file's inputs and outputs. Or
            it gives no scores in 0..1 or nothing finite.
    """
    described = (
        f"inputs {[(p.name, p.shape, p.dtype) for p in session.inputs]}, "
        f"outputs {[(p.name, p.shape) for p in session.outputs]}"
    )
    problem = f"{name} is neither a facefind export (no card) nor a known face detector: it has "
    known = (
        "; known are published SCRFD files, with a float input (B, 3, H, W) and 6, 9, 10 or 15 "
        "outputs of scores, distances and landmarks per level, and RetinaFace files, with boxes, "
        "scores (two, by softmax) and landmarks of all levels"
    )
    if len(session.inputs) != 1 or session.inputs[0].dtype != "float32":
        raise WeightsError(problem + described + known)
    shape = session.inputs[0].shape
    if shape is None or len(shape) != 4 or shape[1] not in (3, None):
        raise WeightsError(problem + described + known)
    batch, fixed = fixed_input(session)
    size = fixed or (_PROBE, _PROBE)
    try:
        outputs = session.run(np.zeros((batch or 1, 3, *size), np.float32))
    except Exception as error:  # each runtime raises its own kind
        raise WeightsError(f"{problem}{described}; it fails on a gray image: {error}") from error
    for reader in READERS:
        found = reader.match(name, outputs, size, fixed)
        if found is not None:
            check_candidates(found.decode(outputs, size), name)
            return found
    given = f", giving arrays {[array.shape for array in outputs]} for an input {size}"
    raise WeightsError(problem + described + given + known)


def batch_size(session: Session) -> int | None:
    """Return how many images a file takes at a time, None for any number that it keeps apart."""
    batch, _ = fixed_input(session)
    apart = all(port.shape is None or len(port.shape) == 3 for port in session.outputs)
    return batch or (None if apart else 1)


def _card(
    name: str,
    system: str,
    strides: tuple[int, ...],
    fixed_size: tuple[int, int] | None,
    *,
    landmarks: bool,
) -> Card:
    return Card(
        name=name,
        system=system,
        strides=strides,
        size_multiple=strides[-1],
        fixed_size=fixed_size,
        landmarks=landmarks,
        protocol=Card.protocol if fixed_size is None else fixed_protocol(fixed_size),
        notes="A published file in another layout, recognized by its outputs.",
    )


# Readers are called from many threads at once: what is cached for a size is made by a function
# whose cache is synchronized, and is never written to.
@lru_cache(maxsize=64)
def _centers(size: tuple[int, int], stride: int, anchors: int) -> FloatArray:
    """The (K * cells, 2) xy centers of a level, the K anchors of a cell together; read-only."""
    rows, columns = -(-size[0] // stride), -(-size[1] // stride)
    y, x = np.divmod(np.arange(rows * columns), columns)
    centers = np.stack([x, y], axis=-1).astype(np.float32) * stride
    centers = np.repeat(centers, anchors, axis=0)
    centers.setflags(write=False)
    return centers


@lru_cache(maxsize=16)
def _retinaface_anchors(
    size: tuple[int, int], strides: tuple[int, ...], sides: tuple[tuple[int, int], ...]
) -> tuple[FloatArray, FloatArray]:
    """The (A, 2) centers and (A, 1) sides of all levels; read-only."""
    centers, widths = [], []
    for stride, pair in zip(strides, sides, strict=True):
        level = _centers(size, stride, 2) + np.float32(stride / 2)
        centers.append(level)
        widths.append(np.tile(np.array(pair, np.float32), len(level) // 2)[:, None])
    made = np.concatenate(centers), np.concatenate(widths)
    for array in made:
        array.setflags(write=False)
    return made
