"""Systems: every detector by name, and the modules that hold its networks and recipes.

A detector is one module with `ROWS`, its networks by name, and `RECIPES`, its trainings by name;
those of the larger papers have a module for each. A line in `SYSTEMS` registers it: commands,
documentation and tests find it there. A package of one's own registers its module without touching
this file, by an entry point of the group `facefind.systems` or by `register`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from facefind.errors import DataError

if TYPE_CHECKING:
    from facefind.learn.recipe import NetworkConfig, Recipe

__all__ = ["SYSTEMS", "System", "get", "register"]


@dataclass(frozen=True)
class System:
    """Where a detector's networks and recipes are.

    Attributes:
        networks: module with `ROWS`; it must not import torch before a network is built.
        trainings: module with `RECIPES`; "" where it is the same.
    """

    networks: str
    trainings: str = ""

    @property
    def rows(self) -> Mapping[str, NetworkConfig]:
        """Every network by name."""
        rows: Mapping[str, NetworkConfig] = import_module(self.networks).ROWS
        return rows

    @property
    def recipes(self) -> Mapping[str, Callable[[], Recipe]]:
        """Every recipe by name."""
        module = import_module(self.trainings or self.networks)
        recipes: Mapping[str, Callable[[], Recipe]] = module.RECIPES
        return recipes

    @property
    def config(self) -> type[NetworkConfig]:
        """The class of the networks' configurations."""
        return type(next(iter(self.rows.values())))


SYSTEMS: dict[str, System] = {
    "scrfd": System("facefind.systems.scrfd", "facefind.recipes.scrfd"),
    "retinaface": System("facefind.systems.retinaface", "facefind.recipes.retinaface"),
    "smallhardface": System("facefind.systems.smallhardface", "facefind.recipes.smallhardface"),
    "dsfd": System("facefind.systems.dsfd", "facefind.recipes.dsfd"),
    "asfd": System("facefind.systems.asfd", "facefind.recipes.asfd"),
}
"""Every registered detector by name."""


def register(name: str, system: System) -> None:
    """Add a detector of one's own for this process.

    Raises:
        ValueError: if another has the name.
    """
    if SYSTEMS.setdefault(name, system) != system:
        raise ValueError(f"a system {name!r} is registered already: {SYSTEMS[name]}")


def get(name: str) -> System:
    """The system of a name, an installed package's too.

    Raises:
        DataError: if there is none.
    """
    if name not in SYSTEMS:
        for point in entry_points(group="facefind.systems", name=name):
            register(name, System(point.value))
    if name not in SYSTEMS:
        raise DataError(f"no system {name!r}; expected one of {', '.join(SYSTEMS)}")
    return SYSTEMS[name]
