"""SCRFD's recipes: the paper's rows, short trainings for a CPU, and minutes on a GPU.

Four trainings of a row: `ROW` is the paper's, `ROW-released` that of the authors' configuration
file where it differs, `ROW-short` ours for a CPU, `ROW-gpu` ours for a GPU. `ROW-nosr` leaves
sample redistribution out, `ROW-finetune` goes on from the weights that ship.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from facefind.learn.recipe import (
    AugmentConfig,
    DataConfig,
    OptimConfig,
    Phase,
    Recipe,
    RunConfig,
    ScheduleConfig,
)
from facefind.recipes.finetune import dark, finetune
from facefind.systems.scrfd import CRITERION, FAMILY, ROWS

BASELINE_SIDES = (0.3, 0.45, 0.6, 0.8, 1.0)
"""Crop sides without sample redistribution (sec. 5.1)."""
REDISTRIBUTED_SIDES = (*BASELINE_SIDES, 1.2, 1.4, 1.6, 1.8, 2.0)
"""Crop sides with sample redistribution (sec. 4.1 and 5.1)."""
MEAN_COLOR = (115, 106, 99)
"""Mean RGB of WIDER FACE's training images, over 1,600 of them (standard error 0.8):
the paper's filling."""
RELEASED_GRAY = (128, 128, 128)
"""The released code's filling."""

WIDER_IMAGES = 12_880
_RELEASED_WARMUP = 1500 * 32 / WIDER_IMAGES  # 1,500 steps of 32 images
_RELEASED_RATES = {"scrfd-34g": 0.02, "resnet-2.5g": 0.02, "resnet-34g": 0.02}
_RELEASED_UNCUT = ("1.3g", "2.5g", "10g")  # bbox_clip_border=False in these SCRFDs
_UNRELEASED = ("scrfd-1g-kps", "scrfd-34g-kps")
_VARIANTS = ("resnet-34g-released",)  # networks of a released training, not rows of a table


def paper(row: str, *, redistribute: bool = True) -> Recipe:
    """The paper's training of a row: 640 epochs from scratch, SGD, 640 x 640 crops.

    Args:
        row: a name in `ROWS`.
        redistribute: whether crops may be larger than the image (the "SR" of table 3).

    Source: SCRFD, sec. 5.1; tables 3 and 4.
    Differs: none of the authors' four GPUs are assumed; the batch of 32 is one step's, over
    however many processes there are.
    """
    return Recipe(
        name=row if redistribute else f"{row}-nosr",
        network=ROWS[row],
        criterion=CRITERION,
        augment=AugmentConfig(
            crop_sides=REDISTRIBUTED_SIDES if redistribute else BASELINE_SIDES, fill=MEAN_COLOR
        ),
        optim=OptimConfig(clip=0.0),
    )


def released(row: str) -> Recipe:
    """The training of a row as the authors' configuration file has it.

    Gray filling, a color jitter that also swaps channels, boxes uncut for some rows, a warm-up of
    1,500 steps, twice the rate for the largest, and a ResNet baseline of another depth.

    Source: the authors' code; docs/papers/scrfd.md has the details.
    """
    base = paper(row)
    schedule = replace(base.schedule, warmup_epochs=_RELEASED_WARMUP)
    if row == "resnet-34g":
        schedule = replace(schedule, epochs=400.0, steps=(275 / 400, 340 / 400))
    if row == "scrfd-500m-kps":
        schedule = replace(schedule, batch=64, warmup_epochs=2 * _RELEASED_WARMUP)
    uncut = row.startswith("scrfd-") and row.split("-")[1] in _RELEASED_UNCUT
    return replace(
        base,
        name=f"{row}-released",
        network=ROWS.get(f"{row}-released", ROWS[row]),
        augment=replace(
            base.augment, fill=RELEASED_GRAY, channel_shuffle=True, clip_boxes=not uncut
        ),
        optim=replace(base.optim, lr=_RELEASED_RATES.get(row, base.optim.lr)),
        schedule=schedule,
    )


