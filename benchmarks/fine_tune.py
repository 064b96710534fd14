"""What fine-tuning on a few images gives: AP on others of their kind, before and after.

    python benchmarks/fine_tune.py --data WIDER_train --held-out --dark --out runs/dark
    python benchmarks/fine_tune.py --data masks_853 --out runs/masks

Of the set (`--held-out`: of the part of it that trainings hold out, which the models that ship have
not seen) `--images` are trained on and `--others` are measured, drawn at random. `--dark` gives all
of them little light: a gamma of 2.2, 12 % of the rest, noise of 3 levels of 255. `--frozen` names
parts of the network that stay as they are.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from conditions import darkened
from PIL import Image

from facefind import datasets, images, recipes
from facefind.datasets import Sample
from facefind.detector import FaceDetector
from facefind.evaluation import wider
from facefind.learn.engine import train
from facefind.runtimes import Runtime
from facefind.runtimes.pytorch import TorchRuntime


def written_dark(sample: Sample, folder: Path) -> Sample:
    """The sample with an image of little light, written below a folder."""
    path = folder / "images" / Path(sample.name).with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(darkened(images.read(sample.path), sample.name)).save(path)
    return replace(sample, name=path.relative_to(folder / "images").as_posix(), path=path)


def measure(model: str | Runtime, samples: Sequence[Sample]) -> dict[str, float]:
    """AP by least height of the faces, in one pass at `vga`."""
    detector = FaceDetector(model, precision="fp32", protocol="vga", min_score=0.02)
    found = {sample.name: detector.detect(sample.path) for sample in samples}
    truth = wider.from_samples(list(samples), title="others")
    return {key: 100 * ap for key, ap in wider.evaluate(found, truth, mode="strict").ap.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--recipe", default="scrfd-2.5g-kps-finetune")
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--others", type=int, default=250)
    parser.add_argument("--frozen", nargs="*", default=())
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    if args.held_out:
        _, samples = datasets.read_sets([args.data], hold_out=0.1)
    else:
        samples = datasets.read(args.data)
    samples = sorted(samples, key=lambda sample: sample.name)
    order = np.random.default_rng(0).permutation(len(samples))[: args.images + args.others]
    samples = [samples[place] for place in order]
    if args.dark:
        samples = [written_dark(sample, args.out / "set") for sample in samples]
    few, others = samples[: args.images], samples[args.images :]
    datasets.write(few, args.out / "few", "coco", images="link")

    recipe = recipes.get(args.recipe)
    recipe = replace(
        recipe,
        data=replace(
            recipe.data, root=(str(args.out / "few"),), hold_out=0.0, cache="host", workers=0
        ),
        optim=replace(recipe.optim, frozen=tuple(args.frozen)),
        run=replace(recipe.run, out=args.out / "run", threads=args.threads),
    )
    before = measure(str(recipe.run.init_from), others)
    print(f"{len(others)} others (digest {datasets.digest(others)[:12]}), before: {shown(before)}")
    began = time.process_time()
    run = train(recipe)
    seconds = time.process_time() - began
    after = measure(TorchRuntime(recipes.load_network(run)[1]), others)
    print(f"after {recipe.name} on {len(few)}, {seconds:.0f} s of one core: {shown(after)}")


def shown(ap: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in ap.items())


if __name__ == "__main__":
    main()
