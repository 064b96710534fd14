"""A study: both steps of a search, from drawn networks to the best one, in a store.

Every process that works on a study does the same: it finishes what is not finished, trial by
trial, each claimed so that no two do the same one. What comes next follows from the results alone,
so that processes agree without talking, and a killed study goes on where it was.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from facefind import datasets, recipes
from facefind.errors import DataError, FacefindError
from facefind.learn.engine import read_sets
from facefind.learn.recipe import Recipe
from facefind.search import sampling
from facefind.search.cost import BACKBONE, NetworkCost, cost
from facefind.search.space import SPACES, Goal, PaperSpace, SpaceName
from facefind.search.statistics import Agreement, Interval, agreement, bootstrap
from facefind.search.store import Store
from facefind.search.trial import clear, train_candidate
from facefind.systems.scrfd import SCRFDConfig

STEPS = (1, 2)
_POLL = 0.5


class StudyError(FacefindError):
    """A study can't go on; its store still stands."""


@dataclass(frozen=True, kw_only=True)
class Halving:
    """Successive halving: all networks train a little, the best third three times as long, ...

    Every rung trains anew on its own whole schedule, so that each score is that of a finished
    training. Source: Jamieson and Talwalkar (arXiv:1502.07943), algorithm 1.
    """

    eta: int = 3
    """One in so many goes on, and trains so many times as long."""
    rungs: int = 3
    """Trainings from the shortest to the full one."""
    check: int = 8
    """Networks, chosen at random whatever their first score, that are trained in full as well: on
    these the order after a short training is compared with the order after a full one."""

    def __post_init__(self) -> None:
        if self.eta < 2 or self.rungs < 2 or self.check < 0:
            raise DataError(
                f"halving by {self.eta} over {self.rungs} rungs with {self.check} checks: wanted "
                "at least 2, 2 and 0"
            )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that makes a study."""

    goal: Goal
    space: SpaceName
    models: int
    """Networks a step."""
    trial: Recipe
    """What each candidate is trained by; its network is replaced."""
    final: Recipe
    """What the best network gets at the end; its network is replaced."""
    subset: str = "height>=9"
    """The AP that counts: of faces from 9 pixels on, which stands for WIDER FACE's hard."""
    halving: Halving | None = None
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "goal": dataclasses.asdict(self.goal),
            "space": self.space,
            "models": self.models,
            "trial": self.trial.to_dict(),
            "final": self.final.to_dict(),
            "subset": self.subset,
            "halving": dataclasses.asdict(self.halving) if self.halving else None,
            "seed": self.seed,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Settings:
        """The settings that `to_dict` wrote."""
        return cls(
            goal=Goal(**content["goal"]),
            space=content["space"],
            models=content["models"],
            trial=recipes.from_dict(content["trial"]),
            final=recipes.from_dict(content["final"]),
            subset=content["subset"],
            halving=Halving(**content["halving"]) if content["halving"] else None,
            seed=content["seed"],
        )

    @property
    def rung_epochs(self) -> list[float]:
        """Epochs of each rung, the full training last; without halving there is only that."""
        full = self.trial.schedule.epochs
        if self.halving is None:
            return [full]
        return [full / self.halving.eta**n for n in reversed(range(self.halving.rungs))]


@dataclass(frozen=True)
class Trial:
    """A candidate at a rung."""

    step: int
    index: int
    rung: int
    network: SCRFDConfig
    recipe: Recipe

    @property
    def key(self) -> str:
        """Its name in the store."""
        return f"step{self.step}-{self.index:04}-rung{self.rung}"


@dataclass(frozen=True)
class Entry:
    """A candidate with what its trials gave; `rung` is the last one that halving granted it."""

    index: int
    network: SCRFDConfig
    cost: NetworkCost
    rung: int
    scores: dict[int, float]
    """Score by rung, those of checks included; failed trials have none."""

    @property
    def order(self) -> tuple[int, float]:
        """What networks are ranked by: how far they came, and how good they were there."""
        return self.rung, self.scores.get(self.rung, -math.inf)


