"""Recipes and networks as runs keep them: read back from `recipe.json` and checkpoints."""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facefind import systems
from facefind.errors import DataError
from facefind.learn.recipe import Recipe

if TYPE_CHECKING:
    from facefind.nn.detector import DenseDetector

__all__ = ["from_dict", "load_network", "read_recipe"]


def from_dict(content: dict[str, Any]) -> Recipe:
    """The recipe that `Recipe.to_dict` wrote.

    Raises:
        DataError: if its system is not registered, or it has fields that no recipe has.
    """
    config = systems.get(str(content.get("system"))).config
    plain = {key: value for key, value in content.items() if key != "system"}
    network = _parse(config, plain.pop("network"))
    recipe: Recipe = dataclasses.replace(_parse(Recipe, plain | {"network": None}), network=network)
    return recipe


def read_recipe(folder: str | Path) -> Recipe:
    """The recipe of a run folder.

    Raises:
        DataError: if the folder holds none.
    """
    path = Path(folder) / "recipe.json"
    if not path.is_file():
        raise DataError(f"{folder} is no run folder: it has no recipe.json")
    return from_dict(json.loads(path.read_text(encoding="utf-8")))


def load_network(path: str | Path) -> tuple[Recipe, DenseDetector]:
    """Recipe and trained network (averaged weights where kept) of a run folder or checkpoint.

    Raises:
        WeightsError: if there is no checkpoint or it cannot be read.
    """
    from facefind.learn import checkpoints

    content = checkpoints.load(checkpoints.path_of(Path(path)))
    recipe = from_dict(content["recipe"])
    network = recipe.network.build()
    network.load_state_dict(content.get("ema", content["network"]))
    return recipe, network.eval()


def _parse(kind: Any, value: Any) -> Any:
    """`value` as JSON gives it, in the type that a dataclass field names."""
    if value is None:
        return None
    if dataclasses.is_dataclass(kind):
        hints = _hints(typing.cast(type, kind))
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


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields, resolved once: a search reads hundreds of recipes."""
    return typing.get_type_hints(kind)


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
