"""Drawing networks of a search space under a multiply-add goal.

The `paper` sampler gives exactly what "draw uniformly until the cost is right" gives, without the
waiting: of the networks within the ranges only a few in a billion cost what small goals ask, so
proposals are confined, for each set of widths, to the depths that can still meet the goal; each
network that meets it stays equally likely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, combinations_with_replacement
from math import comb
from typing import get_args

import numpy as np
import numpy.typing as npt

from facefind.errors import DataError
from facefind.search.cost import (
    BACKBONE,
    Block,
    Ints,
    Population,
    SCRFDConfig,
    cost,
    multiply_adds,
)
from facefind.search.space import STEP, Goal, PaperSpace, ReleasedSpace, Space, groups

Bools = npt.NDArray[np.bool_]
Shares = Mapping[str, tuple[float, float]]
"""Part of the backbone -> least and greatest fraction of the backbone's multiply-adds."""

_CHUNK = 1 << 16
_LIMIT = 200_000_000


def backbones(space: Space, goal: Goal, count: int, seed: int = 0) -> list[SCRFDConfig]:
    """Step 1: distinct networks on the goal, with its neck and head and free backbones.

    Raises:
        DataError: if the space holds no such network, or too few to be found.
    """
    rng = np.random.default_rng((seed, 1))
    if isinstance(space, ReleasedSpace):
        draw = _released_backbones(space, goal, rng)
    else:
        fixed = np.array([[goal.neck, goal.head, goal.head_depth]], np.int64)
        draw = _paper(space, goal, rng, fixed, None)
    return _collect(draw, space, goal, count)


def detectors(
    space: Space,
    goal: Goal,
    count: int,
    seed: int = 0,
    *,
    shares: Shares | None = None,
    template: SCRFDConfig | None = None,
) -> list[SCRFDConfig]:
    """Step 2: distinct networks on the goal with all parts free.

    Args:
        space: `paper` keeps backbones within `shares`; `released` scales `template`.
        goal: the compute regime; its neck and head are not used.
        count: how many.
        seed: of the draw.
        shares: step 1's interval for each part of the backbone; where there are none, any backbone
            may be drawn.
        template: step 1's best network.

    Raises:
        DataError: if the space holds no such network, or too few to be found.
    """
    rng = np.random.default_rng((seed, 2))
    if isinstance(space, ReleasedSpace):
        if template is None:
            raise DataError("step 2 of the released space needs a template from step 1")
        return _collect(_released_detectors(space, template, rng), space, goal, count)
    if shares is None:
        raise DataError("step 2 needs the shares that step 1 has found")
    columns = (space.neck.values(), space.head.values(), space.head_depth.values())
    free = np.stack(np.meshgrid(*columns, indexing="ij"), -1).reshape(-1, 3).astype(np.int64)
    return _collect(_paper(space, goal, rng, free, shares), space, goal, count)


def on_goal(population: Population, goal: Goal) -> Bools:
    """Which of the candidates (N,) lie in the goal's band."""
    low, high = goal.band
    total = multiply_adds(population).sum(1)
    good: Bools = (low <= total) & (total <= high)
    return good


def backbone_shares(population: Population) -> npt.NDArray[np.float64]:
    """Fractions (N,5) of the backbone's multiply-adds in stem, C2, C3, C4, C5."""
    parts = multiply_adds(population)[:, : len(BACKBONE)]
    shares: npt.NDArray[np.float64] = parts / parts.sum(1, keepdims=True)
    return shares


Draw = Callable[[], Population]


