"""One trial: a candidate network trained by a recipe and measured on held-out images."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from facefind import files
from facefind.errors import DataError
from facefind.learn.recipe import Recipe


def train_candidate(content: dict[str, Any]) -> dict[str, Any]:
    """The result of training a recipe (`Recipe.to_dict`), in plain values for the store.

    Resumes the run in the recipe's folder where a killed trial has left a checkpoint. Takes and
    returns plain values only, so that any process on any machine may do it.

    Returns:
        `ap` by subset, number and digest of the images that were measured, `seconds` of this
        process and the run's facts; or, where the loss was no longer finite, `failed` with the
        reason.

    Raises:
        DataError: if the data can't be read, or no images are held out to measure on.
    """
    from facefind.learn import checkpoints
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
    facts.pop("stages")  # the recipe is in the store already
    step = checkpoints.load(checkpoints.path_of(folder))["step"]  # not known before, by the clock
    measured = _evaluation(folder, step)
    return {
        "ap": _ap(measured),
        "seconds": time.monotonic() - began,
        "protocol": recipe.protocol,
        "images_measured": measured["images_measured"],
        "digest_measured": measured["digest_measured"],
        "facts": facts,
    }


def held_out_ap(folder: Path, step: int) -> dict[str, float]:
    """The AP by subset that a run logged at a step, the last such record.

    Raises:
        DataError: if there is none.
    """
    return _ap(_evaluation(folder, step))


def _evaluation(folder: Path, step: int) -> dict[str, Any]:
    """The last record of an evaluation at a step."""
    found: dict[str, Any] = {}
    for _, record in files.read_json_lines(folder / "log.jsonl", skip_broken=True):
        if record.get("step") == step and _ap(record):
            found = record
    if not found:
        raise DataError(
            f"{folder} logged no AP at its end: a search needs held-out images "
            "with faces, give it more images or a larger --hold-out"
        )
    return found


def _ap(record: dict[str, Any]) -> dict[str, float]:
    return {key[3:]: value for key, value in record.items() if key.startswith("ap_")}


def clear(recipe: Recipe) -> None:
    """Remove what a finished trial no longer needs: the checkpoint to resume, and the charts."""
    import shutil

    if recipe.run.out is not None:
        (recipe.run.out / "last.pt").unlink(missing_ok=True)
        shutil.rmtree(recipe.run.out / "tensorboard", ignore_errors=True)
