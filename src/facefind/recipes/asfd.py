"""ASFD's recipes: every row of the paper's tables, the released network, and ours from scratch.

`asfd-dN` is the family of table 4. `asfd-r50-PYRAMID-CONTEXT` is a light DSFD with the feature
modules of a column of table 1, to which `-aux` (the first shot), `-mc`, `-dr` and `-drmc` add parts
of the loss (table 3). `asfd-d0-short` trains the smallest network on a CPU, from scratch,
`asfd-d0-gpu` in minutes on a GPU; `asfd-d0-finetune` goes on from the weights that ship. Table 2
compares searches, whose cells were never released.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

from facefind.learn.recipe import (
    AugmentConfig,
    NetworkConfig,
    OptimConfig,
    Recipe,
    RunConfig,
    ScheduleConfig,
)
from facefind.recipes.dsfd import CROP_SIDES
from facefind.recipes.dsfd import short as light_dsfd
from facefind.recipes.finetune import finetune
from facefind.recipes.scrfd import WIDER_IMAGES, on_gpu
from facefind.systems import dsfd
from facefind.systems.asfd import DRMC, R50, ROWS

_BATCH, _EPOCHS, _RATE = 48, 50, 0.015


def paper(name: str, network: NetworkConfig) -> Recipe:
    """The paper's training of a network: 50 epochs of SGD, a warm-up of 500 steps, DRMC loss.

    Source: ASFD, sec. 4.1.
    Differs: backbones began with weights of ImageNet, and begin at random here unless
    `run.init_from` names them. The paper does not say how images are augmented: as for DSFD, which
    it builds on. Nor that the family was tested in one pass, but for "single-scale" in fig. 1.
    """
    return Recipe(
        name=name,
        network=network,
        criterion=DRMC,
        augment=AugmentConfig(crop_sides=CROP_SIDES, crop_policy="anchor"),
        optim=OptimConfig(lr=_RATE, momentum=0.9, weight_decay=5e-4, clip=0.0),
        schedule=ScheduleConfig(
            epochs=float(_EPOCHS),
            batch=_BATCH,
            warmup_epochs=500 * _BATCH / WIDER_IMAGES,
            warmup_factor=1e-6 / _RATE,
            steps=(25 / _EPOCHS, 40 / _EPOCHS),
        ),
        protocol="asfd-single",
    )


Terms = Literal["", "aux", "aux-mc", "aux-dr", "aux-drmc"]
"""What table 3 adds to the baseline's loss."""


def ablated(pyramid: str, context: str, terms: Terms = "") -> Recipe:
    """A column of table 1, or a row of table 3: the light DSFD with other feature modules or terms.

    Args:
        pyramid: `none`, `fem`, `bifpn`, `pafpn` or `autofem`.
        context: `none`, `fem`, `rfe`, or `cpm`: the hand-made cell, for want of the searched ones.
        terms: the first shot (`aux`), the margin (`mc`), the distance (`dr`), or both.

    Source: ASFD, sec. 4.2, tables 1 and 3.
    Differs: the paper does not say which modules table 3's baseline has; its APs are those of
    table 1's product and branches (`fem`, `fem`). Inferred, too, that table 1 has no first shot:
    with it and DRMC, its last column would be table 3's last row.
    """
    network = replace(R50, pyramid=pyramid, context=context, first_shot="half" if terms else "none")
    criterion = replace(
        dsfd.RELEASED_CRITERION,
        classification=(
            DRMC.classification
            if terms in ("aux-mc", "aux-drmc")
            else dsfd.RELEASED_CRITERION.classification
        ),
        box=DRMC.box if terms in ("aux-dr", "aux-drmc") else dsfd.RELEASED_CRITERION.box,
    )
    name = "-".join(filter(None, ("asfd-r50", pyramid, context, terms)))
    return replace(paper(name, network), criterion=criterion, protocol="asfd")


def short() -> Recipe:
    """A training of D0 on a CPU, from scratch: that of `dsfd-light-short`, by ASFD's losses."""
    return replace(
        light_dsfd(),
        name="asfd-d0-short",
        network=ROWS["asfd-d0"],
        criterion=replace(DRMC, sampler=replace(DRMC.sampler, min_negatives=100)),
        run=RunConfig(precision="auto"),
    )


def gpu() -> Recipe:
    """The training of D0 for minutes on a GPU: what `short` learns, as `scrfd.on_gpu` has it."""
    return on_gpu(replace(short(), run=RunConfig()))


def tuned() -> Recipe:
    """Go on from the weights of `asfd-d0` that ship."""
    return finetune(short(), "asfd-d0")


COLUMNS = (
    *(("none", "none"), ("fem", "none"), ("bifpn", "none"), ("pafpn", "none")),
    *(("autofem", "none"), ("none", "fem"), ("none", "rfe"), ("none", "cpm")),
    *(("fem", "fem"), ("fem", "rfe"), ("fem", "cpm")),
    *(("autofem", "fem"), ("autofem", "rfe"), ("autofem", "cpm")),
)
"""Pyramid and context of the columns of table 1, from left to right."""


def _table(*rows: tuple[str, str, Terms]) -> dict[str, Callable[[], Recipe]]:
    return {ablated(*row).name: partial(ablated, *row) for row in rows}


TABLE_1 = _table(*((pyramid, context, "") for pyramid, context in COLUMNS))
TABLE_3 = _table(
    ("fem", "fem", ""),
    ("fem", "fem", "aux"),
    ("fem", "fem", "aux-mc"),
    ("fem", "fem", "aux-dr"),
    ("fem", "fem", "aux-drmc"),
    ("autofem", "cpm", "aux-drmc"),
)
TABLE_4: dict[str, Callable[[], Recipe]] = {
    row: partial(paper, row, ROWS[row]) for row in ROWS if row.startswith("asfd-d")
}
"""The family, and with `-cpm` the same with hand-made context modules."""

RECIPES: dict[str, Callable[[], Recipe]] = {
    **TABLE_4,
    **TABLE_1,
    **TABLE_3,
    "asfd-d0-short": short,
    "asfd-d0-gpu": gpu,
    "asfd-d0-finetune": tuned,
}
"""ASFD's recipes by name."""
