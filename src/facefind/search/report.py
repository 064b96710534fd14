"""What a finished study leaves: its numbers, its pictures and the recipe of the best network."""

from __future__ import annotations

import math
import pprint
from dataclasses import replace
from pathlib import Path
from typing import Any

from facefind.errors import DataError
from facefind.learn.recipe import Recipe
from facefind.search.cost import BACKBONE, PARTS
from facefind.search.statistics import Interval, bootstrap, error_distribution
from facefind.search.store import write_text
from facefind.search.study import STEPS, Entry, Study, shares

SHALLOW = ("stem", "c2", "c3")
DEEP = ("c4", "c5")
_NAMES = {part: part.upper() if part.startswith("c") else part for part in PARTS}


def report(study: Study) -> dict[str, Any]:
    """All numbers of a finished study, in plain values; written to `report.json` too.

    The recipe of the best network of step 2 is written to `found.json` (`Recipe.to_dict`) and
    `found.py` (`facefind train found.py:found`).
    """
    settings = study.settings
    known = study.store.read("study.json") or {}
    steps = {}
    for step in STEPS:
        entries = study.entries(step)
        best = study.best(step)
        scores = [e.order[1] for e in entries if math.isfinite(e.order[1])]
        results = [
            result
            for rung in range(len(settings.rung_epochs))
            for trial in study.trials(step, rung)
            if (result := study.result(trial.key))
        ]
        steps[f"step{step}"] = {
            "networks": len(entries),
            "failed": len(entries) - len(scores),
            "distinct_scores": len(set(scores)),
            "trials": len(results),
            "seconds": sum(result["seconds"] for result in results),
            "intervals": {k: v.to_dict() for k, v in study.intervals(step).items()},
            "best": _told(best),
            "agreement": {
                rung: {name: found.to_dict() for name, found in of.items()}
                for rung, of in study.agreements(step).items()
            },
        }
    recipe = found_recipe(study)
    content: dict[str, Any] = {
        "goal_gflops": settings.goal.gflops,
        "space": settings.space,
        "subset": settings.subset,
        "protocol": settings.trial.protocol,
        "epochs": settings.trial.schedule.epochs,
        "data": known["data"],
        **steps,
        "found": recipe.name,
    }
    study.store.write("found.json", recipe.to_dict())
    write_text(study.store.folder / "found.py", recipe_file(recipe, content))
    study.store.write("report.json", content)
    return content


def _told(entry: Entry) -> dict[str, Any]:
    return {
        "index": entry.index,
        "network": {
            name: getattr(entry.network, name)
            for name in ("block", "depths", "widths", "stem", "neck", "head", "head_depth")
        },
        "score": entry.order[1],
        "rung": entry.rung,
        "multiply_adds": sum(entry.cost.multiply_adds.values()),
        "parameters": sum(entry.cost.parameters.values()),
        "shares": {part: entry.cost.share(part) for part in PARTS},
    }


def found_recipe(study: Study) -> Recipe:
    """The final recipe with the best network of step 2, on the study's own training sets."""
    settings = study.settings
    return replace(
        settings.final,
        name=f"scrfd-found-{settings.goal.gflops:g}g",
        network=study.best(2).network,
        data=replace(settings.final.data, root=settings.trial.data.root),
    )


def recipe_file(recipe: Recipe, content: dict[str, Any]) -> str:
    """The text of a recipe file with one function, `found`."""
    best, data = content["step2"]["best"], content["data"]
    return (
        f'"""The best network of a search for {content["goal_gflops"]:g} GF: '
        f"{best['multiply_adds'] / 1e9:.3f} GF.\n\n"
        f"Its AP of {content['subset']} after {content['epochs']:g} epochs was "
        f"{best['score']:.4f} ({content['protocol']}, {data['images_measured']} held-out images,\n"
        f"digest {data['digest_measured']}), the best of {content['step2']['networks']}.\n\n"
        'Train it in full: facefind train found.py:found --data.root ...\n"""\n\n'
        "from facefind import recipes\n\n"
        f"CONTENT = {pprint.pformat(recipe.to_dict(), sort_dicts=False, width=96)}\n\n\n"
        "def found():\n"
        '    """The recipe."""\n'
        "    return recipes.from_dict(CONTENT)\n"
    )


def draw(study: Study) -> list[Path]:
    """Write the study's pictures beside its report, and return their paths. Needs matplotlib.

    `step1.png`: score over each part's share of the backbone, with the 95 % interval and the
    median of the bootstrap (SCRFD, fig. 5), and the distribution of errors (RegNet, sec. 3.2).
    `shallow_deep.png`: the same for stem + C2 + C3 and for C4 + C5 (fig. 6).
    `step2.png`: the same for backbone, neck and head (fig. 9).
    """
    folder, made = study.store.folder, []
    for step in STEPS:
        entries = [e for e in study.entries(step) if math.isfinite(e.order[1])]
        found = shares(entries, step)
        names = BACKBONE if step == 1 else ("backbone", "neck", "head")
        panels = {_NAMES.get(name, name): found[name] for name in names}
        made.append(_draw(folder / f"step{step}.png", study, entries, panels, errors=True))
        if step == 1:
            sums = {
                " + ".join(_NAMES[p] for p in parts): [
                    e.cost.backbone_share(*parts) for e in entries
                ]
                for parts in (SHALLOW, DEEP)
            }
            made.append(_draw(folder / "shallow_deep.png", study, entries, sums, errors=False))
    return made


def _draw(
    path: Path,
    study: Study,
    entries: list[Entry],
    panels: dict[str, list[float]],
    *,
    errors: bool,
) -> Path:
    from matplotlib.figure import Figure

    if not entries:
        raise DataError("there is nothing to draw: not one trial gave a score")
    scores = [e.order[1] for e in entries]
    ladder = {order: rank for rank, order in enumerate(sorted({e.order for e in entries}))}
    ranks = [ladder[e.order] for e in entries]
    rungs = [e.rung for e in entries]
    count = len(panels) + errors
    columns = min(count, 3)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(3.6 * columns, 3.0 * rows), layout="constrained")
    for number, (title, x) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(rows, columns, number)
        where: Interval = bootstrap(x, ranks, seed=study.settings.seed)
        axes.axvspan(where.low, where.high, alpha=0.2, label="95 %")
        axes.axvline(where.median, linestyle="--", label=f"median {where.median:.2f}")
        # Networks that halving stopped early have a score of a shorter training: paler.
        axes.scatter(x, scores, s=8, c=rungs, cmap="Blues", vmin=-1, vmax=max(rungs) or 1)
        axes.set(title=title, xlabel="share of multiply-adds", ylabel=f"AP {study.settings.subset}")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    if errors:
        axes = figure.add_subplot(rows, columns, count)
        for rung in sorted(set(rungs)):
            some = [s for s, r in zip(scores, rungs, strict=True) if r == rung]
            error, fraction = error_distribution(some)
            epochs = study.settings.rung_epochs[rung]
            axes.step(error, fraction, where="post", label=f"{len(some)} at {epochs:g} epochs")
        axes.set(title="error distribution", xlabel="1 - AP", ylabel="networks", ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)
    return path
