"""Opening: what a user sees of a run at its start, its facts and a picture of its first batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facefind.drawing import draw
from facefind.faces import Faces
from facefind.files import atomic
from facefind.learn.loader import Batch
from facefind.learn.recipe import Recipe

FIRST_BATCH = "first_batch.jpg"
_IGNORED = (255, 171, 64)


def opening_lines(
    recipe: Recipe, folder: Path, facts: dict[str, Any], *, step: int, why: str
) -> list[str]:
    """Lines that say what is about to be trained, on what and where.

    Args:
        recipe: the run's.
        folder: its run folder.
        facts: what `run.json` records of it.
        step: from which it goes on; 0 at its start.
        why: the precision was chosen.
    """
    augment, schedule, batch = recipe.augment, recipe.schedule, recipe.schedule.batch
    if augment.crop == "square":
        phases = [f"{phase.size} until {phase.until:.0%} of the run, " for phase in augment.phases]
        crops = f"{batch} square crops a step, sides of {''.join(phases)}{augment.size} pixels"
    else:
        crops = f"{batch} whole images a step"
    parts, processes = recipe.optim.accumulate, facts["processes"]
    crops += f", in {parts} parts" if parts > 1 else ""
    crops += f", over {processes} processes" if processes > 1 else ""
    length = f"{schedule.minutes or 0:g} minutes of training, by the clock"
    if facts["steps"] is not None:
        epochs = facts["steps"] * batch / facts["images"]
        length = f"{facts['steps']:,} steps, {epochs:.4g} epochs"
    rows = {
        "training": f"{recipe.name} in {folder}" + (f", from step {step} on" if step else ""),
        "images": f"{facts['images']:,} with {facts['faces']:,} faces (digest "
        f"{facts['digest'][:12]}); {facts['images_held_out']:,} to evaluate on",
        "device": f"{facts['device']}, {facts['precision']} ({why})",
        "batches": crops,
        "length": length,
    }
    return [f"{name:<9} {text}" for name, text in rows.items()]


def cache_line(name: str | None, cache: object | None) -> str:
    """A line that says where decoded images are kept, and why.

    Args:
        name: `--cache`.
        cache: what it has come to; None: nothing is kept.
    """
    text = f"{cache} (--cache {name})"
    if cache is None:
        text = f"none: decoded images do not fit (--cache {name})"
    if name is None:
        text = "none: images are decoded whenever they are used; --cache auto keeps them"
    return f"{'cache':<9} {text}"


def labeled_crops(batch: Batch, most: int = 8) -> NDArray[np.uint8]:
    """(H,W,3) RGB: crops of a batch beside each other, four a row, with their labels drawn.

    Faces are green, with their landmarks where all five are visible; ignored regions are orange.
    """
    fields = {name: value.cpu().numpy() for name, value in vars(batch.targets).items()}
    boxes, landmarks, image = fields["boxes"], fields["landmarks"], fields["image"]
    real = (boxes[:, 2:] > boxes[:, :2]).all(-1)
    pointed = fields["visible"].all(-1)
    drawn = []
    for number, crop in enumerate(batch.images[:most].cpu().numpy()):
        crop = _with_boxes(crop, fields["ignore"][fields["ignore_image"] == number], color=_IGNORED)
        here = real & (image == number)
        crop = _with_boxes(crop, boxes[here & ~pointed])
        drawn.append(_with_boxes(crop, boxes[here & pointed], landmarks[here & pointed]))
    while len(drawn) % min(len(drawn), 4):
        drawn.append(np.zeros_like(drawn[0]))
    rows = [np.hstack(drawn[start : start + 4]) for start in range(0, len(drawn), 4)]
    return np.vstack(rows)


def write_first_batch(folder: Path, batch: Batch) -> NDArray[np.uint8]:
    """Write a batch's `labeled_crops` to `first_batch.jpg` in a run folder, and return them."""
    from PIL import Image

    pixels = labeled_crops(batch)
    with atomic(folder / FIRST_BATCH) as draft:
        Image.fromarray(pixels).save(draft, format="JPEG", quality=90)
    return pixels


def _with_boxes(
    crop: NDArray[np.uint8],
    boxes: NDArray[np.float32],
    landmarks: NDArray[np.float32] | None = None,
    color: tuple[int, int, int] | None = None,
) -> NDArray[np.uint8]:
    size = crop.shape[0], crop.shape[1]
    faces = Faces(boxes, np.ones(len(boxes)), landmarks, image_size=size)
    return draw(crop, faces, labels=False, box_color=color)
