"""Search spaces: which networks may be drawn, and where each limit comes from.

Two spaces by name. `paper` is the paper's text; `released` is the authors' published script.
Legend: d blocks in a stage, w channels of a stage, n of the neck, h of the head, m its depth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from facefind.errors import DataError
from facefind.search.cost import Block

SpaceName = Literal["paper", "released"]
STEP = 8
"""Every width is a multiple of this (sec. 4.2), and none is 0."""

_PAPER = "SCRFD, sec. 4.2"
_CODE = "insightface, detection/scrfd/search_tools/generate_configs_2.5g.py"
_LEAST = "the lower end is ours: the paper names only the upper one"


@dataclass(frozen=True)
class Range:
    """The values low, low + step, ..., high (both included), with the source of these limits."""

    low: int
    high: int
    step: int
    source: str

    def __contains__(self, value: int) -> bool:
        return self.low <= value <= self.high and (value - self.low) % self.step == 0

    def values(self) -> list[int]:
        """Every value, rising."""
        return list(range(self.low, self.high + 1, self.step))


@dataclass(frozen=True)
class Between:
    """Any real number from low to high, with the source of these limits."""

    low: float
    high: float
    source: str


@dataclass(frozen=True)
class PaperSpace:
    """Uniform over all networks within the ranges whose widths never fall (w_(i+1) >= w_i)."""

    name: SpaceName = "paper"
    depth: Range = Range(1, 24, 1, f"{_PAPER}: d_i <= 24; {_LEAST}")
    width: Range = Range(STEP, 512, STEP, f"{_PAPER}: w_i <= 512, divisible by 8; {_LEAST}")
    neck: Range = Range(STEP, 256, STEP, f"{_PAPER}: n <= 256, divisible by 8; {_LEAST}")
    head: Range = Range(STEP, 256, STEP, f"{_PAPER}: h <= 256, divisible by 8; {_LEAST}")
    head_depth: Range = Range(1, 6, 1, f"{_PAPER}: m <= 6; {_LEAST}")
    stem: str = (
        f"residual: w_1 ({_PAPER}). Depthwise: two multiples of 8, the first no wider than the "
        "second, that no wider than w_1; ours, as the published mobile rows do it and the text "
        "gives no rule"
    )
    shares: str = (
        f"{_PAPER}: step 2 keeps backbones that follow the distribution of step 1, read as: each "
        "part's share of the backbone lies in step 1's 95 % interval"
    )
    slack: float = 0.1
    """The interval reaches at least this fraction of its median to both sides; ours, so that a
    search with few models leaves room (the released script's tolerance is the same)."""


@dataclass(frozen=True)
class ReleasedSpace:
    """What the authors' script draws: ratios from stage to stage, then one factor for all.

    Differs: the script can floor a width to 0 and round a depth to 0 in step 2; here neither
    falls below 8 and 1.
    """

    name: SpaceName = "released"
    depth: Range = Range(1, 10, 1, f"{_CODE}: stage_blocks")
    base: Range = Range(8, 64, 1, f"{_CODE}: base_channels, floored to a multiple of 8")
    ratio: Between = Between(1.0, 4.0, f"{_CODE}: stage_planes_ratio, width to the next width")
    depth_factor: Between = Between(0.5, 3.0, f"{_CODE}: stage_blocks_ratio, one for all stages")
    width_factor: Between = Between(0.5, 3.0, f"{_CODE}: base_channels_ratio, one for all stages")
    neck: Range = Range(8, 128, 1, f"{_CODE}: fpn_channel, floored to a multiple of 8")
    head: Range = Range(8, 256, 1, f"{_CODE}: head_channel, floored to a multiple of 8")
    head_depth: Range = Range(1, 4, 1, f"{_CODE}: head_stack")
    template: str = f"{_CODE}: step 2 scales one network of step 1, here its best"
    shares_within: float = 0.1
    """Step 2 keeps a network if each stage's cost relative to the stem's is within this fraction
    of the template's (five times --eps in the script)."""


Space = PaperSpace | ReleasedSpace
SPACES: dict[SpaceName, Space] = {"paper": PaperSpace(), "released": ReleasedSpace()}


@dataclass(frozen=True, kw_only=True)
class Goal:
    """The compute regime of a search, and what step 1 keeps fixed.

    Attributes:
        gflops: billions of multiply-adds at 640x480 (the paper's "Gflops").
        block: the backbone's block; "either" draws basic or bottleneck for each network.
        neck: channels of the neck in step 1.
        head: channels of the head in step 1.
        head_depth: convolutions of the head in step 1.
        tolerance: how far from the goal a network may lie, as a fraction.
        source: where the fixed values come from.
    """

    gflops: float
    block: Block | Literal["either"]
    neck: int
    head: int
    head_depth: int = 2
    tolerance: float = field(default=0.02)
    source: str = "given by the user"

    def __post_init__(self) -> None:
        if not (0 < self.gflops < math.inf and 0 < self.tolerance < 1):
            raise DataError(
                f"expected positive gflops and a tolerance between 0 and 1, got {self.gflops} "
                f"and {self.tolerance}"
            )
        for name in ("neck", "head"):
            width = getattr(self, name)
            if width < STEP or width % STEP:
                raise DataError(f"expected {name} to be a positive multiple of {STEP}, got {width}")
        if self.head_depth < 1:
            raise DataError(f"expected head_depth of 1 or more, got {self.head_depth}")

    @property
    def band(self) -> tuple[int, int]:
        """Fewest and most multiply-adds of a network that counts as on the goal."""
        goal = self.gflops * 1e9
        return math.ceil(goal * (1 - self.tolerance)), math.floor(goal * (1 + self.tolerance))


def goal(
    gflops: float,
    space: SpaceName = "paper",
    *,
    block: Block | Literal["either"] | None = None,
    neck: int | None = None,
    head: int | None = None,
    head_depth: int | None = None,
    tolerance: float = 0.02,
) -> Goal:
    """The goal of a compute regime; what isn't given is taken from the nearest published one.

    Source: block of each regime: fig. 7 and 8; neck and head: table 2, but for 2.5 GF the text's
    neck of 32 (the table and the script have 48); tolerance: --eps of the released script, since
    the paper says only "target regime".
    """
    if not 0 < gflops < math.inf:
        raise DataError(f"expected positive gflops, got {gflops}")
    rows: dict[float, tuple[Block, int, int]] = {
        0.5: ("depthwise", 32, 80),
        2.5: ("basic", 32 if space == "paper" else 48, 96),
        10.0: ("basic", 128, 160),
        34.0: ("bottleneck", 128, 256),
    }
    nearest = min(rows, key=lambda row: abs(math.log(row / gflops)))
    usual_block, usual_neck, usual_head = rows[nearest]
    if space == "released":
        block = block or "either"
        if block == "depthwise":
            raise DataError("the released space has residual blocks only; use the space 'paper'")
    return Goal(
        gflops=gflops,
        block=block or usual_block,
        neck=neck or usual_neck,
        head=head or usual_head,
        head_depth=head_depth or 2,
        tolerance=tolerance,
        source=f"the published search nearest in size, {nearest:g} GF, where not given",
    )


def groups(space: SpaceName, head: int, first: int | None = None) -> int:
    """Groups of the head's group normalization for a tower of `head` channels.

    `released`: the last of 8, 16, 32, 64 before one that doesn't divide `head` (the script).
    `paper`, which says nothing of it: 16, or 8 where 16 doesn't divide; most published rows agree.
    `first` is the width of a depthwise tower's first normalization, which must be divided too.
    """
    sizes = (8, 16, 32, 64) if space == "released" else (8, 16)
    found = sizes[0]
    for size in sizes:
        if head % size or (first or 0) % size:
            break
        found = size
    return found
