"""How many networks a search trains, how long each, and on what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from facefind.learn.recipe import AugmentConfig, Recipe, RunConfig, ScheduleConfig
from facefind.recipes import asfd
from facefind.recipes.scrfd import paper as paper_recipe
from facefind.recipes.scrfd import short

BudgetName = Literal["paper", "small"]

_ANY_ROW = "scrfd-500m"
"""The network of a budget's recipe is replaced by each candidate's."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A search's size.

    Attributes:
        models: networks a step.
        trial: the recipe that each candidate is trained by.
        final: the recipe that the best network gets at the end.
    """

    models: int
    trial: Recipe
    final: Recipe


def paper() -> Budget:
    """The paper's search: 320 networks a step, 80 epochs each, the rate falling at 56 and 68.

    Source: SCRFD, sec. 4.2 and 5.1.
    Differs: the paper tests on WIDER FACE's validation set; here, on the held-out tenth of the
    training images, so that the validation set stays unseen. Whether its search already used
    sample redistribution is not said; here it does.
    """
    base = paper_recipe(_ANY_ROW)
    trial = replace(
        base,
        name="search-paper",
        schedule=replace(base.schedule, epochs=80.0, steps=(56 / 80, 68 / 80)),
        run=RunConfig(evaluate_images=0, log_every=100),
    )
    return Budget(models=320, trial=trial, final=base)


def small() -> Budget:
    """A search meant for an hour on two cores: 16 networks a step, two epochs of small windows.

    Windows of 160 pixels with crops of a quarter of the paper's sides show faces at the scale of
    the test, as in the recipes named `-short`; AdamW and averaged weights get further in two
    epochs than the paper's schedule would. A network's score from so little training is noisy,
    and 16 networks make wide intervals: it shows the way, it does not find the paper's networks.
    """
    base = short(_ANY_ROW)
    sides = paper_recipe(_ANY_ROW).augment.crop_sides
    trial = replace(
        base,
        name="search-small",
        data=replace(base.data, workers=0),
        augment=AugmentConfig(
            size=160, crop_sides=tuple(side / 4 for side in sides), min_face=4.0, color=False
        ),
        optim=replace(base.optim, ema=0.99),
        schedule=ScheduleConfig(epochs=2.0, batch=16, kind="cosine", warmup_epochs=0.2),
        run=RunConfig(threads=1, evaluate_images=100, log_every=100),
    )
    return Budget(models=16, trial=trial, final=base)


BUDGETS: dict[BudgetName, Callable[[], Budget]] = {"paper": paper, "small": small}
"""The budgets of SCRFD's search by name."""


def autofem_paper() -> Budget:
    """ASFD's search: 50 epochs around a light DSFD on ResNet-50 with maps of 256 channels.

    Source: ASFD, sec. 4.1 and 4.2.
    Differs: what the paper does not say of a search is as for its trainings: also the warm-up of
    500 steps. An epoch is a pass through the half of the images that weights learn from.
    """
    base = asfd.ablated("none", "none")
    warmup = 2 * base.schedule.warmup_epochs  # as many steps, in epochs of half of the images
    trial = replace(
        base,
        name="search-asfd-paper",
        optim=replace(base.optim, clip=5.0),
        schedule=replace(base.schedule, warmup_epochs=warmup),
        run=RunConfig(evaluate_images=300),
    )
    return Budget(models=1, trial=trial, final=base)


def autofem_small() -> Budget:
    """A search of D0's modules meant for two hours on two cores: windows of 160 pixels.

    As in SCRFD's small budget, crops are a quarter of a full training's, so that faces are as
    large as in a test. What is found is trained by `asfd-d0-short`.
    """
    base = asfd.short()
    trial = replace(
        base,
        name="search-asfd-small",
        data=replace(base.data, workers=0),
        augment=replace(base.augment.at(160), color=False),
        optim=replace(base.optim, ema=0.0),
        schedule=replace(base.schedule, epochs=24.0),
        run=RunConfig(threads=2, evaluate_images=100, log_every=20),
    )
    return Budget(models=1, trial=trial, final=base)


AUTOFEM_BUDGETS: dict[BudgetName, Callable[[], Budget]] = {
    "paper": autofem_paper,
    "small": autofem_small,
}
"""The budgets of ASFD's search by name."""
