"""Short trainings of a recipe's variants at one budget, compared on held-out images."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from facefind import datasets
from facefind.learn.engine import train
from facefind.learn.recipe import Recipe
from facefind.search.trial import held_out_ap

HEIGHTS = ("height>=34", "height>=16", "height>=9")
"""Faces that count: at least so many pixels high."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of trainings and of their evaluations that all of them share."""
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init-from", help="weights to begin with, a backbone's at least")
    parser.add_argument("--evaluate-images", type=int, default=0, help="held-out images; 0: all")
    parser.add_argument("--cache")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="processes that load images")


def placed(recipe: Recipe, options: argparse.Namespace, seed: int) -> Recipe:
    """The recipe with these options and a seed; on a GPU its steps are captured as graphs."""
    data = replace(
        recipe.data, root=tuple(options.data), cache=options.cache, workers=options.workers
    )
    run = replace(
        recipe.run,
        seed=seed,
        threads=options.threads,
        graphs=True,
        init_from=options.init_from or recipe.run.init_from,
        evaluate_images=options.evaluate_images,
    )
    return replace(recipe, data=data, run=run)


def trial(recipe: Recipe, folder: Path, *, steps: int, warmup: float = 0.1) -> dict[str, float]:
    """AP by the least height of faces, after so many steps; as the recipe evaluates.

    Killed, it resumes where it was; what is finished is read, not done again.
    """
    done = folder / "trial.json"
    if not done.exists():
        samples, _ = datasets.read_sets(recipe.data.root, hold_out=recipe.data.hold_out)
        epochs = steps * recipe.schedule.batch / len(samples)
        train(
            replace(
                recipe,
                schedule=replace(recipe.schedule, epochs=epochs, warmup_epochs=warmup * epochs),
                run=replace(recipe.run, out=folder),
            ),
            resume=True,
        )
        taken = json.loads((folder / "run.json").read_text())["steps"]
        done.write_text(json.dumps(held_out_ap(folder, taken), indent=2) + "\n")
    found: dict[str, float] = json.loads(done.read_text())
    return found


def row(name: str, trials: Iterable[dict[str, float]]) -> str:
    """A line of a Markdown table: mean AP in percent, with the deviation between several trials."""
    trials = list(trials)
    cells = []
    for height in HEIGHTS:
        values = [100 * one[height] for one in trials]
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.2f}{spread}")
    return f"| {name} | {' | '.join(cells)} |"
