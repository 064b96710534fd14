"""Validation: the AP of a network in training on held-out images, and its best weights."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from facefind import datasets, files
from facefind.datasets import Sample
from facefind.errors import ImageError
from facefind.learn import checkpoints
from facefind.learn.distributed import gather_objects, share_buffers, world
from facefind.learn.logs import Log
from facefind.learn.recipe import Recipe

logger = logging.getLogger(__name__)


class Evaluator:
    """Evaluates a network in training, and keeps the weights of its best evaluation as `best.pt`.

    The best is that of the highest `mean_ap`, the mean of the AP of all subsets. Weights are kept
    where a run is evaluated more than once (`--run.evaluate-every`).

    Args:
        folder: run folder; a `best.pt` that it holds, measured on the same images, is to be beaten.
        recipe: the run's.
        held_out: images to measure on.
        images: in the training set; an epoch is as many.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, held_out: Sequence[Sample], images: int
    ) -> None:
        self._path, self._recipe, self._held_out = folder / checkpoints.BEST, recipe, held_out
        every = recipe.run.evaluate_every * images / recipe.schedule.batch
        self._every = max(round(every), 1) if every and held_out else 0

    def due(self, step: int) -> bool:
        """Whether there is an evaluation after `step` steps, beside the one at the end."""
        return bool(self._every) and step % self._every == 0

    def missed(self, step: int) -> bool:
        """Whether the run was stopped before the evaluation due after `step` steps had ended."""
        if not (step and self.due(step)):
            return False
        records = files.read_json_lines(self._path.with_name("log.jsonl"), skip_broken=True)
        return not any(r.get("step") == step and "images_measured" in r for _, r in records)

    def __call__(self, network: nn.Module, step: int, log: Log | None) -> dict[str, Any]:
        """What `validate` finds, with `mean_ap`; logged, and kept where it is the best so far.

        Every process must call it; the first has the `log`.
        """
        found = validate(network, self._recipe, self._held_out)
        if log is None or not found:
            return found
        values = {k: v for k, v in found.items() if k.startswith("ap_")}
        if values:
            values["mean_ap"] = found["mean_ap"] = sum(values.values()) / len(values)
        log.write(step, **found)
        text = "  ".join(f"{k} {v:.4f}" for k, v in values.items())
        text = text or f"no face is labeled in the {found['images_measured']} held-out images"
        if values and self._every and _beats(found, self.best().get("evaluation")):
            content = {"network": network.state_dict(), "step": step}
            content |= {"recipe": self._recipe.to_dict(), "evaluation": found}
            checkpoints.save(self._path, content)
            text += f"  the best so far: {self._path.name}"
        log.say(f"evaluation after {step} steps: {text}")
        return found

    def best(self) -> dict[str, Any]:
        """The content of `best.pt`; empty where there is none."""
        return checkpoints.load(self._path) if self._path.is_file() else {}


def _beats(found: dict[str, Any], best: dict[str, Any] | None) -> bool:
    """Whether an evaluation is better than the best so far, if that was of the same images."""
    if best is None or found["digest_measured"] != best["digest_measured"]:
        return True
    return bool(found["mean_ap"] > best["mean_ap"])


def validate(network: nn.Module, recipe: Recipe, held_out: Sequence[Sample]) -> dict[str, Any]:
    """What to log of an evaluation, in the first process; empty in the others.

    It is the AP by least height of the faces that count (`ap_...`) wherever there are some, the
    number of images measured and the digest of their labels. Each process detects on its share of
    the images; all must call it. The network is left in eval mode.
    """
    from facefind.detector import FaceDetector
    from facefind.evaluation import wider
    from facefind.runtimes.pytorch import TorchRuntime

    samples = datasets.evenly_spaced(held_out, recipe.run.evaluate_images)
    if not samples:
        return {}
    rank, processes = world()
    share_buffers(network)
    detector = FaceDetector(
        TorchRuntime(network),
        protocol=recipe.protocol,
        min_score=0.02,
        max_pixels=recipe.data.max_pixels,
        truncated=recipe.data.truncated,
    )
    found = {}
    for sample in samples[rank::processes]:
        try:
            found[sample.name] = detector.detect(sample.path)
        except ImageError as error:
            logger.warning("skipped a held-out image: %s", error)
    shares = gather_objects(found)
    if not shares:
        return {}
    faces = {name: value for share in shares for name, value in share.items()}
    measured = [sample for sample in samples if sample.name in faces]
    faces = {sample.name: faces[sample.name] for sample in measured}
    result = wider.evaluate(faces, wider.from_samples(measured, title="held out"), mode="strict")
    ap = {f"ap_{subset}": value for subset, value in result.ap.items() if result.faces[subset]}
    return ap | {
        "images_measured": len(measured),
        "digest_measured": datasets.digest(measured),
    }
