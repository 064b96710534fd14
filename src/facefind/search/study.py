"""A study: all steps of a search, from drawn networks to the best one, in a store.

Every process that works on a study does the same: it finishes what is not finished, trial by
trial, each claimed so that no two do the same one. What comes next follows from the results alone,
so that processes agree without talking, and a killed study is resumed by running it again.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facefind import datasets, files, recipes
from facefind.errors import DataError, FacefindError
from facefind.learn.recipe import NetworkConfig, Recipe
from facefind.search.candidates import Entry
from facefind.search.settings import Settings, Trial, same_for_all_machines, trial_key
from facefind.search.statistics import Agreement, Interval, agreement, bootstrap
from facefind.search.store import Store
from facefind.search.trial import clear

_POLL = 0.5


class StudyError(FacefindError):
    """A study can't be continued; its store is unchanged."""


Runner = Callable[["Study", Sequence[Trial]], bool]
"""Does the trials that it can claim of these, and returns whether there were any."""


class Study:
    """A study in `folder`: a new one, or the one that is there, which is resumed.

    Raises:
        StudyError: if the folder holds a study with other settings or other data.
        DataError: if the training images can't be read, or none are held out.
    """

    def __init__(self, folder: str | Path, settings: Settings) -> None:
        self.store, self.settings = Store(Path(folder)), settings
        # What is once written never changes, so it is read and parsed once.
        self._networks: dict[int, list[NetworkConfig]] = {}
        self._results: dict[str, dict[str, Any]] = {}
        content = files.plain(same_for_all_machines(settings.to_dict()))
        content["data"] = image_sets(settings.trial)
        while (known := self.store.read("study.json")) is None:
            with self.store.claim("study") as got:
                if got and self.store.read("study.json") is None:
                    self.store.write("study.json", content)
            time.sleep(0 if got else _POLL)
        # Options that came after the study are at their defaults, as they were without them.
        trials = {name: recipes.from_dict(known[name]).to_dict() for name in ("trial", "final")}
        known = files.plain(same_for_all_machines(known | trials))
        differing = [name for name in content if known.get(name) != content[name]]
        if differing:
            raise StudyError(
                f"{folder} holds a study with other {', '.join(differing)}; give the options that "
                "it was started with (its study.json lists them), or another folder"
            )

    def run(self, runner: Runner | None = None) -> None:
        """Finish all steps; other processes may be working on them too."""
        for step in self.settings.candidates.steps:
            self.candidates(step)
            for rung in range(len(self.settings.rung_epochs)):
                self._finish(step, rung, runner or here)

    def candidates(self, step: int) -> list[NetworkConfig]:
        """The networks of a step; drawn at the first call, from the results of the steps before.

        Raises:
            StudyError: if the step before is not finished or gave no score at all.
        """
        if step in self._networks:
            return self._networks[step]
        name = f"step{step}.json"
        while (known := self.store.read(name)) is None:
            with self.store.claim(f"draw-{step}") as got:
                if got and self.store.read(name) is None:
                    drawn = self.settings.candidates.draw(self, step)
                    networks = [dataclasses.asdict(config) for config in drawn]
                    self.store.write(name, {"networks": networks})
            time.sleep(0 if got else _POLL)
        found = [self.settings.network(plain) for plain in known["networks"]]
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
        chosen = set(self.members(step, rung)) | (set(self.checks(step)) if last else set())
        found = []
        for index in sorted(chosen):
            folder = self.store.run_folder(trial_key(step, index, rung))
            found.append(self.settings.make_trial(step, index, rung, networks[index], folder))
        return found

    def finish(self, trial: Trial, outcome: dict[str, Any]) -> None:
        """Keep the outcome of a trial."""
        spent = self.settings.candidates.cost(trial.network)
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
        result = self.result(trial_key(step, index, rung))
        if result is None:
            raise StudyError(f"step {step} is not finished: run the search again to continue it")
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
            Entry(
                index,
                network,
                self.settings.candidates.cost(network),
                granted[index],
                scores.get(index, {}),
            )
            for index, network in enumerate(self.candidates(step))
        ]

    def intervals(self, step: int) -> dict[str, Interval]:
        """Where the best networks of a step lie in each of the candidates' `shares`.

        Raises:
            StudyError: No network of the step has a score.
        """
        entries = [e for e in self.entries(step) if math.isfinite(e.order[1])]
        if not entries:
            raise StudyError(f"not one network of step {step} gave a score; see trials/*.json")
        shares = self.settings.candidates.shares(entries, step)
        return {
            name: bootstrap(values, ranks(entries), seed=self.settings.seed)
            for name, values in shares.items()
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
        """How well each shorter rung predicts the full training's order.

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


def ranks(entries: Sequence[Entry]) -> list[int]:
    """Rank of each entry from the worst (0) on; equal ones share a rank."""
    ladder = {order: rank for rank, order in enumerate(sorted({e.order for e in entries}))}
    return [ladder[e.order] for e in entries]


def here(study: Study, trials: Sequence[Trial]) -> bool:
    """A runner: this process does every trial that it can claim, one after the other."""
    any_done = False
    for trial in trials:
        with study.store.claim(trial.key) as got:
            if got and study.store.result(trial.key) is None:
                result = study.settings.candidates.train(trial.step, trial.recipe.to_dict())
                study.finish(trial, result)
                any_done = True
    return any_done


def image_sets(recipe: Recipe) -> dict[str, Any]:
    """Numbers and digests of the images that candidates learn from and are measured on.

    Raises:
        DataError: if the images can't be read, or for one of the two there are none, or none with a
            face.
    """
    data = recipe.data
    samples, held_out = datasets.read_sets(data.root, val=data.val, hold_out=data.hold_out)
    measured = datasets.evenly_spaced(held_out, recipe.run.evaluate_images)
    if not samples or not measured:
        raise DataError(
            f"expected images to learn from and held-out ones to measure on, got {len(samples)} "
            f"and {len(measured)}; give more images, or another --hold-out"
        )
    datasets.check_faces(samples, "to learn from")
    datasets.check_faces(measured, "to measure on")
    return {
        "images": len(samples),
        "digest": datasets.digest(samples),
        "images_measured": len(measured),
        "digest_measured": datasets.digest(measured),
    }


__all__ = ["Runner", "Study", "StudyError", "here", "image_sets", "ranks"]
