"""What each ingredient of `facefind-n` adds at a small fixed budget, on held-out images.

Usage: python benchmarks/ingredients.py --data WIDER_train --out runs/ingredients
           [--recipe facefind-n] [--steps 600] [--seeds 0] [--only plain mining] [--cache FOLDER]

Trains the plain recipe, the plain recipe with each ingredient alone, and all that are kept, each
for the same number of steps, and measures AP on the held-out tenth of the first set. "empty" is the
highest score in pictures without a face: gray of several levels, a ramp, and noise. Killed, it
resumes where it was; what is finished is not done again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from trials import row, trial

from facefind import recipes
from facefind.recipes.facefind import INGREDIENTS, KEPT, SIZES, short


def empty_pictures(side: int = 640) -> torch.Tensor:
    """(7,3,side,side) uint8 pictures in which there is nothing to find."""
    rng = np.random.default_rng(0)
    grays = [np.full((side, side), level) for level in (0, 64, 128, 192, 255)]
    ramp = np.broadcast_to(np.linspace(0, 255, side), (side, side))
    noise = rng.integers(0, 256, (side, side))
    stack = np.stack([*grays, ramp, noise]).astype(np.uint8)
    return torch.from_numpy(stack)[:, None].expand(-1, 3, -1, -1).contiguous()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", choices=list(SIZES), default="facefind-n")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", default=["plain", *INGREDIENTS, "kept"])
    parser.add_argument("--cache")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    rows = []
    for seed in args.seeds:
        for name in args.only:
            names = {"plain": (), "kept": KEPT}.get(name, (name,))
            recipe = short(args.recipe, names)
            data = replace(recipe.data, root=tuple(args.data), cache=args.cache, workers=1)
            folder = args.out / f"{args.recipe}-{name}-seed{seed}"
            run = replace(recipe.run, seed=seed, threads=args.threads)
            found = trial(replace(recipe, data=data, run=run), folder, steps=args.steps)
            done = folder / "empty.json"
            if not done.exists():
                _, network = recipes.load_network(folder)
                with torch.inference_mode():
                    scores = network.candidates(empty_pictures()).scores
                done.write_text(json.dumps(float(scores.max())) + "\n")
            rows.append((f"{name}, seed {seed}", found, json.loads(done.read_text())))
            print(*rows[-1], flush=True)
    print("\n| ingredients | AP, 34 px and more | 16 | 9 | empty |\n|---|---|---|---|---|")
    for name, found, empty in rows:
        print(f"{row(name, [found])} {empty:.2f} |")


if __name__ == "__main__":
    main()
