"""SCRFD's recipes: the paper's rows, and the runs behind the weights that ship."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from facefind.learn.recipe import (
    AugmentConfig,
    DataConfig,
    OptimConfig,
    Recipe,
    RunConfig,
    ScheduleConfig,
)
from facefind.systems.scrfd import FAMILY


def paper(row: str) -> Recipe:
    """The paper's training of a row of the family: 640 epochs, SGD, sample redistribution.

    Source: SCRFD, sec. 5.1.
    Differs: none of the authors' four GPUs are assumed; the batch of 32 is one step's, over
    however many processes there are.
    """
    return Recipe(name=row, network=FAMILY[row])


def short(row: str, epochs: float = 60.0) -> Recipe:
    """A training of hours on a CPU: the same face sizes in windows of half the side.

    Half the window (320 pixels) and half the crop sides keep the scale at which faces are seen,
    at a quarter of the work. AdamW on a cosine with averaged weights needs fewer epochs than the
    paper's schedule. Rare events are drawn more often, and faces under 4 pixels are ignored.
    """
    base = paper(row)
    return replace(
        base,
        name=f"{row}-short",
        data=DataConfig(balance=0.5),
        augment=AugmentConfig(
            size=320,
            crop_sides=tuple(side / 2 for side in base.augment.crop_sides),
            min_face=4.0,
        ),
        optim=OptimConfig(name="adamw", lr=2e-3, weight_decay=0.05, ema=0.999, clip=10.0),
        schedule=ScheduleConfig(epochs=epochs, kind="cosine", warmup_epochs=1.0),
        run=RunConfig(precision="bf16"),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    **{row: partial(paper, row) for row in FAMILY},
    **{f"{row}-short": partial(short, row) for row in FAMILY},
}
"""SCRFD's recipes by name."""
