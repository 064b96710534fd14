"""Recipes: each named training run is a function that returns a `Recipe`."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import json
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facefind.errors import DataError
from facefind.learn.recipe import NetworkConfig, Recipe
from facefind.recipes import facefind, retinaface, scrfd, smallhardface
from facefind.systems.retinaface import RetinaFaceConfig
from facefind.systems.scrfd import SCRFDConfig
from facefind.systems.smallhardface import SmallHardFaceConfig

if TYPE_CHECKING:
    from torch import nn

__all__ = ["RECIPES", "SYSTEMS", "Recipe", "from_dict", "get", "load_network"]

RECIPES: dict[str, Callable[[], Recipe]] = {
    **scrfd.RECIPES,
    **retinaface.RECIPES,
    **smallhardface.RECIPES,
    **facefind.RECIPES,
}
"""Every recipe by name."""

SYSTEMS: dict[str, type[NetworkConfig]] = {
    "scrfd": SCRFDConfig,
    "retinaface": RetinaFaceConfig,
    "smallhardface": SmallHardFaceConfig,
}
"""The configuration class of each system's network."""


def get(name: str) -> Recipe:
    """The recipe of a name, or of `file.py:function`.

    Raises:
        DataError: if there is no such recipe; names near ones.
    """
    if name in RECIPES:
        return RECIPES[name]()
    path, _, function = name.rpartition(":")
    if path.endswith(".py"):
        return _from_file(Path(path), function)
    near = difflib.get_close_matches(name, RECIPES, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(RECIPES)}"
    raise DataError(f"no recipe {name!r}; {hint} A file of your own is named my_file.py:my_recipe")


def _from_file(path: Path, function: str) -> Recipe:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise DataError(f"no recipe file {path}; wanted my_file.py:my_recipe")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    make = getattr(module, function, None)
    recipe = make() if callable(make) else None
    if not isinstance(recipe, Recipe):
        raise DataError(f"{path} has no function {function!r} that returns a facefind Recipe")
    return recipe


def from_dict(content: dict[str, Any]) -> Recipe:
    """The recipe that `Recipe.to_dict` wrote."""
    if content.get("system") not in SYSTEMS:
        raise DataError(f"unknown system {content.get('system')!r}; known: {', '.join(SYSTEMS)}")
    plain = {key: value for key, value in content.items() if key != "system"}
    network = _parse(SYSTEMS[content["system"]], plain.pop("network"))
    recipe: Recipe = dataclasses.replace(_parse(Recipe, plain | {"network": None}), network=network)
    return recipe


def _parse(kind: Any, value: Any) -> Any:
    """`value` as JSON gives it, in the type that a dataclass field names."""
    if value is None:
        return None
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        known = {f.name for f in dataclasses.fields(kind)}
        unknown = set(value) - known
        if unknown:
            raise DataError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")  # type: ignore[union-attr]
        return kind(**{key: _parse(hints[key], item) for key, item in value.items()})  # type: ignore[operator]
    args = [a for a in typing.get_args(kind) if a is not type(None)]
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return _parse(_member(args, value), value)
    if typing.get_origin(kind) is tuple:
        kinds = args[:1] * len(value) if args[-1] is Ellipsis else args
        return tuple(_parse(one, item) for one, item in zip(kinds, value, strict=True))
    return Path(value) if kind is Path else value


def _member(kinds: Sequence[Any], value: Any) -> Any:
    """The one of a union's types that a value as JSON gives it was written from."""
    for kind in kinds:
        if dataclasses.is_dataclass(kind):
            fits = isinstance(value, dict) and value.keys() <= {
                f.name for f in dataclasses.fields(kind)
            }
        else:
            fits = isinstance(value, list) == (typing.get_origin(kind) is tuple)
        if fits:
            return kind
    return kinds[0]


def load_network(path: str | Path) -> tuple[Recipe, nn.Module]:
    """Recipe and trained network (averaged weights where kept) of a run folder or checkpoint.

    Raises:
        WeightsError: if there is no checkpoint or it cannot be read.
    """
    from facefind.learn import checkpoints

    content = checkpoints.load(checkpoints.of(Path(path)))
    recipe = from_dict(content["recipe"])
    network = recipe.network.build()
    network.load_state_dict(content.get("ema", content["network"]))
    return recipe, network.eval()


def read_recipe(folder: str | Path) -> Recipe:
    """The recipe of a run folder."""
    path = Path(folder) / "recipe.json"
    if not path.is_file():
        raise DataError(f"{folder} is no run folder: it has no recipe.json")
    return from_dict(json.loads(path.read_text(encoding="utf-8")))
