"""DSFD's recipes: every row of the paper's tables, the released trainings, and ours for a CPU.

`dsfd-BACKBONE` is the paper's whole method: feature enhance module, progressive anchor loss,
improved anchor matching. `-fssd` is its baseline, to which `-fem`, `-pal` and `-iam` add these
parts. `dsfd-light` has the same training for our light network, `dsfd-light-gpu` one for minutes
on a GPU, and `dsfd-light-short` one for a CPU, of which each of three variants leaves one part out
at equal cost of inference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from facefind.learn.recipe import (
    AugmentConfig,
    OptimConfig,
    Recipe,
    RunConfig,
    ScheduleConfig,
)
from facefind.recipes.finetune import dark, finetune
from facefind.recipes.scrfd import MEAN_COLOR, REDISTRIBUTED_SIDES, WIDER_IMAGES, on_cpu, on_gpu
from facefind.systems.dsfd import (
    CRITERION,
    RELEASED_CRITERION,
    ROWS,
    DSFDConfig,
)

CROP_SIDES = (*(side / 100 for side in range(30, 101)), *(1.0,) * 35)
"""Sides of the three crops in five that go by no anchor: a third of them the whole short side, the
others from 0.3 of it on, a hundredth apart (the released code's reading of "similar to SSD")."""
_STEPS, _BATCH = 60_000, 16


def paper(
    row: str,
    name: str = "",
    *,
    fem: bool = True,
    pal: bool = True,
    iam: bool = True,
    batch: int = _BATCH,
) -> Recipe:
    """The paper's training of a row: 60,000 steps of 16 images, SGD, the rate falling twice.

    Args:
        row: a name in `ROWS`.
        name: the recipe's; "": the row's.
        fem: whether there is a feature enhance module.
        pal: whether there is a first shot, with anchors of half the size.
        iam: improved anchor matching: anchors half as high again as they are wide, and two crops in
            five that bring a face to the size of an anchor; else S3FD's square anchors, without its
            compensation, and the other crops alone. The IoU is 0.4 in either case.
        batch: images a step.

    Source: DSFD, sec. 3.4 and 4.1; tables 2 to 5.
    Differs: backbones began with weights of ImageNet, and begin at random here unless
    `run.init_from` names them. The paper says neither how large its "LargeBS" is nor which IoU its
    baselines have: at 0.4 a face has fewer anchors than with improved matching, as in fig. 5, at
    S3FD's 0.35 it would have more. That they have no compensation it says of table 4's alone.
    """
    base = ROWS[row]
    return Recipe(
        name=name or row,
        network=replace(
            base,
            enhance=fem,
            first_shot="half" if pal else "none",
            ratio=base.ratio if iam else 1.0,
        ),
        criterion=CRITERION,
        augment=AugmentConfig(
            crop_sides=CROP_SIDES, crop_policy="anchor" if iam else "face-center"
        ),
        optim=OptimConfig(lr=1e-3, momentum=0.9, weight_decay=5e-4, clip=0.0),
        schedule=ScheduleConfig(
            epochs=_STEPS * batch / WIDER_IMAGES,
            batch=batch,
            warmup_epochs=0.0,
            steps=(40_000 / _STEPS, 50_000 / _STEPS),
        ),
        protocol="dsfd",
    )


def released() -> Recipe:
    """The released network, trained as its code's settings say: channels shuffled, sums divided
    by positives.

    Source: Tencent/FaceDetection-DSFD, data/config.py and utils/augmentations.py.
    Differs: no code for training it is released; the weights of the losses of faces, heads and
    bodies are not known, and 1 each here.
    """
    base = replace(paper("dsfd-r152"), network=ROWS["dsfd-release"])
    return replace(
        base,
        name="dsfd-release",
        criterion=RELEASED_CRITERION,
        augment=replace(base.augment, channel_shuffle=True),
        protocol="dsfd-released",
    )


def lightdsfd() -> Recipe:
    """The authors' small network from scratch, with the falls of the rate that its settings name.

    Source: the released code of lightDSFD, data/config.py.
    Differs: its training code is not released either. In training its network had further heads,
    for heads and bodies, which its weights do not hold; here faces alone are learned.
    """
    base = released()
    steps = 90_010
    return replace(
        base,
        name="lightdsfd",
        network=ROWS["lightdsfd"],
        augment=replace(base.augment, crop_policy="face-center"),
        schedule=replace(
            base.schedule,
            epochs=steps * _BATCH / WIDER_IMAGES,
            steps=(40_000 / steps, 60_000 / steps, 80_000 / steps),
        ),
        protocol="lightdsfd",
    )


def light() -> Recipe:
    """The light network's training for a GPU: the paper's method, AdamW on a cosine.

    Crops of the redistributed sides also show faces smaller than they are.
    """
    base = short()
    return replace(
        base,
        name="dsfd-light",
        augment=replace(base.augment, size=640, crop_sides=REDISTRIBUTED_SIDES),
        schedule=replace(base.schedule, epochs=300.0, batch=32),
        run=RunConfig(init_from=base.run.init_from),
    )


def short() -> Recipe:
    """A training of the light network on a CPU, in the course of `scrfd.on_cpu`.

    Its backbone begins with the weights of the SCRFD of which it has the layers, as the paper's
    begin with those for ImageNet: from scratch it learns far more slowly.
    Two crops in five go by anchors, as in the paper, but by PyramidBox's continuous sizes.
    Scores are divided by the number of positives, as in the released code, which gives them weight
    enough to be learned in few steps.
    """
    return on_cpu(
        Recipe(
            name="dsfd-light",
            network=ROWS["dsfd-light"],
            criterion=replace(
                RELEASED_CRITERION, sampler=replace(RELEASED_CRITERION.sampler, min_negatives=100)
            ),
            augment=AugmentConfig(
                crop_sides=REDISTRIBUTED_SIDES,
                crop_policy="anchor",
                anchor_octaves=1.0,
                fill=MEAN_COLOR,
            ),
            run=RunConfig(init_from="scrfd-500m-kps"),
        )
    )


def gpu() -> Recipe:
    """The light network's training for minutes on a GPU, in the course of `scrfd.on_gpu`."""
    return on_gpu(short())


def _changed(recipe: Recipe, ending: str, **fields: object) -> Recipe:
    assert isinstance(recipe.network, DSFDConfig)
    network = replace(recipe.network, **fields)  # type: ignore[arg-type]
    return replace(recipe, name=f"{recipe.name}-{ending}", network=network)


def single_shot(recipe: Recipe) -> Recipe:
    """The same training without a first shot, `-single` in its name."""
    return _changed(recipe, "single", first_shot="none")


def same_anchors(recipe: Recipe) -> Recipe:
    """The same training with a first shot on anchors of the same size, `-nopal` in its name."""
    return _changed(recipe, "nopal", first_shot="same")


def without_fem(recipe: Recipe) -> Recipe:
    """The same training without what makes the feature enhance module one, `-nofem` in its name.

    Maps know nothing of coarser ones, and no convolution is dilated; all convolutions but those
    that bring coarser maps down stay, so that the cost of inference does.
    """
    return _changed(recipe, "nofem", product=False, dilation=1)


VARIANTS: dict[str, Callable[[Recipe], Recipe]] = {
    "single": single_shot,
    "nopal": same_anchors,
    "nofem": without_fem,
}
"""What leaves one part out, by the ending of the recipe's name."""


def _variant(ending: str) -> Recipe:
    return VARIANTS[ending](short())


def _shipped() -> Recipe:
    """The training that the weights that ship are of, to go on from them."""
    return replace(single_shot(short()), name="dsfd-light-short")


def tuned() -> Recipe:
    """The fine-tuning of the light network that ships."""
    return finetune(_shipped(), "dsfd-light")


def for_dark_faces() -> Recipe:
    """Its fine-tuning for faces in little light."""
    return dark(_shipped(), "dsfd-light")


TABLE_2: dict[str, Callable[[], Recipe]] = {
    "dsfd-vgg16-fssd": partial(
        paper, "dsfd-vgg16", "dsfd-vgg16-fssd", fem=False, pal=False, iam=False
    ),
    "dsfd-vgg16-fem": partial(paper, "dsfd-vgg16", "dsfd-vgg16-fem", pal=False, iam=False),
}
TABLE_3: dict[str, Callable[[], Recipe]] = {
    "dsfd-r50-fssd": partial(paper, "dsfd-r50", "dsfd-r50-fssd", fem=False, pal=False, iam=False),
    "dsfd-r50-fem": partial(paper, "dsfd-r50", "dsfd-r50-fem", pal=False, iam=False),
    "dsfd-r50-fem-pal": partial(paper, "dsfd-r50", "dsfd-r50-fem-pal", iam=False),
}
TABLE_4: dict[str, Callable[[], Recipe]] = {
    "dsfd-r101-fssd": partial(
        paper, "dsfd-r101", "dsfd-r101-fssd", fem=False, pal=False, iam=False
    ),
    "dsfd-r101-fem": partial(paper, "dsfd-r101", "dsfd-r101-fem", pal=False, iam=False),
    "dsfd-r101-fem-iam": partial(paper, "dsfd-r101", "dsfd-r101-fem-iam", pal=False),
    "dsfd-r101": partial(paper, "dsfd-r101"),
    "dsfd-r152": partial(paper, "dsfd-r152"),
    "dsfd-r152-largebs": partial(paper, "dsfd-r152", "dsfd-r152-largebs", batch=4 * _BATCH),
}
TABLE_5: dict[str, Callable[[], Recipe]] = {
    row: partial(paper, row)
    for row in ("dsfd-r101", "dsfd-r152", "dsfd-se-r101", "dsfd-dpn98", "dsfd-se-rx101")
}

RECIPES: dict[str, Callable[[], Recipe]] = {
    **TABLE_5,
    "dsfd-vgg16": partial(paper, "dsfd-vgg16"),
    "dsfd-r50": partial(paper, "dsfd-r50"),
    **TABLE_2,
    **TABLE_3,
    **TABLE_4,
    "dsfd-release": released,
    "lightdsfd": lightdsfd,
    "dsfd-light": light,
    "dsfd-light-gpu": gpu,
    "dsfd-light-short": short,
    **{f"dsfd-light-short-{ending}": partial(_variant, ending) for ending in VARIANTS},
    "dsfd-light-finetune": tuned,
    "dsfd-light-dark": for_dark_faces,
}
"""DSFD's recipes by name. Table 1 is the networks' anchors; its rows need no training."""
