"""DSFD's recipes: the paper's numbers, the rows of its tables, and its parts elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from kinds import FACE, packed

from facefind import protocols, recipes
from facefind.learn.targets import Target
from facefind.nn.context import DilatedBranches
from facefind.recipes import dsfd


def test_the_paper_s_training():
    recipe = recipes.get("dsfd-r152")
    optim, schedule, augment = recipe.optim, recipe.schedule, recipe.augment
    assert (optim.name, optim.lr, optim.momentum, optim.weight_decay) == ("sgd", 1e-3, 0.9, 5e-4)
    steps = round(schedule.epochs * 12_880 / schedule.batch)
    assert (steps, schedule.batch, schedule.warmup_epochs) == (60_000, 16, 0)
    assert [round(f * steps) for f in schedule.steps] == [40_000, 50_000]
    assert (augment.size, augment.crop_policy, augment.anchor_prob) == (640, "anchor", 0.4)
    assert augment.anchor_sides == (16, 32, 64, 128, 256, 512)
    whole = [side == 1 for side in augment.crop_sides]
    assert sum(whole) / len(whole) == pytest.approx(1 / 3, abs=0.01)
    assert (min(augment.crop_sides), max(augment.crop_sides)) == (0.3, 1.0)
    assigner = recipe.criterion.assigner
    assert (assigner.positive_iou, assigner.negative_iou, assigner.at_least) == (0.4, 0.4, 0)
    assert (recipe.criterion.sampler.kind, recipe.criterion.sampler.ratio) == ("ohem", 3)
    assert recipe.criterion.auxiliary_weight == 1


# Feature enhance module, first shot, anchors' height over width, crops.
PARTS = {
    "fssd": (False, "none", 1.0, "face-center"),
    "fem": (True, "none", 1.0, "face-center"),
    "fem-pal": (True, "half", 1.0, "face-center"),
    "fem-iam": (True, "none", 1.5, "anchor"),
    "": (True, "half", 1.5, "anchor"),
}
BACKBONES = {
    "vgg16": "vgg16",
    "r50": "resnet-50",
    "r101": "resnet-101",
    "r152": "resnet-152",
    "se-r101": "se-resnet-101",
    "dpn98": "dpn-98",
    "se-rx101": "se-resnext-101",
}
ROWS = {
    "TABLE_2": ("vgg16-fssd", "vgg16-fem"),
    "TABLE_3": ("r50-fssd", "r50-fem", "r50-fem-pal"),
    "TABLE_4": ("r101-fssd", "r101-fem", "r101-fem-iam", "r101", "r152", "r152-largebs"),
    "TABLE_5": ("r101", "r152", "se-r101", "dpn98", "se-rx101"),
}


@pytest.mark.parametrize(("table", "row"), [(t, row) for t, rows in ROWS.items() for row in rows])
def test_each_row_of_the_tables(table, row):
    assert list(getattr(dsfd, table)) == [f"dsfd-{name}" for name in ROWS[table]]
    recipe = recipes.get(f"dsfd-{row}")
    of = max((b for b in BACKBONES if row.startswith(b)), key=len)
    parts = row.removeprefix(of).removeprefix("-").removesuffix("largebs")
    network = recipe.network
    assert network.backbone == BACKBONES[of]
    assert PARTS[parts] == (
        network.enhance,
        network.first_shot,
        network.ratio,
        recipe.augment.crop_policy,
    )
    assert recipe.criterion == dsfd.CRITERION
    assert recipe.schedule.batch == (64 if row.endswith("largebs") else 16)


def test_released_trainings():
    released, light = recipes.get("dsfd-release"), recipes.get("lightdsfd")
    assert released.criterion.classification.average == "positives"
    assert released.augment.channel_shuffle
    assert light.augment.crop_policy == "face-center"
    steps = light.schedule.epochs * 12_880 / light.schedule.batch
    assert [round(f * steps) for f in light.schedule.steps] == [40_000, 60_000, 80_000]
    for recipe in (released, light, recipes.get("dsfd-r50")):
        assert protocols.get(recipe.protocol)


def test_variants_leave_one_part_out():
    short = recipes.get("dsfd-light-short")
    changed = {
        "single": {"first_shot": "none"},
        "nopal": {"first_shot": "same"},
        "nofem": {"product": False, "dilation": 1},
    }
    assert changed.keys() == dsfd.VARIANTS.keys()
    for ending, fields in changed.items():
        wanted = replace(
            short, name=f"{short.name}-{ending}", network=replace(short.network, **fields)
        )
        assert recipes.get(f"dsfd-light-short-{ending}") == wanted


TARGETS = packed([FACE, Target.empty()], (96, 96))
FEW = {"depths": (1, 1, 1, 1), "widths": (8, 8, 8, 8), "stem": (8, 8), "head": 16}


def test_scrfd_learns_beside_a_first_shot():
    """Progressive anchor loss on another system, by one field of its network."""
    base = recipes.get("scrfd-500m-kps-short")
    recipe = replace(base, network=replace(base.network, first_shot=True, **FEW))
    assert recipes.from_dict(recipe.to_dict()) == recipe
    torch.manual_seed(0)
    network = recipe.network.build().train()
    output = network(torch.randint(0, 256, (2, 3, 96, 96)).float())
    (first,) = output.auxiliary
    assert (first.anchors.sizes * 2).equal(output.anchors.sizes)
    terms = recipe.criterion.build(network)(output, TARGETS).terms
    assert {"cls", "box", "landmarks", "cls_aux", "box_aux"} == terms.keys()
    assert terms["box_aux"] > 0
    assert terms["cls_aux"] < 10 * terms["cls"]  # begins as if faces were rare
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
    network.auxiliary[0].head.forward = None  # inference must not come near it
    assert network.eval()(torch.zeros(1, 3, 96, 96)).auxiliary == ()


def test_retinaface_behind_the_enhance_module_s_branches():
    base = recipes.get("retinaface-mobile-short")
    recipe = replace(base, network=replace(base.network, context="fem", width=16))
    assert recipes.from_dict(recipe.to_dict()) == recipe
    torch.manual_seed(0)
    network = recipe.network.build().train()
    assert all(isinstance(module, DilatedBranches) for module in network.context)
    output = network(torch.randint(0, 256, (2, 3, 96, 96)).float())
    terms = recipe.criterion.build(network)(output, TARGETS).terms
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
