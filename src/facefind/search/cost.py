"""What candidate networks cost, by arithmetic alone: no network is built or run.

Legend: N candidates, S the seven parts of `PARTS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from facefind.errors import DataError
from facefind.search.candidates import NetworkCost
from facefind.systems.scrfd import ANCHOR_SIZES, STRIDES
from facefind.systems.scrfd import SCRFDConfig as SCRFDConfig

Block = Literal["depthwise", "basic", "bottleneck"]
Ints = npt.NDArray[np.int64]

PARTS = ("stem", "c2", "c3", "c4", "c5", "neck", "head")
BACKBONE = PARTS[:5]
VGA = (480, 640)
"""Height and width at which the paper counts (sec. 5.1, Table 4)."""

_STEM, _NECK, _HEAD = 0, 5, 6


@dataclass(frozen=True, eq=False)
class Population:
    """N candidates of one block, a column a number.

    Attributes:
        block: the backbone's block.
        depths: (N,4) blocks in C2..C5.
        widths: (N,4) channels of C2..C5, before a bottleneck's expansion.
        stem: (N,2) channels of a depthwise stem; residual stems use the last alone.
        neck: (N,) channels of the neck.
        head: (N,) channels of the head's tower.
        head_depth: (N,) convolutions in it.
        landmarks: whether the head also gives landmarks.
        shared: whether one head serves all levels.
        scales: whether a learned scalar a level multiplies the box output.
    """

    block: Block
    depths: Ints
    widths: Ints
    stem: Ints
    neck: Ints
    head: Ints
    head_depth: Ints
    landmarks: bool = False
    shared: bool = True
    scales: bool = True

    @classmethod
    def from_configs(cls, configs: Sequence[SCRFDConfig]) -> Population:
        """The population of configurations that agree in block, landmarks, sharing and scales.

        Raises:
            DataError: if they don't, or there are none.
        """
        kinds = {(c.block, c.landmarks, c.shared_head, c.scales) for c in configs}
        if len(kinds) != 1:
            raise DataError(f"expected configurations of one kind, got {len(kinds)} kinds")
        ((block, landmarks, shared, scales),) = kinds

        def column(values: list[int]) -> Ints:
            return np.array(values, np.int64)

        return cls(
            block,
            np.array([c.depths for c in configs], np.int64),
            np.array([c.widths for c in configs], np.int64),
            np.array([(c.stem[0], c.stem[-1]) for c in configs], np.int64),
            column([c.neck for c in configs]),
            column([c.head for c in configs]),
            column([c.head_depth for c in configs]),
            landmarks,
            shared,
            scales,
        )

    def __len__(self) -> int:
        return len(self.neck)

    def take(self, rows: npt.NDArray[np.bool_] | Ints) -> Population:
        """The candidates of a mask (N,) or of row numbers."""
        names = ("depths", "widths", "stem", "neck", "head", "head_depth")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


def cost(config: SCRFDConfig, height: int = VGA[0], width: int = VGA[1]) -> NetworkCost:
    """Cost of one configuration for an image of `height` x `width` pixels."""
    population = Population.from_configs([config])
    adds, numbers = multiply_adds(population, height, width)[0], parameters(population)[0]
    return NetworkCost(
        {part: int(n) for part, n in zip(PARTS, numbers, strict=True)},
        {part: int(n) for part, n in zip(PARTS, adds, strict=True)},
    )


def multiply_adds(population: Population, height: int = VGA[0], width: int = VGA[1]) -> Ints:
    """Multiply-adds (N,S) of convolutions for one image; biases and normalization don't count.

    Raises:
        DataError: if a side is not a multiple of 32.
    """
    if height % 32 or width % 32 or min(height, width) < 32:
        raise DataError(f"cost of {width}x{height}: both sides must be multiples of 32")
    total = np.zeros((len(population), len(PARTS)), np.int64)
    for layer in _layers(population):
        cells = sum((height // stride) * (width // stride) for stride in layer.strides)
        total[:, layer.part] += layer.count * layer.weights * cells
    return total


def parameters(population: Population) -> Ints:
    """Learned numbers (N,S), normalization and biases included."""
    total = np.zeros((len(population), len(PARTS)), np.int64)
    for layer in _layers(population):
        total[:, layer.part] += layer.count * layer.copies * (layer.weights + layer.extra)
    if population.scales:
        total[:, _HEAD] += len(STRIDES)
    return total


@dataclass(frozen=True, eq=False)
class _Layer:
    """`count` equal convolutions, applied at `strides`, with `extra` biases or norm weights."""

    part: int
    weights: Ints
    extra: Ints
    strides: tuple[int, ...]
    count: Ints | int = 1
    copies: int = 1


def _layers(p: Population) -> Iterator[_Layer]:
    """Every convolution of the networks; mirrors `SCRFDConfig.build`, as the tests make sure."""
    last = p.stem[:, 1]
    if p.block == "depthwise":
        first = p.stem[:, 0]
        yield _Layer(_STEM, 27 * first, 2 * first, (2,))
        yield from _separable(_STEM, first, last, 2)
    else:
        half = last // 2
        for inputs, outputs in ((np.full_like(half, 3), half), (half, half), (half, last)):
            yield _Layer(_STEM, 9 * inputs * outputs, 2 * outputs, (2,))
    inputs, stride = last, 2
    expansion = 4 if p.block == "bottleneck" else 1
    for stage in range(4):
        width, more = p.widths[:, stage], p.depths[:, stage] - 1
        part, before, stride = stage + 1, 4 if stage == 0 else stride, 4 * 2**stage
        if p.block == "depthwise":
            yield from _separable(part, inputs, width, stride)
            yield from _separable(part, width, width, stride, more)
        else:
            outputs = width * expansion
            yield from _residual(p.block, part, inputs, width, before, stride)
            yield from _residual(p.block, part, outputs, width, stride, stride, more)
            changes = (inputs != outputs) | (before != stride)
            yield _Layer(part, inputs * outputs, 2 * outputs, (stride,), changes.astype(np.int64))
        inputs = width * expansion
    n = p.neck
    for level, stride in enumerate(STRIDES):
        yield _Layer(_NECK, p.widths[:, level + 1] * expansion * n, n, (stride,))
    for strides in (STRIDES, STRIDES[1:], STRIDES[1:]):
        for stride in strides:
            yield _Layer(_NECK, 9 * n * n, n, (stride,))
    h, copies = p.head, 1 if p.shared else len(STRIDES)
    for inputs, count in ((n, 1), (h, p.head_depth - 1)):
        if p.block == "depthwise":
            yield from _separable(_HEAD, inputs, h, STRIDES, count, copies)
        else:
            yield _Layer(_HEAD, 9 * inputs * h, 2 * h, STRIDES, count, copies)
    values = len(ANCHOR_SIZES[0]) * (1 + 4 + (10 if p.landmarks else 0))
    yield _Layer(_HEAD, 9 * h * values, np.full_like(h, values), STRIDES, 1, copies)


def _separable(
    part: int,
    inputs: Ints,
    outputs: Ints,
    strides: int | tuple[int, ...],
    count: Ints | int = 1,
    copies: int = 1,
) -> Iterator[_Layer]:
    at = (strides,) if isinstance(strides, int) else strides
    yield _Layer(part, 9 * inputs, 2 * inputs, at, count, copies)
    yield _Layer(part, inputs * outputs, 2 * outputs, at, count, copies)


def _residual(
    block: Block,
    part: int,
    inputs: Ints,
    width: Ints,
    before: int,
    stride: int,
    count: Ints | int = 1,
) -> Iterator[_Layer]:
    """The convolutions of residual blocks without their shortcut."""
    if block == "basic":
        yield _Layer(part, 9 * inputs * width, 2 * width, (stride,), count)
        yield _Layer(part, 9 * width * width, 2 * width, (stride,), count)
    else:
        yield _Layer(part, inputs * width, 2 * width, (before,), count)
        yield _Layer(part, 9 * width * width, 2 * width, (stride,), count)
        yield _Layer(part, 4 * width * width, 8 * width, (stride,), count)
