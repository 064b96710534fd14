"""What a search tries, step by step; all that study, store and workers know of a system."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from facefind.learn.recipe import NetworkConfig

if TYPE_CHECKING:
    from facefind.search.study import Study


@dataclass(frozen=True)
class NetworkCost:
    """Parameters and multiply-adds of one network by part, as `nn.cost.measure` counts them."""

    parameters: dict[str, int]
    multiply_adds: dict[str, int]

    def share(self, *parts: str, of: Sequence[str] | None = None) -> float:
        """Fraction of the multiply-adds of the parts `of` (None: all) that lies in `parts`."""
        whole = sum(self.multiply_adds[part] for part in of or self.multiply_adds)
        return sum(self.multiply_adds[part] for part in parts) / whole


@dataclass(frozen=True)
class Entry:
    """A candidate with what its trials gave; `rung` is the last one that halving granted it."""

    index: int
    network: NetworkConfig
    cost: NetworkCost
    rung: int
    scores: dict[int, float]
    """Score by rung, those of checks included; failed trials have none."""

    @property
    def order(self) -> tuple[int, float]:
        """What networks are ranked by: how far they came, and how good they were there."""
        return self.rung, self.scores.get(self.rung, -math.inf)


class Candidates(Protocol):
    """A search's candidate networks. A system that is searched implements this, and no more.

    Instances are immutable, can be pickled, and are equal where their settings are.
    """

    @property
    def steps(self) -> tuple[int, ...]:
        """The search's steps in order; each draws its networks from the results before it."""

    @property
    def found_name(self) -> str:
        """Name of the recipe that is the result."""

    @property
    def title(self) -> str:
        """What is searched for, in a few words."""

    def draw(self, study: Study, step: int) -> Sequence[NetworkConfig]:
        """The `study.settings.models` networks of a step, drawn with the study's seed."""

    def train(self, step: int, content: dict[str, Any]) -> dict[str, Any]:
        """The result of a trial of a step, by a recipe (`Recipe.to_dict`), in plain values.

        `trial.train_candidate` trains and measures a network. A result has at least what that
        gives, `ap` or `failed`, and resumes in the recipe's folder what a killed trial has left.
        """

    def found(self, study: Study) -> NetworkConfig:
        """The network that a finished study has come to."""

    def cost(self, network: NetworkConfig) -> NetworkCost:
        """What a network costs."""

    def shares(self, entries: Sequence[Entry], step: int) -> dict[str, list[float]]:
        """Name -> a number of each entry: what is searched in a step."""

    def panels(self, entries: Sequence[Entry], step: int) -> dict[str, dict[str, list[float]]]:
        """Figures of a step: file name without suffix -> title -> a number of each entry."""

    def details(self, study: Study) -> dict[str, Any]:
        """What the report of a finished study says beside its steps, in plain values.

        May write files of the search's own into the study's folder.
        """

    def figures(self, study: Study, folder: Path) -> list[Path]:
        """Draw what there is beside the panels into a folder; the files' paths."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON, that differ for other candidates."""
