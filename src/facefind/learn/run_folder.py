"""The run folder: what it records of each stage of a run, and whether a run may be resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from facefind import datasets
from facefind.datasets import Sample
from facefind.files import plain, write_json
from facefind.learn import checkpoints
from facefind.learn.checks import option
from facefind.learn.precision import Precision
from facefind.learn.recipe import Recipe
from facefind.learn.state import TrainingError

RECIPE = "recipe.json"
FACTS = "run.json"
MAY_DIFFER = {
    "data.root",  # the images themselves are compared
    "data.val",
    "data.cache",
    "data.workers",
    "run.out",
    "run.device",
    "run.threads",
    "run.log_every",
    "run.checkpoint_every",
    "run.evaluate_every",
    "run.evaluate_images",
}
"""Options that leave the weights of a run as they are; a resumed run may change them."""
_MAY_GROW = {"schedule.epochs", "schedule.minutes"}


def fingerprint(samples: Sequence[Sample]) -> str:
    """Hex SHA-256 of the training images' labels, order and groups, wherever the files are."""
    content = [datasets.digest(samples), [s.name for s in samples], [s.group for s in samples]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def check_resume(folder: Path, content: dict[str, Any], recipe: Recipe, data: str) -> None:
    """See that a checkpoint is one of this recipe and these images.

    More epochs or minutes are allowed; the schedule then spans all of them.

    Args:
        folder: the run folder.
        content: its last checkpoint.
        recipe: what is to be trained.
        data: fingerprint of the training images.

    Raises:
        TrainingError: if other options or images would change the run; names them.
    """
    now = recipe.to_dict()
    precision = now["run"]["precision"]
    if precision != "auto":  # what it was chosen to be before is compared, not that it was chosen
        precision = begun_in(content)
    before = content["recipe"] | {"run": content["recipe"]["run"] | {"precision": precision}}
    changed = [
        f"{option(name)} {_shown(old)}, not {_shown(new)}"
        for name, old, new in _differences(before, now)
        if name not in MAY_DIFFER and not (name in _MAY_GROW and old and new and new > old)
    ]
    if content["data"] != data:
        changed.append("other images or labels")
    if changed:
        raise TrainingError(
            f"{folder} was trained with {'; '.join(changed)}: resume it with the same, or start a "
            f"new run from its weights with --init-from {folder} --out NEW"
        )


def begun_in(content: dict[str, Any]) -> Precision | None:
    """The precision that a checkpoint's run computed in; None where there is no checkpoint."""
    found: Precision | None = content.get("precision")
    return found or (content["recipe"]["run"]["precision"] if content else None)


def is_finished(folder: Path, step: int) -> bool:
    """Whether a run's result after so many steps is written and evaluated."""
    path = folder / checkpoints.FINAL
    final = checkpoints.load(path) if path.is_file() else {}
    return final.get("step") == step and "evaluation" in final


def record(folder: Path, step: int, recipe: Recipe, facts: dict[str, Any]) -> None:
    """Write the resolved recipe and the facts of a run that trains from `step` on.

    `recipe.json` and `run.json` describe the latest stage; the list `stages` in `run.json` holds
    recipe, facts and first step of each. A resumed run adds a stage where something changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, stages = folder / FACTS, []
    if step and path.is_file():
        stages = json.loads(path.read_text(encoding="utf-8")).get("stages", [])
    stage = {"from_step": step, **facts, "recipe": recipe.to_dict()}
    if not stages or {**stages[-1], "from_step": step} != plain(stage):
        stages.append(stage)
    write_json(folder / RECIPE, recipe.to_dict())
    write_json(path, facts | {"stages": stages})


def facts_of(samples: Sequence[Sample], held_out: Sequence[Sample], **more: Any) -> dict[str, Any]:
    """Versions, commit and data of a run, and what `more` there is to record."""
    return checkpoints.provenance() | {
        "images": len(samples),
        "faces": sum(int((~sample.ignore).sum()) for sample in samples),
        "images_held_out": len(held_out),
        "digest": datasets.digest(samples),
        **more,
    }


def _differences(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted name, old and new value of what differs; fields that the old one lacks are skipped."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in old.items():
            yield from _differences(value, new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        yield name, old, new


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ":".join(map(str, value.values()))
    return " ".join(map(_shown, value)) if isinstance(value, list) else str(value)
