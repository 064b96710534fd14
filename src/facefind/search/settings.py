"""What makes a study: candidates, recipes, and how long each is trained."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from facefind import recipes
from facefind.errors import DataError
from facefind.learn.recipe import NetworkConfig, Recipe
from facefind.search.candidates import Candidates


@dataclass(frozen=True, kw_only=True)
class Halving:
    """Successive halving: all networks train a little, the best third three times as long, ...

    Every rung trains from scratch on its own whole schedule, so that each score is that of a
    finished training. Source: Jamieson and Talwalkar (arXiv:1502.07943), algorithm 1.
    """

    eta: int = 3
    """One in so many is trained again, and so many times as long."""
    rungs: int = 3
    """Trainings from the shortest to the full one."""
    check: int = 8
    """Networks, chosen at random whatever their first score, that are trained in full as well: on
    these the order after a short training is compared with the order after a full one."""

    def __post_init__(self) -> None:
        if self.eta < 2 or self.rungs < 2 or self.check < 0:
            raise DataError(
                "expected eta and rungs of at least 2 and check of at least 0, got "
                f"eta {self.eta}, rungs {self.rungs}, check {self.check}"
            )


@dataclass(frozen=True)
class Trial:
    """A candidate at a rung."""

    step: int
    index: int
    rung: int
    network: NetworkConfig
    recipe: Recipe

    @property
    def key(self) -> str:
        """Its name in the store."""
        return trial_key(self.step, self.index, self.rung)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that makes a study."""

    candidates: Candidates
    models: int
    """Networks a step."""
    trial: Recipe
    """What each candidate is trained by; its network is replaced."""
    final: Recipe
    """What the best network gets at the end; its network is replaced."""
    subset: str = "height>=9"
    """The AP that counts: of faces from 9 pixels on, the nearest to WIDER FACE's hard."""
    halving: Halving | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.models < 1:
            raise DataError(f"expected models of at least 1, got {self.models}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "candidates": self.candidates.to_dict(),
            "models": self.models,
            "trial": self.trial.to_dict(),
            "final": self.final.to_dict(),
            "subset": self.subset,
            "halving": dataclasses.asdict(self.halving) if self.halving else None,
            "seed": self.seed,
        }

    @property
    def rung_epochs(self) -> list[float]:
        """Epochs of each rung, the full training last; without halving there is only that."""
        full = self.trial.schedule.epochs
        if self.halving is None:
            return [full]
        return [full / self.halving.eta**n for n in reversed(range(self.halving.rungs))]

    def network(self, plain: dict[str, Any]) -> NetworkConfig:
        """The network of the values that `dataclasses.asdict` made of one."""
        return recipes.from_dict(self.trial.to_dict() | {"network": plain}).network

    def make_trial(
        self, step: int, index: int, rung: int, network: NetworkConfig, folder: Path
    ) -> Trial:
        """A candidate's trial at a rung, whose run folder is `folder`."""
        base = self.trial
        epochs = self.rung_epochs[rung]
        warmup = base.schedule.warmup_epochs * epochs / base.schedule.epochs
        recipe = replace(
            base,
            name=trial_key(step, index, rung),
            network=network,
            schedule=replace(base.schedule, epochs=epochs, warmup_epochs=warmup),
            run=replace(base.run, out=folder, seed=self.seed),
        )
        return Trial(step, index, rung, network, recipe)


def trial_key(step: int, index: int, rung: int) -> str:
    """A trial's name in the store."""
    return f"step{step}-{index:04}-rung{rung}"


def same_for_all_machines(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings (`Settings.to_dict`) without what may differ between machines and starts."""
    local = {"run": ("out", "device", "threads"), "data": ("root", "val", "workers", "cache")}
    found = dict(settings)
    for name in ("trial", "final"):
        found[name] = dict(settings[name])
        for branch, names in local.items():
            values = settings[name][branch].items()
            found[name][branch] = {k: v for k, v in values if k not in names}
    return found