def on_cpu(recipe: Recipe) -> Recipe:
    """A recipe with the course of a training of an hour on a CPU, `-short` in its name.

    Half the window (320 pixels) and half the crop sides keep the scale at which faces are seen,
    at a quarter of the work. AdamW on a cosine with averaged weights needs fewer epochs than the
    papers' schedules. Rare events are drawn more often, three in ten crops fall anywhere, so that
    no faces are found in empty pictures, and faces under 4 pixels are ignored.
    """
    return replace(
        recipe,
        name=f"{recipe.name}-short",
        data=DataConfig(balance=0.5),
        augment=replace(
            recipe.augment,
            size=320,
            crop_sides=tuple(side / 2 for side in recipe.augment.crop_sides),
            background=0.3,
            min_face=4.0,
        ),
        optim=OptimConfig(name="adamw", lr=1.5e-3, weight_decay=0.05, ema=0.999, clip=10.0),
        schedule=ScheduleConfig(epochs=18.0, batch=16, kind="cosine", warmup_epochs=1.0),
        run=RunConfig(init_from=recipe.run.init_from, precision="auto"),
    )


def short(row: str) -> Recipe:
    """The training of a row on a CPU: see `on_cpu`."""
    return on_cpu(paper(row))


def on_gpu(recipe: Recipe) -> Recipe:
    """A recipe with the course of a training of nine minutes on a GPU, `-gpu` in its name.

    What it learns stays: network, losses, hard image mining, and the weights it begins with. Crops
    by faces' centers, of 640 pixels, of 448 in the first 35 % of the time; those in which faces
    shrink a little are drawn twice as often. AdamW on a cosine with averaged weights. Without
    minutes the run has 86 epochs: what 530 seconds were on one H200 for the 2.5 GF network and
    5,810 images.
    """
    return replace(
        recipe,
        name=f"{recipe.name.removesuffix('-short')}-gpu",
        data=DataConfig(balance=0.4, cache="auto", workers=None),
        augment=replace(
            recipe.augment,
            size=640,
            phases=(Phase(until=0.35, size=448),),
            crop_policy="face-center",
            anchor_octaves=0.0,
            crop_sides=(*REDISTRIBUTED_SIDES, 1.2, 1.4, 1.6),
            background=0.15,
            gray=0.05,
            min_face=4.0,
        ),
        optim=OptimConfig(name="adamw", lr=2e-3, weight_decay=0.05, ema=0.9995, clip=10.0),
        schedule=ScheduleConfig(
            epochs=86.0, minutes=9.0, batch=64, kind="cosine", warmup_epochs=0.86
        ),
        run=RunConfig(init_from=recipe.run.init_from, precision="auto", compile=True, graphs=True),
    )


def gpu(row: str) -> Recipe:
    """The training of a row for minutes on a GPU: see `on_gpu`."""
    return on_gpu(paper(row))


def tuned(row: str) -> Recipe:
    """The fine-tuning of a model that ships, in the windows of its short training."""
    return finetune(short(row), row)


def for_dark_faces(row: str) -> Recipe:
    """The fine-tuning of a model that ships for faces in little light."""
    return dark(short(row), row)


SHIPPED = ("scrfd-500m-kps", "scrfd-2.5g-kps")
"""Rows whose weights come with the package."""
_TABLE = [row for row in ROWS if row not in _VARIANTS]
RECIPES: dict[str, Callable[[], Recipe]] = {
    **{row: partial(paper, row) for row in _TABLE},
    **{f"{row}-nosr": partial(paper, row, redistribute=False) for row in _TABLE},
    **{f"{row}-released": partial(released, row) for row in _TABLE if row not in _UNRELEASED},
    **{f"{row}-short": partial(short, row) for row in FAMILY},
    **{f"{row}-gpu": partial(gpu, row) for row in FAMILY},
    **{f"{row}-finetune": partial(tuned, row) for row in SHIPPED},
    **{f"{row}-dark": partial(for_dark_faces, row) for row in SHIPPED},
}
"""SCRFD's recipes by name."""