def _collect(draw: Draw, space: Space, goal: Goal, count: int) -> list[SCRFDConfig]:
    """The first `count` distinct candidates on the goal that `draw` proposes."""
    found: dict[SCRFDConfig, None] = {}
    tried = 0
    while len(found) < count:
        proposals = draw()
        tried += _CHUNK
        kept = proposals.take(on_goal(proposals, goal))
        for config in _configs(kept, space):
            found.setdefault(config)
            if len(found) == count:
                break
        if tried >= _LIMIT or (tried >= _LIMIT // 20 and not found):
            raise DataError(
                f"{len(found)} of {count} networks of {goal.gflops:g} GF "
                f"(within {goal.tolerance:.0%}) were found in the space {space.name!r} after "
                f"{tried:,} proposals; widen the tolerance, or ask for fewer"
            )
    return list(found)


def _configs(population: Population, space: Space) -> Iterator[SCRFDConfig]:
    for row in range(len(population)):
        neck, head = int(population.neck[row]), int(population.head[row])
        depthwise = population.block == "depthwise"
        stem = tuple(int(s) for s in population.stem[row])
        yield SCRFDConfig(
            block=population.block,
            depths=_four(population.depths[row]),
            widths=_four(population.widths[row]),
            stem=stem if depthwise else stem[1:],
            neck=neck,
            head=head,
            head_depth=int(population.head_depth[row]),
            head_groups=groups(space.name, head, neck if depthwise else None),
        )


def _four(values: Ints) -> tuple[int, int, int, int]:
    a, b, c, d = (int(value) for value in values)
    return a, b, c, d


# The paper's space


@dataclass(frozen=True, eq=False)
class _Boxes:
    """Every set of widths that can meet the goal, with the depths worth proposing for it.

    Attributes:
        widths: (M,4) non-decreasing.
        least: (M,4) fewest blocks a stage.
        most: (M,4) most blocks a stage.
        ends: (M,) running sum of the number of networks in the boxes.
    """

    widths: Ints
    least: Ints
    most: Ints
    ends: Ints


def _paper(
    space: PaperSpace,
    goal: Goal,
    rng: np.random.Generator,
    rest: Ints,
    shares: Shares | None,
) -> Draw:
    """Draws uniform proposals: a backbone of the boxes, and a row of `rest` (neck, head, depth)."""
    if goal.block == "either":
        blocks: tuple[Block, ...] = ("basic", "bottleneck")
    else:
        blocks = (goal.block,)
    boxes = [_boxes(space, goal, block, rest, shares) for block in blocks]
    sizes = np.array([int(box.ends[-1]) if len(box.ends) else 0 for box in boxes], float)
    if not sizes.any():
        raise DataError(
            f"no network of the space {space.name!r} costs {goal.gflops:g} GF with these settings; "
            "change the neck, the head or the goal"
        )

    def draw() -> Population:
        which = int(rng.choice(len(blocks), p=sizes / sizes.sum()))
        block, box = blocks[which], boxes[which]
        row = np.searchsorted(box.ends, rng.integers(box.ends[-1], size=_CHUNK), side="right")
        widths = box.widths[row]
        depths = rng.integers(box.least[row], box.most[row], endpoint=True)
        others = rest[rng.integers(len(rest), size=_CHUNK)]
        stem = np.stack([widths[:, 0], widths[:, 0]], 1)
        if block == "depthwise":
            stem = _stems(widths[:, 0], rng)
        neck, head, head_depth = others.T
        proposals = Population(block, depths, widths, stem, neck, head, head_depth)
        if shares is not None:
            found = backbone_shares(proposals)
            keep = np.ones(len(proposals), bool)
            for part, (low, high) in shares.items():
                column = found[:, BACKBONE.index(part)]
                keep &= (low <= column) & (column <= high)
            proposals = proposals.take(keep)
        return proposals

    return draw


def _stems(first_width: Ints, rng: np.random.Generator) -> Ints:
    """One of the pairs s_1 <= s_2 <= w_1 of multiples of 8 for each w_1, uniformly: (N,2)."""
    most = first_width // STEP
    place = rng.integers(most * (most + 1) // 2)
    # Pair number p of 0, 1, 2, ... is (i, j), i <= j, with p = j (j - 1) / 2 + i - 1.
    last = ((np.sqrt(8 * place + 1) + 1) // 2).astype(np.int64)
    first = place - last * (last - 1) // 2 + 1
    return np.stack([first, last], 1) * STEP


def _boxes(
    space: PaperSpace, goal: Goal, block: Block, rest: Ints, shares: Shares | None
) -> _Boxes:
    """For all widths at once: the range of each depth outside which no network is on the goal."""
    values = space.width.values()
    sets = combinations_with_replacement(values, 4)
    widths = np.fromiter(chain.from_iterable(sets), np.int64, 4 * comb(len(values) + 3, 4)).reshape(
        -1, 4
    )
    widths = widths[(widths <= _widest(space, goal, block, rest)).all(1)]
    ones = np.ones(len(widths), np.int64)
    narrow = STEP * np.ones((len(widths), 2), np.int64)
    stem = narrow if block == "depthwise" else widths[:, :1].repeat(2, 1)

    def parts(depth: int, row: Ints, stem: Ints = stem) -> Ints:
        depths = depth * np.ones_like(widths)
        neck, head, head_depth = (n * ones for n in row)
        return multiply_adds(Population(block, depths, widths, stem, neck, head, head_depth))

    low, high = goal.band
    # The neck's and head's cost grows in each of their three numbers.
    small, large = parts(1, rest.min(0)), parts(1, rest.max(0))
    first = small[:, 1:5]
    more = parts(2, rest.min(0))[:, 1:5] - first
    stems = small[:, 0]
    top: npt.NDArray[np.float64] = high - small[:, 5:].sum(1).astype(float)
    bottom = np.maximum(low - large[:, 5:].sum(1), 0).astype(float)
    if block == "depthwise":
        widest = widths[:, :1].repeat(2, 1)
        wide = multiply_adds(
            Population(
                block, np.ones_like(widths), widths, widest, *(n * ones for n in rest.max(0))
            )
        )
        bottom_of_depths = bottom - wide[:, 0] - (wide[:, 1:5].sum(1) - first.sum(1))
    else:
        bottom_of_depths = bottom - stems
        if shares is not None and "stem" in shares:
            least, greatest = shares["stem"]
            top = np.minimum(top, stems / max(least, 1e-9))
            bottom = np.maximum(bottom, stems / max(greatest, 1e-9))
            bottom_of_depths = bottom - stems
    slowest, deepest = space.depth.low, space.depth.high
    spare = top - stems - first.sum(1) - (slowest - 1) * more.sum(1)
    most = np.minimum(slowest + np.floor(spare[:, None] / more), deepest)
    reach = first.sum(1) + ((most - 1) * more).sum(1)
    missing = reach - bottom_of_depths  # what the depths at their most have to spare
    least_depths = np.maximum(most - np.floor(missing[:, None] / more), slowest)
    if shares is not None:
        for stage, part in enumerate(BACKBONE[1:]):
            if part not in shares:
                continue
            # C2's first block depends on a depthwise stem's width: leave it a block of room.
            room = 1 if block == "depthwise" and stage == 0 else 0
            lowest, highest = shares[part]
            at_most = 1 + np.floor((highest * top - first[:, stage]) / more[:, stage])
            at_least = 1 + np.ceil((lowest * bottom - first[:, stage]) / more[:, stage]) - room
            most[:, stage] = np.minimum(most[:, stage], at_most)
            least_depths[:, stage] = np.maximum(least_depths[:, stage], at_least)
    sizes = most - least_depths + 1
    possible = (sizes > 0).all(1) & (spare >= 0) & (missing >= 0) & (top >= bottom)
    sizes, widths = sizes[possible].astype(np.int64), widths[possible]
    networks = sizes.prod(1)
    if block == "depthwise":
        pairs = widths[:, 0] // STEP
        networks = networks * (pairs * (pairs + 1) // 2)
    return _Boxes(
        widths,
        least_depths[possible].astype(np.int64),
        most[possible].astype(np.int64),
        np.cumsum(networks),
    )


def _widest(space: PaperSpace, goal: Goal, block: Block, rest: Ints) -> Ints:
    """Greatest width (4,) that each stage can have on the goal, whatever the others are."""
    values = np.array(space.width.values(), np.int64)
    most = np.zeros(4, np.int64)
    for stage in range(4):
        # The cheapest networks with this width here: the narrowest before, no wider after.
        widths = np.full((len(values), 4), values[0])
        widths[:, stage:] = values[:, None]
        stem = np.full((len(values), 2), STEP) if block == "depthwise" else widths[:, [0, 0]]
        neck, head, head_depth = (np.full(len(values), n) for n in rest.min(0))
        depths = np.full_like(widths, space.depth.low)
        cheapest = Population(block, depths, widths, stem, neck, head, head_depth)
        fitting = values[multiply_adds(cheapest).sum(1) <= goal.band[1]]
        most[stage] = fitting.max(initial=0)
    return most


# The released script's space


def _released_backbones(space: ReleasedSpace, goal: Goal, rng: np.random.Generator) -> Draw:
    blocks = [b for b in get_args(Block) if b != "depthwise" and goal.block in (b, "either")]

    def draw() -> Population:
        block = blocks[int(rng.integers(len(blocks)))]
        shape = (_CHUNK, 4)
        depths = rng.integers(space.depth.low, space.depth.high, shape, endpoint=True)
        widths = np.empty(shape, np.int64)
        base = rng.integers(space.base.low, space.base.high, _CHUNK, endpoint=True)
        widths[:, 0] = _floor(base)
        for stage in range(1, 4):
            ratio = rng.uniform(space.ratio.low, space.ratio.high, _CHUNK)
            widths[:, stage] = _floor(widths[:, stage - 1] * ratio)
        stem = widths[:, :1].repeat(2, 1)
        neck, head, head_depth = (
            np.full(_CHUNK, n, np.int64) for n in (goal.neck, goal.head, goal.head_depth)
        )
        return Population(block, depths, widths, stem, neck, head, head_depth)

    return draw


def _released_detectors(
    space: ReleasedSpace, template: SCRFDConfig, rng: np.random.Generator
) -> Draw:
    adds = cost(template).multiply_adds
    target = np.array([adds[part] / adds["stem"] for part in BACKBONE[1:]])

    def draw() -> Population:
        depth = rng.uniform(space.depth_factor.low, space.depth_factor.high, (_CHUNK, 1))
        width = rng.uniform(space.width_factor.low, space.width_factor.high, (_CHUNK, 1))
        depths = np.maximum(np.round(np.array([template.depths]) * depth), 1).astype(np.int64)
        widths = _floor(np.round(np.array([template.widths]) * width))

        def number(low: int, high: int) -> Ints:
            return rng.integers(low, high, _CHUNK, endpoint=True)

        proposals = Population(
            template.block,
            depths,
            widths,
            widths[:, :1].repeat(2, 1),
            _floor(number(space.neck.low, space.neck.high)),
            _floor(number(space.head.low, space.head.high)),
            number(space.head_depth.low, space.head_depth.high),
        )
        parts = multiply_adds(proposals)
        ratios = parts[:, 1:5] / parts[:, :1]
        near: Bools = np.all(np.abs(target / ratios - 1) <= space.shares_within, axis=1)
        return proposals.take(near)

    return draw


def _floor(values: npt.NDArray[np.floating] | Ints) -> Ints:
    """Multiples of 8 at or below the values, and never 0."""
    return np.maximum(values.astype(np.int64) // STEP * STEP, STEP)
