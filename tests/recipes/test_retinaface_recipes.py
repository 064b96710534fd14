import dataclasses

import pytest

from facefind import protocols, recipes
from facefind.learn.optimizers import make_optimizer
from facefind.recipes.retinaface import MESH_ROWS, RECIPES, ROWS, SHORT_ROWS


def test_every_row_has_a_training():
    extra = {f"{row}-short" for row in SHORT_ROWS} | {f"{row}-mesh" for row in MESH_ROWS}
    extra |= {f"retinaface-mobile-{kind}" for kind in ("gpu", "finetune")}
    extra |= {f"retinaface-mobile-mesh-{kind}" for kind in ("short", "gpu", "finetune")}
    assert set(RECIPES) == set(ROWS) | extra
    for row in ROWS:
        recipe = recipes.get(row)
        assert recipe.network == ROWS[row]
        assert protocols.get(recipe.protocol).name == recipe.protocol


def test_the_paper_s_training():
    recipe = recipes.get("retinaface-r152")
    sides = recipe.augment.crop_sides
    assert (sides[0], sides[-1], len(set(sides))) == (0.3, 1.0, 71)
    assert recipe.augment.size == 640
    assert recipe.augment.flip == 0.5
    assert recipe.augment.clip_boxes
    assert (recipe.augment.jitter, recipe.augment.hue) == ("ssd", 36)  # 18 steps of 8-bit hues
    optim, schedule = recipe.optim, recipe.schedule
    assert (optim.name, optim.lr, optim.momentum, optim.weight_decay) == ("sgd", 0.01, 0.9, 5e-4)
    assert schedule.warmup_factor * optim.lr == pytest.approx(1e-3)
    assert (schedule.warmup_epochs, schedule.epochs, schedule.batch) == (5, 80, 8 * 4)
    assert [round(step * 80) for step in schedule.steps] == [55, 68]
    assert [(group.part, group.lr) for group in optim.groups] == [("*.offsets", 0.1)]
    assert recipe.protocol == "retinaface"


@pytest.mark.parametrize(
    ("row", "deformable"), [("retinaface-r50", False), ("retinaface-mobile", True)]
)
def test_any_row_may_be_deformable_or_not(row, deformable):
    """As by `--network.deformable`: moves and weights of taps learn slowly, where there are any."""
    recipe = recipes.get(row)
    config = {"backbone": "mobilenet-0.25", "width": 16, "deformable": deformable}
    network = dataclasses.replace(recipe.network, **config).build()
    rates = {group["factor"] for group in make_optimizer(network, recipe.optim).param_groups}
    assert rates == ({1.0, 0.1} if deformable else {1.0})


def test_table_3_s_first_rows_differ_by_what_they_add():
    context, dcn, points = (
        recipes.get(name).network
        for name in ("retinaface-r152-context", "retinaface-r152-dcn", "retinaface-r152")
    )
    assert not context.deformable
    assert dcn.deformable
    assert points.deformable
    assert not context.landmarks
    assert not dcn.landmarks
    assert points.landmarks


def test_the_port_s_trainings():
    mobile, resnet = (recipes.get(f"retinaface-{name}-released") for name in ("mobile", "r50"))
    for recipe, size, batch, epochs, falls in (
        (mobile, 640, 32, 250, [190, 220]),
        (resnet, 840, 24, 100, [70, 90]),
    ):
        assert (recipe.augment.size, recipe.schedule.batch) == (size, batch)
        assert recipe.schedule.epochs == epochs
        assert [round(step * epochs) for step in recipe.schedule.steps] == falls
        assert (recipe.optim.lr, recipe.schedule.warmup_epochs) == (0.001, 0)
        assert recipe.augment.crop_policy == "whole-face"
        assert recipe.augment.hue == 36
        learn = recipe.criterion
        rules = learn.assigner
        assert (rules.kind, learn.sampler.kind) == ("max-iou", "ohem")
        assert (rules.positive_iou, rules.negative_iou, rules.low_quality_iou) == (0.35, 0.35, 0.2)
        assert learn.sampler.ratio == 7
        weights = (learn.box.weight, learn.classification.weight, learn.landmarks.weight)
        assert weights == (2, 1, 1)
        assert recipe.network.box_stds == (0.1, 0.1, 0.2, 0.2)
    assert (mobile.network.slope, resnet.network.slope) == (0.1, 0)


def test_the_authors_trainings():
    resnet = recipes.get("retinaface-r50-authors")
    assert (resnet.criterion.sampler.kind, resnet.criterion.sampler.by_level) == (
        "ohem-quota",
        True,
    )
    # The middle of the pixels 0 to 15, whose square ends at 16.
    assert (resnet.network.offset, resnet.network.inclusive_pixels) == (8, True)
    for name, images, points in (("r50", 8, 0.4 * 2.0), ("mobile", 16, 0.4 * 2.5)):
        learn = recipes.get(f"retinaface-{name}-authors").criterion
        # In one step on a device, 0.25 * images / 256 times the sum.
        assert learn.box.weight / (learn.box.per_image * images) == 0.25 * images / 256
        assert learn.landmarks.weight == pytest.approx(points * learn.box.weight)
        assert learn.landmarks.per_image == learn.box.per_image
    assert not resnet.network.shared_head
    assert resnet.augment.crop_sides == (0.3, 0.45, 0.6, 0.8, 1)
    assert not resnet.augment.clip_boxes
    assert resnet.augment.jitter == "mild"
    assert recipes.get("retinaface-mobile-authors").augment.jitter == "brightness"


@pytest.mark.parametrize("row", SHORT_ROWS)
def test_the_short_trainings_keep_the_network_and_change_what_it_learns_by(row):
    short, whole = recipes.get(f"{row}-short"), ROWS[row]
    for part in ("first", "slope", "width", "shared_head", "sizes", "landmarks"):
        assert getattr(short.network, part) == getattr(whole, part)
    theirs = recipes.get("retinaface-mobile-released").criterion
    for part in ("assigner", "sampler", "classification"):
        assert getattr(short.criterion, part) == getattr(theirs, part)
    assert (short.augment.size, short.augment.background) == (320, 0.3)
    assert not short.optim.frozen


@pytest.mark.parametrize("name", [name for name in RECIPES if "-mesh" in name])
def test_a_mesh_training_adds_the_branch_alone(name):
    recipe, plain = recipes.get(name), recipes.get(name.replace("-mesh", ""))
    assert recipe.name == name
    network, other = recipe.network, plain.network
    assert network.dense
    assert not other.dense
    assert dataclasses.replace(network, dense=False, mesh=other.mesh) == other
    assert (recipe.augment, recipe.optim, recipe.schedule) == (
        plain.augment,
        plain.optim,
        plain.schedule,
    )
    assert network.mesh.pixel == 0.01
    ours = name.endswith(("short", "gpu", "finetune"))
    assert (network.mesh.landmarks > 0) == ours  # the paper has no such term
    graphs = plain.run.graphs and not recipe.network.dense  # the renderer waits for the GPU
    assert recipe.run == dataclasses.replace(plain.run, graphs=graphs)