Runner = Callable[["Study", Sequence[Trial]], bool]
"""Does what it can get of these trials, and says whether it got any."""


class Study:
    """A study in `folder`: a new one, or the one that is there, to go on with.

    Raises:
        StudyError: if the folder holds a study with other settings or other data.
        DataError: if the training images can't be read, or none are held out.
    """

    def __init__(self, folder: str | Path, settings: Settings) -> None:
        if settings.models < 1:
            raise DataError(f"models is {settings.models}; wanted at least 1")
        self.store, self.settings = Store(Path(folder)), settings
        # What is once written never changes, so it is read and parsed once.
        self._networks: dict[int, list[SCRFDConfig]] = {}
        self._results: dict[str, dict[str, Any]] = {}
        content = _identity(settings.to_dict()) | {"data": _data(settings.trial)}
        while (known := self.store.read("study.json")) is None:
            with self.store.claim("study") as got:
                if got and self.store.read("study.json") is None:
                    self.store.write("study.json", content)
            time.sleep(0 if got else _POLL)
        # Options that came after the study stand at their defaults, as they did without them.
        begun = {name: recipes.from_dict(known[name]).to_dict() for name in ("trial", "final")}
        known |= _identity(begun)
        differing = [name for name in content if known.get(name) != _plain(content[name])]
        if differing:
            raise StudyError(
                f"{folder} holds a study with other {', '.join(differing)}; give the options that "
                "it was begun with (they stand in its study.json), or another folder"
            )

    def run(self, runner: Runner | None = None) -> None:
        """Finish both steps; other processes may be working on them too."""
        for step in STEPS:
            self.candidates(step)
            for rung in range(len(self.settings.rung_epochs)):
                self._finish(step, rung, runner or here)

    def candidates(self, step: int) -> list[SCRFDConfig]:
        """The networks of a step; drawn at the first call, those of step 2 from step 1's result.

        Raises:
            StudyError: for step 2, if step 1 is not finished or gave no score at all.
        """
        if step in self._networks:
            return self._networks[step]
        name = f"step{step}.json"
        while (known := self.store.read(name)) is None:
            with self.store.claim(f"draw-{step}") as got:
                if got and self.store.read(name) is None:
                    drawn = self._draw(step)
                    networks = [dataclasses.asdict(config) for config in drawn]
                    self.store.write(name, {"networks": networks})
            time.sleep(0 if got else _POLL)
        found = [_network(self.settings.trial, plain) for plain in known["networks"]]
        self._networks[step] = found
        return found

    def result(self, key: str) -> dict[str, Any] | None:
        """The result of a trial, None until it has ended."""
        if key not in self._results:
            result = self.store.result(key)
            if result is None:
                return None
            self._results[key] = result
        return self._results[key]

    def _draw(self, step: int) -> list[SCRFDConfig]:
        s = self.settings
        space = SPACES[s.space]
        if step == 1:
            return sampling.backbones(space, s.goal, s.models, s.seed)
        if not isinstance(space, PaperSpace):
            return sampling.detectors(
                space, s.goal, s.models, s.seed, template=self.best(1).network
            )
        shares = {part: i.widened(space.slack) for part, i in self.intervals(1).items()}
        return sampling.detectors(space, s.goal, s.models, s.seed, shares=shares)

    def members(self, step: int, rung: int) -> list[int]:
        """The candidates that halving grants a rung, as far as the rungs before are finished."""
        everyone = list(range(len(self.candidates(step))))
        eta = self.settings.halving.eta if self.settings.halving else 1
        for before in range(rung):
            scores = {i: self._score(step, i, before) for i in everyone}
            ranked = sorted(everyone, key=lambda i: (-scores[i], i))
            everyone = sorted(ranked[: max(math.ceil(len(everyone) / eta), 1)])
        return everyone

    def checks(self, step: int) -> list[int]:
        """The candidates that are trained in full whatever their first scores are."""
        s = self.settings
        if s.halving is None:
            return []
        rng = np.random.default_rng((s.seed, step, 3))
        count = min(s.halving.check, len(self.candidates(step)))
        return sorted(rng.permutation(len(self.candidates(step)))[:count].tolist())

    def trials(self, step: int, rung: int) -> list[Trial]:
        """All trials of a rung, finished or not."""
        networks = self.candidates(step)
        last = rung == len(self.settings.rung_epochs) - 1
        wanted = set(self.members(step, rung)) | (set(self.checks(step)) if last else set())
        return [self._trial(step, index, rung, networks[index]) for index in sorted(wanted)]

    def _trial(self, step: int, index: int, rung: int, network: SCRFDConfig) -> Trial:
        base = self.settings.trial
        full, epochs = base.schedule.epochs, self.settings.rung_epochs[rung]
        warmup = base.schedule.warmup_epochs * epochs / full
        trial = Trial(step, index, rung, network, base)
        recipe = replace(
            base,
            name=trial.key,
            network=network,
            schedule=replace(base.schedule, epochs=epochs, warmup_epochs=warmup),
            run=replace(base.run, out=self.store.run_folder(trial.key), seed=self.settings.seed),
        )
        return replace(trial, recipe=recipe)

    def finish(self, trial: Trial, outcome: dict[str, Any]) -> None:
        """Keep the outcome of a trial."""
        spent = cost(trial.network)
        self.store.finish(
            trial.key,
            {
                "step": trial.step,
                "index": trial.index,
                "rung": trial.rung,
                "epochs": trial.recipe.schedule.epochs,
                "network": dataclasses.asdict(trial.network),
                "multiply_adds": spent.multiply_adds,
                "parameters": spent.parameters,
                **outcome,
            },
        )
        clear(trial.recipe)

    def _finish(self, step: int, rung: int, runner: Runner) -> None:
        trials = self.trials(step, rung)
        while pending := [t for t in trials if self.result(t.key) is None]:
            if not runner(self, pending):
                time.sleep(_POLL)  # others are at work on all of them

    def _score(self, step: int, index: int, rung: int) -> float:
        result = self.result(f"step{step}-{index:04}-rung{rung}")
        if result is None:
            raise StudyError(f"step {step} is not finished: run the search again to go on")
        ap = result.get("ap")
        if ap is None:
            return -math.inf
        if self.settings.subset not in ap:
            raise StudyError(f"no AP of {self.settings.subset!r}; there are {', '.join(ap)}")
        return float(ap[self.settings.subset])

    def entries(self, step: int) -> list[Entry]:
        """Every candidate of a finished step with its scores."""
        granted: dict[int, int] = {}
        rungs = range(len(self.settings.rung_epochs))
        scores: dict[int, dict[int, float]] = {}
        for rung in rungs:
            granted.update(dict.fromkeys(self.members(step, rung), rung))
            for trial in self.trials(step, rung):
                score = self._score(step, trial.index, rung)
                if math.isfinite(score):
                    scores.setdefault(trial.index, {})[rung] = score
        return [
            Entry(index, network, cost(network), granted[index], scores.get(index, {}))
            for index, network in enumerate(self.candidates(step))
        ]

    def intervals(self, step: int) -> dict[str, Interval]:
        """Where the best networks of a step lie.

        Step 1: the share of each part of the backbone in the backbone's computation (fig. 5).
        Step 2: the shares of backbone, neck and head in the whole network's (fig. 9), and again
        those within the backbone.
        """
        entries = [e for e in self.entries(step) if math.isfinite(e.order[1])]
        if not entries:
            raise StudyError(f"not one network of step {step} gave a score; see trials/*.json")
        ladder = {order: rank for rank, order in enumerate(sorted({e.order for e in entries}))}
        ranks = [ladder[e.order] for e in entries]
        return {
            name: bootstrap(values, ranks, seed=self.settings.seed)
            for name, values in shares(entries, step).items()
        }

    def best(self, step: int) -> Entry:
        """The best candidate of a finished step.

        Raises:
            StudyError: if no trial of it gave a score.
        """
        found = max(self.entries(step), key=lambda e: (e.order, -e.index))
        if not math.isfinite(found.order[1]):
            raise StudyError(f"not one network of step {step} gave a score; see trials/*.json")
        return found

    def agreements(self, step: int) -> dict[str, dict[str, Agreement]]:
        """How well each shorter rung foretells the full training's order.

        `checks` compares the networks chosen at random, which is the fair measure; `all` every
        network that has both scores, among which the best are too many.
        """
        entries, last = self.entries(step), len(self.settings.rung_epochs) - 1
        random = set(self.checks(step))
        found: dict[str, dict[str, Agreement]] = {}
        for rung in range(last):
            found[f"{self.settings.rung_epochs[rung]:g} epochs"] = {
                name: agreement([e.scores[rung] for e in some], [e.scores[last] for e in some])
                for name, some in (
                    ("checks", [e for e in entries if e.index in random and both(e, rung, last)]),
                    ("all", [e for e in entries if both(e, rung, last)]),
                )
            }
        return found


