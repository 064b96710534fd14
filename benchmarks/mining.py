"""Does hard image mining help? A recipe with and without it, at one budget, on held-out images.

Usage: python benchmarks/mining.py --data WIDER_train --out runs/mining
           [--recipe smallhardface-light-short] [--init-from RUN] [--steps 1500] [--seeds 0 1 2]
           [--threshold 0.85] [--skip 0.7] [--lr RATE] [--only plain mined] [--cache FOLDER]

Every training takes the same number of steps; with `--init-from` all start from the same weights,
whose run must not have seen the held-out tenth of the first set (no run with the same `--data`
first has). `facefind mining OUT/*-mined-*` reports how many images each pass left out.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from trials import add_options, placed, row, trial

from facefind import recipes
from facefind.learn.recipe import MiningConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_options(parser)
    parser.add_argument("--recipe", default="smallhardface-light-short")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threshold", type=float, default=0.85)
    parser.add_argument("--skip", type=float, default=0.7)
    parser.add_argument("--lr", type=float, help="peak rate; by default the recipe's")
    parser.add_argument("--only", nargs="+", choices=("plain", "mined"), default=("plain", "mined"))
    args = parser.parse_args()

    base = recipes.get(args.recipe)
    base = replace(base, optim=replace(base.optim, lr=args.lr or base.optim.lr))
    mined = MiningConfig(on=True, threshold=args.threshold, skip=args.skip)
    kinds = {"plain": MiningConfig(), "mined": mined}
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in args.only}
    for seed in args.seeds:
        for kind, trials in found.items():
            folder = args.out / f"{args.recipe}-{kind}-seed{seed}"
            recipe = placed(replace(base, mining=kinds[kind]), args, seed)
            trials.append(trial(recipe, folder, steps=args.steps))
            print(folder, trials[-1], flush=True)
    print("\n| training | AP, 34 px and more | 16 | 9 |\n|---|---|---|---|")
    for kind, trials in found.items():
        for seed, one in zip(args.seeds, trials, strict=True):
            print(row(f"{kind}, seed {seed}", [one]))
        print(row(f"{kind}, mean", trials))


if __name__ == "__main__":
    main()
