"""Does DSFD's first shot help, and what do its other parts add? At equal cost of inference.

Usage: python benchmarks/dual_shot.py --data WIDER_train --out runs/dual-shot --cache FOLDER
           [--init-from scrfd-500m-kps] [--size 160] [--batch 16] [--steps 600] [--seeds 0 1 2]
           [--only dual single] [--threads 1] [--workers 0]

Trains the light network with both shots, and without one part each: `single` has no first shot,
`nopal` gives the first shot the second's anchors, `nofem` has neither product nor dilation. All
take the same number of steps from random weights, or from those of `--init-from`, of which the
backbone fits; AP is measured on the held-out tenth of the first set. Killed, it resumes where it
was; what is finished is not done again, so that several processes may take one part each (`--only`)
and a last one prints the tables.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace

from trials import HEIGHTS, add_options, placed, row, trial

from facefind import recipes
from facefind.learn.recipe import Recipe

RECIPE = "dsfd-light-short"
NAMES = {
    "dual": RECIPE,
    "single": f"{RECIPE}-single",
    "nopal": f"{RECIPE}-nopal",
    "nofem": f"{RECIPE}-nofem",
}
_T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}  # Student's, two sides, by the number of seeds


def variant(name: str, options: argparse.Namespace, seed: int) -> Recipe:
    """One training: the recipe in windows of so many pixels, faces at their scale."""
    recipe = recipes.get(NAMES[name])
    sides = tuple(side * options.size / recipe.augment.size for side in recipe.augment.crop_sides)
    recipe = replace(
        recipe,
        augment=replace(recipe.augment, size=options.size, crop_sides=sides),
        schedule=replace(recipe.schedule, batch=options.batch),
        run=replace(recipe.run, init_from=None),
    )
    return placed(recipe, options, seed)


def gain(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> str:
    """A line's cells: mean difference of AP in percent, seed by seed, with its 95 % interval."""
    cells = []
    for height in HEIGHTS:
        gaps = [100 * (a[height] - b[height]) for a, b in zip(ours, theirs, strict=True)]
        half = _T_95[len(gaps)] * statistics.stdev(gaps) / len(gaps) ** 0.5
        mean = statistics.mean(gaps)
        cells.append(f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})")
    return " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_options(parser)
    parser.add_argument("--size", type=int, default=160, help="side of the windows, in pixels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=tuple(NAMES), default=tuple(NAMES))
    options = parser.parse_args()

    found: dict[str, list[dict[str, float]]] = {name: [] for name in options.only}
    for seed in options.seeds:
        for name, trials in found.items():
            folder = options.out / f"{name}-seed{seed}"
            trials.append(trial(variant(name, options, seed), folder, steps=options.steps))
            print(folder, trials[-1], flush=True)
    print("\n| training | AP, 34 px and more | 16 | 9 |\n|---|---|---|---|")
    for name, trials in found.items():
        print(row(name, trials))
    others = [name for name in found if name != "dual"] if "dual" in found else []
    if others and 2 <= len(options.seeds) <= max(_T_95):
        print("\n| dual less | AP, 34 px and more | 16 | 9 |\n|---|---|---|---|")
        for name in others:
            print(f"| {name} | {gain(found['dual'], found[name])} |")


if __name__ == "__main__":
    main()
