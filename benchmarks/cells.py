"""Found feature modules against random ones and a hand-made one, all trained alike.

    python benchmarks/cells.py --found runs/search-asfd-small --data WIDER_train --out runs/cells
        [--random 8] [--seeds 0 1 2] [--steps 500] [--size 160] [--init-from BACKBONE.pt]
        [--evaluate-images 0] [--hand fem,cpm ...] [--only found]

Each is put into the recipe that the search has left (`found.py`), and trained for the same steps
with the same seeds on windows of `--size` pixels; AP is that of the held-out tenth of the first
set. Random modules are drawn from the space that was searched. What is trained, and how, is written
to `plan.json` before the first training: another plan in the same folder is an error. Killed, it
resumes; `--only` lets several processes share the work. At the end: the rank of each by the AP of
faces from 9 pixels on, and where the found ones stand among the random ones, with 95 % intervals.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from trials import HEIGHTS, add_options, placed, row, trial

from facefind import datasets, recipes
from facefind.errors import DataError
from facefind.files import write_json
from facefind.learn.recipe import NetworkConfig, Recipe
from facefind.nn.cost import measure
from facefind.nn.genotypes import ContextGenotype, of_kind, to_json
from facefind.search.autofem import random_context, random_pyramid
from facefind.search.statistics import standing


def contestants(found: NetworkConfig, random: int, hand: list[str]) -> dict[str, NetworkConfig]:
    """Networks by name that differ in their feature modules alone."""
    context = of_kind(ContextGenotype, found.context)  # type: ignore[attr-defined]
    levels, nodes = len(context.levels), len(context.levels[0])
    chosen = {"found": found}
    for names in hand:
        pyramid, _, own = names.partition(",")
        chosen[names] = replace(found, pyramid=pyramid, context=own)  # type: ignore[call-arg]
    for number in range(random):
        rng = np.random.default_rng((1, number))
        chosen[f"random {number}"] = replace(
            found,
            pyramid=to_json(random_pyramid(rng, levels)),  # type: ignore[call-arg]
            context=to_json(random_context(rng, levels, nodes, context.concat)),  # type: ignore[call-arg]
        )
    return chosen


def write_plan(out: Path, plan: dict[str, Any]) -> None:
    """Write the plan, or see that it is the one there is."""
    path, plain = out / "plan.json", json.loads(json.dumps(plan))
    if path.exists() and json.loads(path.read_text()) != plain:
        raise DataError(
            f"{path} is another plan; give the options it was made with, or another --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, plain)


def shown_cost(network: NetworkConfig) -> str:
    with torch.device("meta"):
        cost = measure(network.build(), 480, 640)
    return f"{cost.parameters / 1e3:.0f} k, {cost.multiply_adds / 1e9:.2f} G"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--found", type=Path, required=True, help="folder of a search")
    add_options(parser)
    parser.add_argument("--random", type=int, default=8)
    parser.add_argument("--hand", nargs="*", default=["fem,cpm"], help="PYRAMID,CONTEXT by name")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--hold-out", type=float, default=0.1, help="as in the search")
    parser.add_argument("--only", nargs="+")
    args = parser.parse_args()

    base: Recipe = recipes.get(f"{args.found / 'found.py'}:found")
    base = replace(
        base,
        augment=base.augment.at(args.size),
        data=replace(base.data, hold_out=args.hold_out),
    )
    chosen = contestants(base.network, args.random, args.hand)
    samples, held_out = datasets.read_sets(args.data, hold_out=base.data.hold_out)
    plan = {
        "recipe": replace(base, data=replace(base.data, root=())).to_dict(),
        "modules": {n: [c.pyramid, c.context] for n, c in chosen.items()},  # type: ignore[attr-defined]
        "seeds": args.seeds,
        "steps": args.steps,
        "init_from": args.init_from,
        "evaluate_images": args.evaluate_images,
        "images": [datasets.digest(samples), datasets.digest(held_out)],
    }
    write_plan(args.out, plan)
    scores: dict[str, list[dict[str, float]]] = {}
    for seed in args.seeds:
        for name in args.only or chosen:
            recipe = placed(replace(base, name=name, network=chosen[name]), args, seed)
            folder = args.out / f"{name.replace(' ', '-').replace(',', '-')}-seed{seed}"
            scores.setdefault(name, []).append(trial(recipe, folder, steps=args.steps))
            print(name, seed, scores[name][-1], flush=True)

    counted = {name: [one[HEIGHTS[-1]] for one in found] for name, found in scores.items()}
    ranked = sorted(counted, key=lambda name: -mean(counted[name]))
    print("\n| rank | modules | AP, 34 px and more | 16 | 9 | parameters, multiply-adds |")
    print("|---:|---|---|---|---|---|")
    for rank, name in enumerate(ranked, 1):
        print(f"| {rank} {row(name, scores[name])} {shown_cost(chosen[name])} |")
    random = [values for name, values in counted.items() if name.startswith("random")]
    result: dict[str, Any] = {"scores": scores, "ranked": ranked}
    for name in (name for name in counted if random and not name.startswith("random")):
        found = standing(counted[name], random)
        result[name] = asdict(found)
        print(
            f"{name}: rank {found.rank} of {found.of} among the random ones (95 %: "
            f"{found.rank_interval.low:g} to {found.rank_interval.high:g}), lead "
            f"{100 * found.lead.median:+.2f} AP ({100 * found.lead.low:+.2f} to "
            f"{100 * found.lead.high:+.2f})"
        )
    if not args.only:
        write_json(args.out / "result.json", result)


if __name__ == "__main__":
    main()
