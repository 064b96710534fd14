"""SmallHardFace's recipes: the paper's ablation, the released training, and ours for a CPU.

`smallhardface` is the full model with dilated head ("DH") and hard image mining ("HIM"); the other
rows of table 1 leave one or both out, or have three maps, and those of table 2 leave out parts of
the augmentation. `smallhardface-released` is the authors' code where it differs from their paper.
`smallhardface-light` has the same training for our light network, `smallhardface-light-short` one
of an hour on a CPU, `smallhardface-light-gpu` one of minutes on a GPU, and
`smallhardface-light-finetune` goes on from the weights that ship.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from facefind.learn.recipe import (
    AugmentConfig,
    MiningConfig,
    OptimConfig,
    ParameterGroup,
    Recipe,
    ResizedConfig,
    ScheduleConfig,
)
from facefind.recipes.finetune import finetune
from facefind.recipes.scrfd import MEAN_COLOR, REDISTRIBUTED_SIDES, WIDER_IMAGES, on_cpu, on_gpu
from facefind.systems.smallhardface import CRITERION, ROWS

MINING = MiningConfig(on=True, threshold=0.85, skip=0.7)
"""Hard image mining as in the paper (sec. 3.2)."""
PADDING = (123, 116, 103)
"""RGB beside images that are smaller than their batch: next to nothing once the mean is taken."""
_STEPS, _FALL, _BATCH = 60_000, 46_000, 8  # four GPUs, each of one image twice a step
_FIRST_BLOCKS = tuple(f"backbone.features.{place}" for place in (0, 2, 5, 7))  # conv1_1 to conv2_2
_HEAD_BIASES = ("head.shared.bias", "head.cls.*.bias", "head.box.*.bias")


def paper(row: str = "smallhardface", *, mining: bool = True) -> Recipe:
    """The paper's training: 60,000 steps of 8 images at three scales, two blocks of VGG fixed.

    Args:
        row: a name in `ROWS`.
        mining: whether easy images are left out of most passes.

    Source: SmallHardFace, sec. 3.2, 3.3 and 4.1; what it does not say (momentum, weight decay, that
    crops hold a face) is the released code's.
    Differs: VGG started from ImageNet's weights there, and starts at random here unless
    `run.init_from` names them (the fixed blocks need them); the set is mirrored at random and not
    doubled; and boxes that WIDER FACE marks as invalid are ignored, not learned. Our light network
    has no blocks to fix, and one rate.
    """
    network = ROWS[row]
    vgg = network.block == "vgg"
    return Recipe(
        name=row if mining else f"{row}-nomining",
        network=network,
        criterion=CRITERION,
        augment=AugmentConfig(crop="resized", resized=ResizedConfig(), fill=PADDING),
        optim=OptimConfig(
            lr=0.004,
            accumulate=2,
            groups=(ParameterGroup(part="backbone", lr=2.0),) if vgg else (),
            frozen=_FIRST_BLOCKS if vgg else (),
            weight_decay=2.5e-4,
            clip=0.0,
        ),
        schedule=ScheduleConfig(
            epochs=_STEPS * _BATCH / WIDER_IMAGES,
            batch=_BATCH,
            warmup_epochs=0.0,
            steps=(_FALL / _STEPS,),
        ),
        mining=MINING if mining else MiningConfig(),
        protocol="smallhardface",
    )


def ablated(
    name: str, row: str = "smallhardface-single", *, color: bool = True, cut: bool = True
) -> Recipe:
    """A row of table 1 or 2 without hard image mining, under its own name.

    Args:
        name: the recipe's.
        row: a name in `ROWS`.
        color: photometric distortion ("PD").
        cut: whether half of the images lose a part ("Crop").
    """
    base = paper(row, mining=False)
    resized = base.augment.resized if cut else replace(base.augment.resized, crop_prob=0.0)
    return replace(base, name=name, augment=replace(base.augment, color=color, resized=resized))


def with_mining(name: str, row: str) -> Recipe:
    """A row of table 1 with hard image mining, under its own name."""
    return replace(paper(row), name=name)


def released() -> Recipe:
    """The full model's training as the authors' code has it.

    All layers before the head learn at twice the rate, not VGG's alone, and biases at twice their
    weights'; the head's biases do not decay. Colors change before the resizing, and faces are a
    pixel wider and higher. An image stays easy for good, and is so without a positive anchor.

    Source: bairdzhang/smallhardface, configs/default.toml, models/, lib/.
    """
    base = paper()
    doubled = ("backbone", "neck", "head.reduce", "*.bias")
    return replace(
        base,
        name="smallhardface-released",
        criterion=replace(CRITERION, inclusive_pixels=True),
        augment=replace(
            base.augment,
            jitter="ssd-float",
            resized=replace(base.augment.resized, color_first=True),
        ),
        optim=replace(
            base.optim,
            groups=(
                *(ParameterGroup(part=part, lr=2.0) for part in doubled),
                *(ParameterGroup(part=part, decay=0.0) for part in _HEAD_BIASES),
            ),
        ),
        mining=replace(MINING, sticky=True, no_positives="easy"),
        protocol="smallhardface-released",
    )


def short(*, mining: bool = True) -> Recipe:
    """A training of the light network, from scratch, in the course of `scrfd.on_cpu`.

    So small a window has about three positive anchors: 48 anchors are learned of each, not the
    paper's 256, so that background does not drown them. It is tested by a pyramid, without which no
    large face would be found.

    Args:
        mining: whether easy images are left out of most passes.
    """
    recipe = on_cpu(
        Recipe(
            name="smallhardface-light",
            network=ROWS["smallhardface-light"],
            criterion=replace(
                CRITERION, sampler=replace(CRITERION.sampler, positives=16, total=48)
            ),
            augment=AugmentConfig(crop_sides=REDISTRIBUTED_SIDES, fill=MEAN_COLOR),
            mining=MINING if mining else MiningConfig(),
            protocol="smallhardface:100,300,600:no-flip",
        )
    )
    return replace(
        recipe,
        name=recipe.name if mining else f"{recipe.name}-nomining",
        schedule=replace(recipe.schedule, epochs=36.0),
    )


def gpu() -> Recipe:
    """The light network's training for minutes on a GPU, in the course of `scrfd.on_gpu`.

    It learns what `short` does; windows of four times the area have four times the anchors.
    """
    base = on_gpu(short())
    sampler = replace(base.criterion.sampler, positives=64, total=192)
    return replace(base, criterion=replace(base.criterion, sampler=sampler))


def tuned() -> Recipe:
    """The fine-tuning of the light model that ships, without mining: its images are few."""
    return finetune(short(), "smallhardface-light")


TABLE_1: dict[str, Callable[[], Recipe]] = {
    "smallhardface-three": partial(ablated, "smallhardface-three", "smallhardface-three"),
    "smallhardface-single": partial(ablated, "smallhardface-single"),
    "smallhardface-single-him": partial(
        with_mining, "smallhardface-single-him", "smallhardface-single"
    ),
    "smallhardface-nomining": partial(paper, mining=False),
    "smallhardface": paper,
}
"""Baseline-Three, Baseline-Single, + HIM, + DH, + DH + HIM."""

TABLE_2: dict[str, Callable[[], Recipe]] = {
    "smallhardface-single-nopd-nocrop": partial(
        ablated, "smallhardface-single-nopd-nocrop", color=False, cut=False
    ),
    "smallhardface-single-nocrop": partial(ablated, "smallhardface-single-nocrop", cut=False),
    "smallhardface-single": TABLE_1["smallhardface-single"],
}
"""No photometric distortion and no crop, no crop, both."""

RECIPES: dict[str, Callable[[], Recipe]] = {
    **TABLE_1,
    **TABLE_2,
    "smallhardface-released": released,
    "smallhardface-light": partial(paper, "smallhardface-light"),
    "smallhardface-light-short": short,
    "smallhardface-light-gpu": gpu,
    "smallhardface-light-short-nomining": partial(short, mining=False),
    "smallhardface-light-finetune": tuned,
}
"""SmallHardFace's recipes by name."""
