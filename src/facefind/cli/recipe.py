"""The recipe that a command line starts with."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from facefind.errors import DataError

if TYPE_CHECKING:
    from facefind.learn.recipe import NetworkConfig, Recipe
    from facefind.nn.detector import DenseDetector

__all__ = ["build", "named", "usage"]


def named(args: Sequence[str]) -> tuple[Recipe | None, list[str]]:
    """The recipe that the arguments start with, None before an option; and the other arguments.

    A recipe is one of the package or `path/to/file.py:function`. An unknown one raises DataError.
    """
    if not args or args[0].startswith("-"):
        return None, list(args)
    from facefind import recipes

    return recipes.get(args[0]), list(args[1:])


def build(config: NetworkConfig) -> DenseDetector:
    """The network of a configuration; DataError where its numbers, the user's, don't fit."""
    try:
        return config.build()
    except ValueError as error:
        raise DataError(f"the --network options do not fit together: {error}") from error


def usage(command: str, text: str) -> str:
    """Help of a command before its recipe is known: what it does, and the recipes by system."""
    from facefind.recipes import by_system

    lines = [f"usage: facefind {command} RECIPE [OPTION ...]", "", text, "", "recipes:"]
    for system, recipes in by_system().items():
        rows = textwrap.wrap("  ".join(recipes), 96, break_on_hyphens=False)
        lines += [f"  {system}", *(f"    {row}" for row in rows)]
    lines += ["  your own", "    path/to/file.py:function", ""]
    lines.append(f"facefind {command} RECIPE --help lists every option with the recipe's values.")
    return "\n".join(lines)