def both(entry: Entry, first: int, second: int) -> bool:
    """Whether a candidate has a score at both rungs."""
    return first in entry.scores and second in entry.scores


def shares(entries: Sequence[Entry], step: int) -> dict[str, list[float]]:
    """Name -> a share of computation for each entry: what is searched in a step."""
    found = {part: [e.cost.backbone_share(part) for e in entries] for part in BACKBONE}
    if step == 2:
        whole = {"backbone": BACKBONE, "neck": ("neck",), "head": ("head",)}
        rest = {name: [e.cost.share(*parts) for e in entries] for name, parts in whole.items()}
        found = rest | found
    return found


def here(study: Study, trials: Sequence[Trial]) -> bool:
    """A runner: this process does every trial that it can claim, one after the other."""
    any_done = False
    for trial in trials:
        with study.store.claim(trial.key) as got:
            if got and study.store.result(trial.key) is None:
                study.finish(trial, train_candidate(trial.recipe.to_dict()))
                any_done = True
    return any_done


def _network(like: Recipe, plain: dict[str, Any]) -> SCRFDConfig:
    network = recipes.from_dict(like.to_dict() | {"network": plain}).network
    assert isinstance(network, SCRFDConfig)
    return network


def _data(recipe: Recipe) -> dict[str, Any]:
    """What the candidates learn from and are measured on."""
    samples, held_out = read_sets(recipe.data)
    measured = held_out[: recipe.run.evaluate_images or None]
    if not samples or not measured:
        raise DataError(
            f"{len(samples)} images to learn from and {len(measured)} held out; a search needs "
            "both: give it more images, or another --hold-out"
        )
    return {
        "images": len(samples),
        "digest": datasets.digest(samples),
        "images_measured": len(measured),
        "digest_measured": datasets.digest(measured),
    }


_MACHINE = {"run": ("out", "device", "threads"), "data": ("root", "workers", "cache")}


def _identity(content: dict[str, Any]) -> dict[str, Any]:
    """The settings without what may differ from machine to machine, and start to start."""
    for recipe in (content["trial"], content["final"]):
        for branch, names in _MACHINE.items():
            recipe[branch] = {k: v for k, v in recipe[branch].items() if k not in names}
    plain: dict[str, Any] = _plain(content)
    return plain


def _plain(value: Any) -> Any:
    import json

    return json.loads(json.dumps(value))


__all__ = [
    "STEPS",
    "Entry",
    "Halving",
    "Runner",
    "Settings",
    "Study",
    "StudyError",
    "Trial",
    "here",
    "shares",
]
