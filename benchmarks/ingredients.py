"""What each ingredient of a recipe adds at a small fixed budget, on held-out images.

Usage: python benchmarks/ingredients.py --data WIDER_train --out runs/ingredients
           [--recipe scrfd-2.5g-kps-short] [--steps 600] [--seeds 0] [--only plain mining]
           [--cache FOLDER]

Trains the plain recipe, the plain recipe with each ingredient alone, and the recipe as it is, each
for the same number of steps, and measures AP on the held-out tenth of the first set. "empty" is the
highest score in pictures without a face: gray of several levels, a ramp, and noise. Killed, it
resumes where it was; what is finished is not done again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

import numpy as np
import torch
from trials import add_options, placed, row, trial

from facefind import recipes
from facefind.learn.recipe import MiningConfig, Recipe


def variants(recipe: Recipe) -> dict[str, Recipe]:
    """The trainings to compare by name; all have the recipe's network.

    landmarks: five landmarks are learned beside boxes (RetinaFace, sec. 3.2). background: three
    crops in ten are taken wherever they fall. balance: rare events are drawn more often. mining:
    images whose faces are all found easily are skipped (SmallHardFace, sec. 3.2); scores that
    follow IoU seldom pass .5, so that its .85 would find nothing easy. simota: the network's own
    predictions choose the anchors of a face (YOLOX, arXiv:2107.08430).
    """
    criterion, data, augment = recipe.criterion, recipe.data, recipe.augment
    boxes_only = replace(criterion, landmarks=replace(criterion.landmarks, weight=0.0))
    simota = replace(boxes_only, assigner=replace(criterion.assigner, kind="simota"))
    plain = replace(
        recipe,
        criterion=boxes_only,
        data=replace(data, balance=0.0),
        augment=replace(augment, background=0.0),
        mining=MiningConfig(),
    )
    return {
        "plain": plain,
        "landmarks": replace(plain, criterion=criterion),
        "background": replace(plain, augment=replace(augment, background=0.3)),
        "balance": replace(plain, data=replace(data, balance=0.5)),
        "mining": replace(plain, mining=MiningConfig(on=True, threshold=0.2)),
        "simota": replace(plain, criterion=simota),
        "recipe": recipe,
    }


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
    add_options(parser)
    parser.add_argument("--recipe", default="scrfd-2.5g-kps-short")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+")
    args = parser.parse_args()

    chosen = variants(recipes.get(args.recipe))
    rows = []
    for seed in args.seeds:
        for name in args.only or chosen:
            folder = args.out / f"{args.recipe}-{name}-seed{seed}"
            found = trial(placed(chosen[name], args, seed), folder, steps=args.steps)
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
