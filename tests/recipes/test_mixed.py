"""Parts of all papers go together: every assigner, sampler and term on every system."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from kinds import FACE, packed

from facefind import recipes, systems
from facefind.learn.criterion_config import (
    AssignerConfig,
    BoxConfig,
    ClassificationConfig,
    CriterionConfig,
    SamplerConfig,
)
from facefind.learn.targets import Target

SYSTEM_RECIPES = {
    "scrfd": "scrfd-500m-kps-short",
    "retinaface": "retinaface-mobile-short",
    "smallhardface": "smallhardface-light-short",
    "dsfd": "dsfd-light-short",
    "asfd": "asfd-d0-short",
}
ASSIGNERS = [AssignerConfig(kind=kind) for kind in ("atss", "max-iou", "simota")]
SAMPLERS = [SamplerConfig(kind=kind) for kind in ("all", "ohem", "ohem-quota")]
SCORES = [ClassificationConfig(kind=kind) for kind in ("quality-focal", "cross-entropy", "margin")]
BOXES = [BoxConfig(kind=kind) for kind in ("diou", "smooth-l1")]
TARGETS = packed(
    [replace(FACE, boxes=torch.tensor([[20.0, 20, 52, 56], [2, 40, 18, 56]]),
             landmarks=torch.cat([FACE.landmarks, torch.full((1, 5, 2), torch.nan)])),
     Target.empty()], (64, 64)
)  # fmt: skip


def test_every_system_is_mixed():
    assert SYSTEM_RECIPES.keys() == systems.SYSTEMS.keys()


FEWER_CHANNELS = {
    "scrfd": {"depths": (1, 1, 1, 1), "widths": (8, 8, 8, 8), "stem": (8, 8), "head": 16},
    "retinaface": {"width": 16},
    "smallhardface": {"reduced": 8, "fused": 12, "head": 8},
    "dsfd": {
        **{"stem": (8, 8), "depths": (1, 1, 1, 1), "widths": (8, 8, 8, 8)},
        "enhanced": (12,) * 6,
    },
    "asfd": {"width": 12, "head_depth": 1},
}


@pytest.fixture(scope="module", params=SYSTEM_RECIPES)
def recipe(request):
    """A recipe of each system, its network with few channels."""
    found = recipes.get(SYSTEM_RECIPES[request.param])
    return replace(found, network=replace(found.network, **FEWER_CHANNELS[request.param]))


@pytest.fixture(scope="module")
def network(recipe):
    torch.manual_seed(0)
    return recipe.network.build().train()


@pytest.mark.parametrize(
    "criterion",
    [
        CriterionConfig(assigner=a, sampler=s, classification=c, box=b)
        for a, s, c, b in itertools.product(ASSIGNERS, SAMPLERS, SCORES, BOXES)
    ],
    ids=lambda c: "-".join(p.kind for p in (c.assigner, c.sampler, c.classification, c.box)),
)
def test_two_steps_of_every_combination(network, criterion):
    learn = criterion.build(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-5)
    images = torch.randint(0, 256, (2, 3, 64, 64)).float()
    before = [p.detach().clone() for p in network.parameters()]
    for _ in range(2):
        losses = learn(network(images), TARGETS)
        loss = torch.stack(list(losses.terms.values())).sum()
        assert torch.isfinite(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses.terms["cls"] > 0
    if criterion.assigner.kind != "simota":  # whose faces go where predictions happen to be
        assert losses.terms["box"] > 0
    assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert all(torch.isfinite(p).all() for p in network.parameters())


@pytest.mark.parametrize("of", SYSTEM_RECIPES)
def test_a_recipe_takes_another_system_s_criterion_by_one_line(recipe, network, of):
    theirs = recipes.get(SYSTEM_RECIPES[of])
    mixed = replace(recipe, criterion=theirs.criterion)
    losses = mixed.criterion.build(network)(network(torch.zeros(2, 3, 64, 64)), TARGETS)
    assert all(torch.isfinite(term) for term in losses.terms.values())
    assert recipes.from_dict(mixed.to_dict()) == mixed
