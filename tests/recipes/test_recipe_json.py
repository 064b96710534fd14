"""Recipes as JSON: every kind of field comes back, and recipes of earlier versions still load."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from facefind import recipes, systems
from facefind.errors import DataError
from facefind.learn.recipe import (
    AugmentConfig,
    MiningConfig,
    NetworkConfig,
    ParameterGroup,
    ResizedConfig,
)
from facefind.systems import scrfd
from facefind.systems.scrfd import SCRFDConfig


def back(recipe: recipes.Recipe) -> recipes.Recipe:
    return recipes.from_dict(json.loads(json.dumps(recipe.to_dict())))


def test_all_options_come_back() -> None:
    base = recipes.get("scrfd-500m")
    groups = (ParameterGroup(part="*.bias", lr=2.0), ParameterGroup(part="head", decay=0.0))
    recipe = replace(
        base,
        data=replace(base.data, root=("a", "b"), cache="cache"),
        augment=AugmentConfig(crop="resized", resized=ResizedConfig(short_sides=(100, 200))),
        optim=replace(base.optim, accumulate=2, groups=groups, frozen=("backbone.stem",)),
        mining=MiningConfig(on=True, sticky=True, no_positives="easy"),
    )
    assert back(recipe) == recipe


def test_a_recipe_of_the_first_version_loads() -> None:
    """As its run folders hold it: without mining, groups, scales and ways of coloring."""
    recipe = recipes.get("scrfd-2.5g-kps-short")
    content = json.loads(json.dumps(recipe.to_dict()))
    del content["mining"]
    for key in ("accumulate", "groups", "frozen"):
        del content["optim"][key]
    for key in ("crop", "crop_policy", "resized", "jitter"):
        del content["augment"][key]
    assert recipes.from_dict(content) == recipe


def test_a_field_that_is_not_known_is_told() -> None:
    content = recipes.get("scrfd-500m").to_dict()
    content["augment"]["crops"] = "square"
    with pytest.raises(DataError, match="AugmentConfig has no crops"):
        recipes.from_dict(content)


@dataclass(frozen=True, kw_only=True)
class Ratio:
    ratio: float = 3.0


@dataclass(frozen=True, kw_only=True)
class Quota:
    positives: int = 64
    all: int = 256


@dataclass(frozen=True, kw_only=True)
class Mixed(NetworkConfig):
    system = "mixed"

    mining: Ratio | Quota | None = None
    sizes: tuple[tuple[float, ...], ...] = ()
    offset: float | tuple[float, ...] = 0.0
    pair: tuple[int, Path] = (1, Path("x"))
    scrfd: SCRFDConfig = field(default_factory=lambda: scrfd.ROWS["scrfd-500m"])


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"mining": Ratio(ratio=7.0)},
        {"mining": Quota(positives=3)},
        {"sizes": ((16.0, 32.0), (64.0,)), "offset": (1.0, 2.0), "pair": (3, Path("y"))},
        {"offset": 7.5},
    ],
)
def test_unions_and_tuples_come_back(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("mixed_systems")
    module.ROWS, module.RECIPES = {"mixed": Mixed()}, {}
    monkeypatch.setitem(sys.modules, "mixed_systems", module)
    monkeypatch.setitem(systems.SYSTEMS, "mixed", systems.System("mixed_systems"))
    recipe = replace(recipes.get("scrfd-500m"), network=Mixed(**values))
    assert back(recipe) == recipe
