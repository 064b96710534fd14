"""The recipe that a command line names: one of the package, or a function in a file."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from facefind.errors import DataError

if TYPE_CHECKING:
    from facefind.learn.recipe import Recipe

__all__ = ["load", "named", "usage"]


def named(args: Sequence[str]) -> tuple[Recipe | None, list[str]]:
    """The recipe that leads the arguments, None where an option does; and the other arguments."""
    if not args or args[0].startswith("-"):
        return None, list(args)
    return load(args[0]), list(args[1:])


def load(name: str) -> Recipe:
    """The recipe of that name, or what `function` returns for `path/to/file.py:function`.

    Raises:
        DataError: There is no such recipe, file or function, or it returns something else.
    """
    from facefind.learn.recipe import Recipe
    from facefind.recipes import RECIPES

    path, colon, function = name.rpartition(":")
    make: Callable[[], Recipe] | None
    if colon and path.endswith(".py"):
        make = getattr(_module(Path(path)), function, None)
        if make is None:
            raise DataError(f"{path} has no function {function!r} that would return a recipe")
    else:
        make = RECIPES.get(name)
        if make is None:
            near = get_close_matches(name, RECIPES, n=3, cutoff=0.4) or list(RECIPES)
            raise DataError(
                f"there is no recipe {name!r}; near it are {', '.join(near)}; "
                "one of your own is named path/to/file.py:function"
            )
    recipe = make()
    if not isinstance(recipe, Recipe):
        raise DataError(f"{name} returned {type(recipe).__name__}, wanted a facefind Recipe")
    return recipe


def usage(command: str, text: str) -> str:
    """Help of a command before its recipe is known: what it does, and the recipes there are."""
    from facefind.recipes import RECIPES

    lines = [f"usage: facefind {command} RECIPE [OPTION ...]", "", text, "", "recipes:"]
    lines += [f"  {name}" for name in RECIPES]
    lines += ["  path/to/file.py:function", ""]
    lines.append(f"facefind {command} RECIPE --help tells every option with the recipe's values.")
    return "\n".join(lines)


def _module(path: Path) -> object:
    if not path.is_file():
        raise DataError(f"{path}: no such file, wanted path/to/file.py:function")
    name = f"facefind_recipes_of_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # a file that ends in .py has a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses defined in the file look it up
    spec.loader.exec_module(module)
    return module
