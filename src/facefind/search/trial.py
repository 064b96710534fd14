"""One trial: a candidate network trained by a recipe and measured on held-out images."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from facefind.errors import DataError
from facefind.learn.recipe import Recipe


def train_candidate(content: dict[str, Any]) -> dict[str, Any]:
    """What became of a recipe (`Recipe.to_dict`): plain values, for the store.

    Goes on from the recipe's run folder where a killed trial has left a checkpoint. Takes and
    gives plain values only, so that any process on any machine may do it.

    Returns:
        `ap` by subset, `seconds` of this process, `step`, and the run's facts; or, where the loss
        was no longer finite, `failed` with the reason.

    Raises:
        DataError: if the data can't be read, or no images are held out to measure on.
    """
    from facefind.learn.engine import TrainingError, train
    from facefind.recipes import from_dict

    recipe = from_dict(content)
    began = time.monotonic()
    try:
        folder = train(recipe, resume=True)
    except TrainingError as error:
        if "finite" not in str(error):
            raise
        return {"failed": str(error), "seconds": time.monotonic() - began}
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return {
        "ap": held_out_ap(folder, facts["steps"]),
        "seconds": time.monotonic() - began,
        "protocol": recipe.protocol,
        "images_measured": min(
            facts["images_held_out"], recipe.run.evaluate_images or facts["images_held_out"]
        ),
        "facts": facts,
    }


def held_out_ap(folder: Path, step: int) -> dict[str, float]:
    """The AP by subset that a run logged at a step, the last such record.

    Raises:
        DataError: if there is none.
    """
    found: dict[str, float] = {}
    for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:  # a kill in the middle of a line
            continue
        ap = {key[3:]: value for key, value in record.items() if key.startswith("ap_")}
        if ap and record.get("step") == step:
            found = ap
    if not found:
        raise DataError(
            f"{folder} logged no AP at its end: a search needs held-out images, "
            "give it more images or a larger --hold-out"
        )
    return found


def clear(recipe: Recipe) -> None:
    """Remove what a finished trial needs no more: the checkpoint to go on from, and the charts."""
    import shutil

    if recipe.run.out is not None:
        (recipe.run.out / "last.pt").unlink(missing_ok=True)
        shutil.rmtree(recipe.run.out / "tensorboard", ignore_errors=True)
