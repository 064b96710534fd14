"""RetinaFace's recipes: the paper's networks and training, the released ones, and ours for a CPU.

`ROW` is the paper's training; `ROW-released` and `ROW-authors` have the networks and trainings of
the PyTorch port and of the authors' code; `ROW-short` is ours for a CPU, `ROW-gpu` for minutes on a
GPU; `-mesh` adds the dense branch; `-finetune` goes on from the weights that ship.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from facefind.learn.recipe import (
    AugmentConfig,
    OptimConfig,
    ParameterGroup,
    Recipe,
    ScheduleConfig,
)
from facefind.recipes.finetune import finetune
from facefind.recipes.scrfd import REDISTRIBUTED_SIDES, on_cpu, on_gpu
from facefind.systems.mesh.config import MeshConfig
from facefind.systems.retinaface import (
    CRITERION,
    RELEASED_CRITERION,
    ROWS,
    RetinaFaceConfig,
    authors_criterion,
    released,
)

PAPER_SIDES = tuple(side / 100 for side in range(30, 101))
"""Crop sides from 0.3 to 1 short side (sec. 4.2), a hundredth apart."""
RELEASED_SIDES = (0.3, 0.45, 0.6, 0.8, 1.0)
"""Crop sides of both released codes."""
PORT_COLOR = (123, 117, 104)
HUE = 36.0
"""Degrees by which hues turn at most: S3FD's, to whose distortion of colors sec. 4.2 refers, and
the port's, 18 steps of two degrees on OpenCV's 8 bits."""

SHORT_ROWS = ("retinaface-mobile", "retinaface-mobile-released")
MESH_ROWS = ("retinaface-r152", "retinaface-r152-dcn", "retinaface-mobile")
"""Rows with a recipe for their variant with the dense branch. `retinaface-r152-dcn-mesh` and
`retinaface-r152-mesh` are the last rows of table 3, without landmarks and with them."""
SHORT_MESH = MeshConfig(size=32, max_anchors=24, min_anchor=32.0, landmarks=2.0, prior=0.02)
"""The branch for a small budget: its vertices are also drawn to the labeled landmarks, its codes to
the average face; crops are smaller and fewer. The first two are ours and no part of the paper."""
GPU_MESH = replace(SHORT_MESH, max_anchors=96)
"""The same for a GPU, whose batches are four times as large."""


def paper(row: str) -> Recipe:
    """The paper's training of a row: 80 epochs, SGD, square crops resized to 640 x 640.

    Source: RetinaFace, sec. 4.2.
    Differs: ResNets began with weights of ImageNet-11k there, and the light model with ImageNet's,
    its first two convolutions fixed; here all begin at random and all learn. The text does not say
    that a crop holds a face: here, as in the authors' code, it holds the center of one. Moves and
    weights of deformable convolutions learn at a tenth of the rate, as in that code, too.
    """
    groups = (ParameterGroup(part="*.offsets", lr=0.1, optional=True),)
    return Recipe(
        name=row,
        network=ROWS[row],
        criterion=CRITERION,
        augment=AugmentConfig(crop_sides=PAPER_SIDES, hue=HUE),
        optim=OptimConfig(lr=0.01, momentum=0.9, weight_decay=5e-4, clip=0.0, groups=groups),
        schedule=ScheduleConfig(
            epochs=80.0, batch=32, warmup_epochs=5.0, warmup_factor=0.1, steps=(55 / 80, 68 / 80)
        ),
        protocol="retinaface",
    )


def port(row: str) -> Recipe:
    """The training of the PyTorch port: a rate of 0.001 without warm-up, falling late.

    Source: biubug6/Pytorch_Retinaface, data/config.py and train.py.
    Differs: both networks began with weights of ImageNet there, and images are resized by an
    interpolation drawn anew each time.
    """
    mobile = "mobile" in row
    base = paper(row)
    epochs, first, second = (250, 190, 220) if mobile else (100, 70, 90)
    return replace(
        base,
        criterion=RELEASED_CRITERION,
        augment=replace(
            base.augment,
            size=640 if mobile else 840,
            crop_sides=RELEASED_SIDES,
            crop_policy="whole-face",
            fill=PORT_COLOR,
        ),
        optim=replace(base.optim, lr=0.001),
        schedule=ScheduleConfig(
            epochs=float(epochs),
            batch=32 if mobile else 24,
            warmup_epochs=0.0,
            steps=(first / epochs, second / epochs),
        ),
        protocol="retinaface-original",
    )


def authors(row: str) -> Recipe:
    """The training of the authors' code: as the paper's, crops of five sides, boxes uncut.

    Source: deepinsight/insightface, detection/retinaface.
    Differs: the ResNet's rate rises by powers there, by even steps here; the light one's falls a
    third time at the very end.
    """
    base = paper(row)
    mobile = "mobile" in row
    return replace(
        base,
        criterion=authors_criterion(16, 1.0) if mobile else authors_criterion(8, 0.8),
        augment=replace(
            base.augment,
            crop_sides=RELEASED_SIDES,
            clip_boxes=False,
            jitter="brightness" if mobile else "mild",
        ),
        schedule=replace(base.schedule, warmup_epochs=0.0 if mobile else 5.0),
        protocol="retinaface-released",
    )


def short(row: str) -> Recipe:
    """A training with landmarks, from scratch, in the course of `scrfd.on_cpu`.

    Anchors are matched and boxes encoded as the PyTorch port does, which gives small faces an
    anchor too; so encoded, landmarks at the port's weight of 1 would send the backbone ten times
    the gradient of the scores, and keep the paper's 0.1. Crops also show faces smaller than they
    are (SCRFD's redistribution).
    """
    network = ROWS[row]
    theirs = released(network)
    recipe = on_cpu(
        Recipe(
            name=row,
            network=replace(network, box_stds=theirs.box_stds, landmark_std=theirs.landmark_std),
            criterion=replace(
                RELEASED_CRITERION,
                box=replace(RELEASED_CRITERION.box, weight=1.0),
                landmarks=replace(RELEASED_CRITERION.landmarks, weight=0.1),
            ),
            augment=AugmentConfig(crop_sides=REDISTRIBUTED_SIDES),
        )
    )
    return replace(recipe, optim=replace(recipe.optim, clip=35.0))


def gpu(row: str) -> Recipe:
    """The training for minutes on a GPU: what `short` learns, in the course of `scrfd.on_gpu`."""
    return on_gpu(short(row))


def with_mesh(recipe: Recipe, branch: MeshConfig | None = None) -> Recipe:
    """The same training with the dense branch, `-mesh` in its name; the paper's branch by default.

    Source: RetinaFace, sec. 3.2, table 3.
    """
    budget = next((end for end in ("-short", "-gpu") if recipe.name.endswith(end)), "")
    network = recipe.network
    assert isinstance(network, RetinaFaceConfig)
    return replace(
        recipe,
        name=f"{recipe.name.removesuffix(budget)}-mesh{budget}",
        network=replace(network, dense=True, mesh=branch or MeshConfig()),
    )


def mesh(row: str) -> Recipe:
    """The training that belongs to a row, with the paper's dense branch."""
    return with_mesh(_own(row))


def short_mesh(row: str) -> Recipe:
    """The short training with the dense branch, helped to find its faces: see `SHORT_MESH`."""
    return with_mesh(short(row), SHORT_MESH)


def gpu_mesh(row: str) -> Recipe:
    """The training on a GPU with the dense branch, which is rendered: its steps are not captured.

    They take about twice as long as those of `gpu`, so that it pays to train that first, and then
    this from its weights (`--init-from`) for a minute or two.
    """
    recipe = with_mesh(gpu(row), GPU_MESH)
    return replace(recipe, run=replace(recipe.run, graphs=False))


def tuned(row: str, *, mesh: bool = False) -> Recipe:
    """The fine-tuning of a model that ships, with its dense branch or without it."""
    return finetune(short_mesh(row) if mesh else short(row), row)


def _own(row: str) -> Recipe:
    """The training that belongs to a row."""
    if row.endswith("-released"):
        return port(row)
    return authors(row) if row.endswith("-authors") else paper(row)


RECIPES: dict[str, Callable[[], Recipe]] = {
    **{row: partial(_own, row) for row in ROWS},
    **{f"{row}-short": partial(short, row) for row in SHORT_ROWS},
    **{f"{row}-gpu": partial(gpu, row) for row in SHORT_ROWS[:1]},
    **{f"{row}-mesh": partial(mesh, row) for row in MESH_ROWS},
    **{f"{row}-mesh-short": partial(short_mesh, row) for row in SHORT_ROWS[:1]},
    **{f"{row}-mesh-gpu": partial(gpu_mesh, row) for row in SHORT_ROWS[:1]},
    **{f"{row}-finetune": partial(tuned, row) for row in SHORT_ROWS[:1]},
    **{f"{row}-mesh-finetune": partial(tuned, row, mesh=True) for row in SHORT_ROWS[:1]},
}
"""RetinaFace's recipes by name."""
