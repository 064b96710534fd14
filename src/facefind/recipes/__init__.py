"""Recipes: each named training run is a function that returns a `Recipe`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from facefind.errors import DataError, did_you_mean
from facefind.learn.recipe import Recipe
from facefind.recipes.stored import from_dict, load_network, read_recipe
from facefind.systems import SYSTEMS

__all__ = ["Recipe", "by_system", "from_dict", "get", "load_network", "names", "read_recipe"]


def by_system() -> dict[str, dict[str, Callable[[], Recipe]]]:
    """Every recipe by name, by system."""
    return {name: dict(system.recipes) for name, system in SYSTEMS.items()}


def names() -> list[str]:
    """The name of every recipe, system by system."""
    return [name for recipes in by_system().values() for name in recipes]


def get(name: str) -> Recipe:
    """The recipe of a name, or of `file.py:function`.

    Raises:
        DataError: if there is no such recipe; names near ones.
    """
    for recipes in by_system().values():
        if name in recipes:
            return recipes[name]()
    path, _, function = name.rpartition(":")
    if path.endswith(".py"):
        return _from_file(Path(path), function)
    hint = did_you_mean(name, names()) or "; `facefind train --help` lists them."
    raise DataError(f"no recipe {name!r}{hint} A file of your own is named my_file.py:my_recipe")


def _from_file(path: Path, function: str) -> Recipe:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise DataError(f"no recipe file {path}; expected my_file.py:my_recipe")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    make = getattr(module, function, None)
    recipe = make() if callable(make) else None
    if not isinstance(recipe, Recipe):
        raise DataError(f"{path} has no function {function!r} that returns a facefind Recipe")
    return recipe
