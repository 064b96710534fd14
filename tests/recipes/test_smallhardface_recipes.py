"""SmallHardFace's recipes: the paper's numbers, the rows of its tables, what the code does else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from facefind import recipes
from facefind.learn.optimizers import freeze, make_optimizer
from facefind.recipes import smallhardface


def rates(name: str) -> tuple[nn.Module, dict[str, tuple[float, float]]]:
    """The network of a recipe, and each learning parameter's factor and weight decay."""
    recipe = recipes.get(name)
    with torch.device("meta"):
        network = recipe.network.build()
    freeze(network, recipe.optim.frozen)
    names = {parameter: name for name, parameter in network.named_parameters()}
    found = {}
    for group in make_optimizer(network, recipe.optim).param_groups:
        for parameter in group["params"]:
            found[names[parameter]] = (group["factor"], group["weight_decay"])
    return network, found


def test_the_paper_s_training():
    recipe = recipes.get("smallhardface")
    optim, schedule, augment = recipe.optim, recipe.schedule, recipe.augment
    assert (optim.name, optim.lr, optim.momentum, optim.weight_decay) == ("sgd", 0.004, 0.9, 2.5e-4)
    assert (optim.accumulate, schedule.batch, schedule.warmup_epochs) == (2, 8, 0)
    steps = round(schedule.epochs * 12_880 / schedule.batch)
    assert (steps, [round(f * steps) for f in schedule.steps]) == (60_000, [46_000])
    assert augment.crop == "resized"
    resized = augment.resized
    assert (resized.short_sides, resized.long_side) == ((400, 800, 1200), 2000)
    assert (resized.crop_prob, resized.min_crop, resized.color_first) == (0.5, 0.6, False)
    assert (recipe.mining.on, recipe.mining.threshold, recipe.mining.skip) == (True, 0.85, 0.7)
    assert not recipe.mining.sticky
    assert recipe.protocol == "smallhardface"


def test_the_first_two_blocks_are_fixed_and_vgg_learns_twice_as_fast():
    network, found = rates("smallhardface")
    fixed = network.backbone.convolutions
    fixed = {f"backbone.{fixed[name]}" for name in ("conv1_1", "conv1_2", "conv2_1", "conv2_2")}
    for name, _ in network.named_parameters():
        if name.rpartition(".")[0] in fixed:
            assert name not in found
        else:
            assert found[name] == (2 if name.startswith("backbone") else 1, 2.5e-4), name


def test_the_released_rates():
    _, found = rates("smallhardface-released")
    assert found["backbone.features.10.weight"] == (2, 2.5e-4)
    assert found["backbone.features.10.bias"] == (4, 2.5e-4)
    assert found["neck.fuse.0.weight"] == (2, 2.5e-4)
    assert found["head.reduce.0.bias"] == (4, 2.5e-4)
    assert found["head.shared.weight"] == (1, 2.5e-4)
    assert (
        found["head.shared.bias"] == found["head.cls.2.bias"] == found["head.box.0.bias"] == (2, 0)
    )
    assert "backbone.features.7.weight" not in found


def test_what_else_the_released_code_does_otherwise():
    theirs, ours = recipes.get("smallhardface-released"), recipes.get("smallhardface")
    assert (theirs.mining.sticky, theirs.mining.no_positives) == (True, "easy")
    assert theirs.network == ours.network
    assert theirs.criterion == replace(ours.criterion, inclusive_pixels=True) != ours.criterion
    assert theirs.augment.resized.color_first
    assert theirs.protocol == "smallhardface-released"
    assert theirs.schedule == ours.schedule


@pytest.mark.parametrize(
    ("name", "dilated", "three", "mining"),
    [
        ("smallhardface-three", False, True, False),
        ("smallhardface-single", False, False, False),
        ("smallhardface-single-him", False, False, True),
        ("smallhardface-nomining", True, False, False),
        ("smallhardface", True, False, True),
    ],
)
def test_table_1(name, dilated, three, mining):
    recipe = smallhardface.TABLE_1[name]()
    network = recipe.network
    assert (network.dilated, network.three_maps, recipe.mining.on) == (dilated, three, mining)
    alike = replace(recipe, name="", network=network, mining=smallhardface.MINING)
    assert alike == replace(recipes.get("smallhardface"), name="", network=network)


@pytest.mark.parametrize(
    ("name", "color", "cut"),
    [
        ("smallhardface-single-nopd-nocrop", False, 0.0),
        ("smallhardface-single-nocrop", True, 0.0),
        ("smallhardface-single", True, 0.5),
    ],
)
def test_table_2(name, color, cut):
    recipe = smallhardface.TABLE_2[name]()
    assert (recipe.augment.color, recipe.augment.resized.crop_prob) == (color, cut)
    assert not recipe.network.dilated
    assert not recipe.mining.on


def test_the_light_network_is_trained_as_the_paper_s_or_for_a_cpu():
    light = recipes.get("smallhardface-light")
    assert (light.optim.groups, light.optim.frozen) == ((), ())
    assert light.augment == recipes.get("smallhardface").augment
    short, plain = (recipes.get(f"smallhardface-light-short{end}") for end in ("", "-nomining"))
    sampler = light.criterion.sampler
    assert (sampler.kind, sampler.positives, sampler.total) == ("ohem-quota", 64, 256)
    assert short.network == light.network
    fewer = replace(sampler, positives=16, total=48)
    assert short.criterion == replace(light.criterion, sampler=fewer)
    assert (short.augment.size, short.augment.background) == (320, 0.3)
    assert (short.mining.on, plain.mining.on) == (True, False)
    assert replace(short, name=plain.name, mining=plain.mining) == plain
