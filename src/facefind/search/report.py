"""What a finished study leaves: its numbers, its figures and the recipe of the best network."""

from __future__ import annotations

import dataclasses
import math
import pprint
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from facefind import files
from facefind.learn.recipe import Recipe
from facefind.plots.search import Panel, draw_scores
from facefind.search.candidates import Entry
from facefind.search.statistics import bootstrap, error_distribution
from facefind.search.study import Study, StudyError, ranks


def report(study: Study) -> dict[str, Any]:
    """All numbers of a finished study, in plain values; written to `report.json` too.

    The recipe of the network that was found is written to `found.json` (`Recipe.to_dict`) and
    `found.py` (`facefind train found.py:found`).
    """
    settings = study.settings
    known = study.store.read("study.json") or {}
    steps = {f"step{step}": _step(study, step) for step in settings.candidates.steps}
    recipe = found_recipe(study)
    content: dict[str, Any] = {
        "candidates": settings.candidates.to_dict(),
        "subset": settings.subset,
        "protocol": settings.trial.protocol,
        "epochs": settings.trial.schedule.epochs,
        "data": known["data"] | _measured(study),
        **steps,
        **settings.candidates.details(study),
        "found": recipe.name,
    }
    study.store.write("found.json", recipe.to_dict())
    files.write_text(study.store.folder / "found.py", recipe_file(study, recipe, content))
    study.store.write("report.json", content)
    return content


def _step(study: Study, step: int) -> dict[str, Any]:
    entries = study.entries(step)
    scores = [e.order[1] for e in entries if math.isfinite(e.order[1])]
    results = _results(study, step)
    return {
        "networks": len(entries),
        "failed": len(entries) - len(scores),
        "distinct_scores": len(set(scores)),
        "trials": len(results),
        "seconds": sum(result["seconds"] for result in results),
        "intervals": {k: dataclasses.asdict(v) for k, v in study.intervals(step).items()},
        "best": _plain(study.best(step)),
        "agreement": {
            rung: {name: dataclasses.asdict(found) for name, found in pairs.items()}
            for rung, pairs in study.agreements(step).items()
        },
    }


def _results(study: Study, step: int) -> list[dict[str, Any]]:
    rungs = range(len(study.settings.rung_epochs))
    trials = [trial for rung in rungs for trial in study.trials(step, rung)]
    return [result for trial in trials if (result := study.result(trial.key))]


def _measured(study: Study) -> dict[str, Any]:
    """Number and digest of the images that the trials were measured on in truth.

    Raises:
        StudyError: if they were not the same ones for all: their scores can't be compared.
    """
    found = {
        (result["images_measured"], result["digest_measured"])
        for step in study.settings.candidates.steps
        for result in _results(study, step)
        if "ap" in result
    }
    if len(found) != 1:
        raise StudyError(
            f"expected all trials to be measured on the same images, got {len(found)} sets "
            f"({', '.join(f'{images} images, {digest[:12]}' for images, digest in sorted(found))}):"
            " some images could not be read at times; remove those trials, and run again"
        )
    ((images, digest),) = found
    return {"images_measured": images, "digest_measured": digest}


def _plain(entry: Entry) -> dict[str, Any]:
    return {
        "index": entry.index,
        "network": dataclasses.asdict(entry.network),
        "score": entry.order[1],
        "rung": entry.rung,
        "multiply_adds": sum(entry.cost.multiply_adds.values()),
        "parameters": sum(entry.cost.parameters.values()),
        "shares": {part: entry.cost.share(part) for part in entry.cost.multiply_adds},
    }


def found_recipe(study: Study) -> Recipe:
    """The final recipe with the network that was found, on the study's training sets."""
    settings = study.settings
    return replace(
        settings.final,
        name=settings.candidates.found_name,
        network=settings.candidates.found(study),
        data=replace(settings.final.data, root=settings.trial.data.root),
    )


def recipe_file(study: Study, recipe: Recipe, content: dict[str, Any]) -> str:
    """The text of a recipe file with one function, `found`."""
    candidates, data = study.settings.candidates, content["data"]
    last = candidates.steps[-1]
    step, cost = content[f"step{last}"], candidates.cost(recipe.network)
    return (
        f'"""The result of a search for {candidates.title}: '
        f"{sum(cost.multiply_adds.values()) / 1e9:.3f} GF.\n\n"
        f"The best trial of step {last}, of {step['networks']}, had an AP of "
        f"{step['best']['score']:.4f} after {content['epochs']:g} epochs\n({content['subset']}, "
        f"{content['protocol']}, {data['images_measured']} held-out images,\ndigest "
        f"{data['digest_measured']}).\n\n"
        'Train it in full: facefind train found.py:found --data SET ...\n"""\n\n'
        "from facefind import recipes\n\n"
        f"CONTENT = {pprint.pformat(recipe.to_dict(), sort_dicts=False, width=96)}\n\n\n"
        "def found():\n"
        '    """The recipe."""\n'
        "    return recipes.from_dict(CONTENT)\n"
    )


def draw(study: Study, folder: str | Path | None = None) -> list[Path]:
    """Write the study's figures to a folder (None: its own); return their paths. Needs matplotlib.

    Each shows scores over what its step has searched, with the 95 % interval and the median of
    the bootstrap; the first figure of a step also the distribution of errors.
    """
    folder = study.store.folder if folder is None else Path(folder)
    candidates, made = study.settings.candidates, []
    for step in candidates.steps:
        entries = [e for e in study.entries(step) if math.isfinite(e.order[1])]
        for number, (name, panels) in enumerate(candidates.panels(entries, step).items()):
            made.append(
                draw_scores(
                    folder / f"{name}.png",
                    {title: _panel(values, entries, study) for title, values in panels.items()},
                    [e.order[1] for e in entries],
                    [e.rung for e in entries],
                    score_name=f"AP {study.settings.subset}",
                    errors=None if number else _errors(entries, study),
                )
            )
    return made + candidates.figures(study, folder)


def _panel(values: list[float], entries: Sequence[Entry], study: Study) -> Panel:
    where = bootstrap(values, ranks(entries), seed=study.settings.seed)
    return Panel(values, where.low, where.high, where.median)


def _errors(
    entries: Sequence[Entry], study: Study
) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
    """Distribution of the errors of each rung, by the length of its training."""
    found = {}
    for rung in sorted({e.rung for e in entries}):
        some = [e.order[1] for e in entries if e.rung == rung]
        error, fraction = error_distribution(some)
        name = f"{len(some)} at {study.settings.rung_epochs[rung]:g} epochs"
        found[name] = (error.tolist(), fraction.tolist())
    return found
