"""Checks of a recipe before any work, in the command line's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from facefind import protocols
from facefind.errors import DataError
from facefind.learn.recipe import AugmentConfig, Recipe

_SHORT = {
    "data.root": "data",
    "data.val": "val",
    "data.cache": "cache",
    "run.out": "out",
    "run.init_from": "init-from",
    "run.device": "device",
}
_RULES: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    (
        "1 or more",
        lambda value: value >= 1,
        "data.max_pixels schedule.batch optim.accumulate run.threads run.log_every augment.size "
        "augment.phases.size augment.resized.short_sides augment.resized.long_side "
        "augment.resized.multiple criterion.assigner.topk criterion.assigner.max_anchors "
        "criterion.sampler.total",
    ),
    (
        "0 or more",
        lambda value: value >= 0,
        "data.workers optim.lr optim.weight_decay optim.clip schedule.warmup_epochs "
        "run.checkpoint_every run.evaluate_every run.evaluate_images augment.min_face "
        "augment.anchor_octaves augment.anchor_above criterion.assigner.at_least "
        "criterion.sampler.ratio criterion.sampler.min_negatives criterion.sampler.positives "
        "criterion.classification.weight criterion.box.weight criterion.landmarks.weight "
        "criterion.auxiliary_weight",
    ),
    (
        "more than 0",
        lambda value: value > 0,
        "schedule.epochs schedule.minutes augment.crop_sides augment.anchor_sides "
        "criterion.assigner.radius criterion.box.smooth_l1_beta "
        "criterion.landmarks.smooth_l1_beta",
    ),
    (
        "0 to 1",
        lambda value: 0 <= value <= 1,
        "schedule.warmup_factor schedule.steps schedule.final augment.background augment.flip "
        "augment.dark augment.gray augment.turned augment.anchor_prob augment.resized.crop_prob "
        "criterion.assigner.positive_iou criterion.assigner.negative_iou "
        "criterion.assigner.low_quality_iou criterion.assigner.box_iou",
    ),
    (
        "0 to less than 1",
        lambda value: 0 <= value < 1,
        "data.hold_out optim.momentum optim.ema",
    ),
    (
        "more than 0 and up to 1",
        lambda value: 0 < value <= 1,
        "augment.phases.until augment.resized.min_crop",
    ),
)
"""What numbers must be: in words, as a test, and of which fields."""


def option(name: str) -> str:
    """How the command line spells a field of a recipe: `data.hold_out` is `--data.hold-out`."""
    return f"--{_SHORT.get(name, name.replace('_', '-'))}"


def check(recipe: Recipe, processes: int = 1) -> None:
    """See that the numbers of a recipe make sense.

    Args:
        recipe: what is to be trained.
        processes: that share each batch.

    Raises:
        DataError: if one does not; names the option, what was expected and what was given.
        ProtocolError: if there is no such test protocol.
    """
    for part in ("criterion", "data", "optim", "schedule", "run"):
        _check_numbers(getattr(recipe, part), f"{part}.")
    check_augment(recipe.augment)
    protocols.get(recipe.protocol)
    batch, parts = recipe.schedule.batch, recipe.optim.accumulate
    if batch % (processes * parts):
        raise DataError(
            f"--schedule.batch: expected a multiple of {processes * parts}, to be shared by "
            f"{processes} process(es) in {parts} part(s) each (--optim.accumulate), got {batch}"
        )


def check_augment(config: AugmentConfig) -> None:
    """See that the numbers of an augmentation make sense; errors as those of `check`."""
    _check_numbers(config, "augment.")
    given: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("augment.crop_sides", config.crop_sides),
        ("augment.resized.short_sides", config.resized.short_sides),
    )
    for name, values in given:
        if not values:
            raise DataError(f"{option(name)}: expected one or more numbers, got none")
    sides, least = config.anchor_sides, min([config.size, *(one.size for one in config.phases)])
    fit = list(sides) == sorted(sides) and bool(sides) and sides[0] <= least
    if config.crop_policy == "anchor" and not fit:
        raise DataError(
            "--augment.anchor-sides: expected sizes of a face, small to large, the first at most "
            f"{least}, the side of a crop, got {' '.join(map(str, sides)) or 'none'}"
        )
    shown = " ".join(map(str, config.phases))
    ends = [phase.until for phase in config.phases]
    if sorted(set(ends)) != ends:
        raise DataError(f"--augment.phases: expected each to end after the last, got {shown}")
    if config.phases and config.crop != "square":
        raise DataError(
            f"--augment.phases {shown}: sizes are those of square crops, not of --augment.crop "
            f"{config.crop}"
        )


def _check_numbers(config: Any, part: str) -> None:
    """Raise DataError where a number of a part of a recipe breaks a rule."""
    for expected, fits, names in _RULES:
        for name in names.split():
            values = _values(config, name.removeprefix(part)) if name.startswith(part) else []
            for value in values:
                if not fits(value):
                    raise DataError(f"{option(name)}: expected {expected}, got {value}")


def _values(value: Any, path: str) -> list[float]:
    """The numbers at a dotted path of fields: each of a tuple's; none where it is None."""
    if isinstance(value, tuple):
        return [found for item in value for found in _values(item, path)]
    if path:
        first, _, rest = path.partition(".")
        return _values(getattr(value, first), rest)
    return [] if value is None else [value]
