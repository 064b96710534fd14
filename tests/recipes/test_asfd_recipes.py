"""ASFD's recipes: the paper's numbers, the rows of its tables, and its parts elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from kinds import FACE, packed

from facefind import protocols, recipes
from facefind.learn.criterion import BoxLoss, CrossEntropy
from facefind.learn.targets import Target
from facefind.nn.cells import ContextCell, PyramidCell
from facefind.recipes import asfd
from facefind.systems.asfd import DRMC
from facefind.systems.dsfd import RELEASED_CRITERION


def test_the_paper_s_training():
    recipe = recipes.get("asfd-d2")
    optim, schedule, augment = recipe.optim, recipe.schedule, recipe.augment
    assert (optim.name, optim.lr, optim.momentum, optim.weight_decay) == ("sgd", 0.015, 0.9, 5e-4)
    assert (schedule.epochs, schedule.batch, schedule.kind) == (50, 48, "step")
    assert [round(f * 50) for f in schedule.steps] == [25, 40]
    assert round(schedule.warmup_epochs * 12_880 / schedule.batch) == 500
    assert schedule.warmup_factor * optim.lr == pytest.approx(1e-6)
    assert (augment.size, augment.crop_policy) == (640, "anchor")
    criterion = recipe.criterion
    assert (criterion.assigner.positive_iou, criterion.assigner.negative_iou) == (0.4, 0.4)
    assert (criterion.sampler.kind, criterion.sampler.ratio) == ("ohem", 3)
    assert (criterion.classification.kind, criterion.classification.margin) == ("margin", 0.2)
    assert (criterion.box.kind, criterion.box.weight) == ("diou", 5)
    assert criterion.auxiliary_weight == 1
    protocol = protocols.get(recipe.protocol)
    assert (protocol.nms_iou, protocol.max_candidates, protocol.max_faces) == (0.3, 5000, 750)
    released = protocols.get("dsfdv2")
    assert (released.min_score, released.nms_iou, released.max_candidates) == (0.05, 0.4, 2000)


# The marks of table 1, a row each; columns are numbered from the left.
MARKS = {
    ("pyramid", "fem"): (1, 8, 9, 10),
    ("pyramid", "bifpn"): (2,),
    ("pyramid", "pafpn"): (3,),
    ("pyramid", "autofem"): (4, 11, 12, 13),
    ("context", "fem"): (5, 8, 11),
    ("context", "rfe"): (6, 9, 12),
    ("context", "cpm"): (7, 10, 13),
}


def test_table_1():
    columns = [recipes.get(name) for name in asfd.TABLE_1]
    assert len(columns) == 14
    for (part, module), marks in MARKS.items():
        found = [n for n, r in enumerate(columns) if getattr(r.network, part) == module]
        assert tuple(found) == marks
    for recipe in columns:
        network = recipe.network
        assert (network.backbone, network.width, network.head_depth) == ("resnet-50", 256, 2)
        assert network.first_shot == "none"
        assert recipe.criterion == RELEASED_CRITERION
        assert recipe.protocol == "asfd"


# First shot, scores, boxes.
TERMS = {
    "": ("none", "cross-entropy", "smooth-l1"),
    "-aux": ("half", "cross-entropy", "smooth-l1"),
    "-aux-mc": ("half", "margin", "smooth-l1"),
    "-aux-dr": ("half", "cross-entropy", "diou"),
    "-aux-drmc": ("half", "margin", "diou"),
}


def test_table_3():
    baseline = recipes.get("asfd-r50-fem-fem")
    for ending, terms in TERMS.items():
        recipe = recipes.get(f"asfd-r50-fem-fem{ending}")
        network, criterion = recipe.network, recipe.criterion
        assert terms == (network.first_shot, criterion.classification.kind, criterion.box.kind)
        assert replace(network, first_shot="none") == baseline.network
    whole = recipes.get("asfd-r50-autofem-cpm-aux-drmc")
    assert whole.criterion == DRMC
    assert (whole.network.pyramid, whole.network.context) == ("autofem", "cpm")
    assert list(asfd.TABLE_3) == [
        *(f"asfd-r50-fem-fem{ending}" for ending in TERMS),
        whole.name,
    ]


def test_table_4_and_ours():
    assert set(asfd.TABLE_4) == {f"asfd-d{n}{end}" for n in range(7) for end in ("", "-cpm")}
    short, light = recipes.get("asfd-d0-short"), recipes.get("dsfd-light-short")
    assert short.network == recipes.get("asfd-d0").network
    assert short.run == replace(light.run, init_from=None)
    for part in ("data", "augment", "optim", "schedule"):
        assert getattr(short, part) == getattr(light, part)


TARGETS = packed([FACE, Target.empty()], (96, 96))
FEW = {"depths": (1, 1, 1, 1), "widths": (8, 8, 8, 8), "stem": (8, 8)}
ELSEWHERE = [
    ("scrfd-500m-kps-short", {"pyramid": "autofem", "context": "cpm", "head": 16, **FEW}),
    ("retinaface-mobile-short", {"pyramid": "autofem", "context": "cpm", "width": 16}),
    ("retinaface-mobile-short", {"pyramid": "bifpn", "context": "rfe", "cosine": 16.0}),
    (
        "dsfd-light-short",
        {"pyramid": "autofem", "context": "cpm", "enhanced": (12,) * 6, **FEW},
    ),
    ("smallhardface-light-short", {"context": "cpm", "fused": 12, "head": 8}),
]


@pytest.mark.parametrize(("name", "fields"), ELSEWHERE)
def test_searched_modules_and_drmc_in_every_system(name, fields):
    """By one field of the network each, and one of the criterion."""
    base = recipes.get(name)
    criterion = replace(base.criterion, classification=DRMC.classification, box=DRMC.box)
    recipe = replace(base, network=replace(base.network, **fields), criterion=criterion)
    assert recipes.from_dict(recipe.to_dict()) == recipe
    torch.manual_seed(0)
    network = recipe.network.build().train()
    for field, kind, value in (
        ("pyramid", PyramidCell, "autofem"),
        ("context", ContextCell, "cpm"),
    ):
        cells = [m for m in network.modules() if isinstance(m, kind)]
        assert bool(cells) == (fields.get(field) == value)
    learn = recipe.criterion.build(network)
    score, box = learn.terms["cls"], learn.terms["box"]
    assert isinstance(score, CrossEntropy)
    assert score.margin == pytest.approx(0.2 * fields.get("cosine", 1.0))
    assert isinstance(box, BoxLoss)
    assert box.kind == "diou"
    terms = learn(network(torch.randint(0, 256, (2, 3, 96, 96)).float()), TARGETS).terms
    assert terms["box"] > 0
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
    with torch.inference_mode():
        assert network.eval()(torch.zeros(1, 3, 96, 96)).boxes.isfinite().all()


def test_five_levels_of_retinaface_take_the_pyramid_too():
    base = recipes.get("retinaface-r50").network
    config = replace(base, backbone="mobilenet-0.25", pyramid="autofem", context="none", width=8)
    network = config.build().eval()
    assert network.context is None
    with torch.inference_mode():
        output = network(torch.zeros(1, 3, 128, 128))
    assert output.boxes.shape[1] == 3 * sum((128 // s) ** 2 for s in (4, 8, 16, 32, 64))


def test_dsfd_needs_one_width_for_another_pyramid():
    network = replace(recipes.get("dsfd-r50").network, pyramid="autofem")
    with pytest.raises(ValueError, match="autofem has maps of one width"):
        network.build()
