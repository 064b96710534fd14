"""facefind's own detectors: SCRFD's networks, trained with what other papers offer for free.

`facefind-n` stays under 0.6 and `facefind-s` under 2.6 billion multiply-adds at 640x480. Every
ingredient acts in training alone. What each gives was measured one by one at a small budget
(`benchmarks/ingredients.py`); docs/papers/scrfd.md has the figures and why `KEPT` holds these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from facefind.learn.recipe import MiningConfig, Recipe
from facefind.recipes import scrfd
from facefind.systems.scrfd import CRITERION, LANDMARKS, ROWS

SIZES = {"facefind-n": "scrfd-500m-kps", "facefind-s": "scrfd-2.5g-kps"}
"""The row of SCRFD whose network each of the detectors has."""


def _landmarks(recipe: Recipe) -> Recipe:
    return replace(recipe, criterion=replace(recipe.criterion, landmarks=LANDMARKS))


def _background(recipe: Recipe) -> Recipe:
    return replace(recipe, augment=replace(recipe.augment, background=0.3))


def _balance(recipe: Recipe) -> Recipe:
    return replace(recipe, data=replace(recipe.data, balance=0.5))


def _mining(recipe: Recipe) -> Recipe:
    # Quality scores follow IoU and seldom pass .5: SmallHardFace's .85 would find nothing easy.
    return replace(recipe, mining=MiningConfig(on=True, threshold=0.2))


def _simota(recipe: Recipe) -> Recipe:
    assigner = replace(recipe.criterion.assigner, kind="simota")
    return replace(recipe, criterion=replace(recipe.criterion, assigner=assigner))


INGREDIENTS: dict[str, Callable[[Recipe], Recipe]] = {
    "landmarks": _landmarks,
    "background": _background,
    "balance": _balance,
    "mining": _mining,
    "simota": _simota,
}
"""What may be added to a plain recipe, by name.

landmarks: five landmarks are learned beside boxes (RetinaFace, sec. 3.2). background: three crops
in ten are taken wherever they fall. balance: rare events are drawn more often. mining: images whose
faces are all found easily are skipped (SmallHardFace, sec. 3.2). simota: the network's own
predictions choose the anchors of a face (YOLOX, arXiv:2107.08430) instead of ATSS.
"""
KEPT: tuple[str, ...] = ("landmarks", "background", "balance")
"""The ingredients of the recipes that bear facefind's name."""


def _plain(base: Recipe, name: str) -> Recipe:
    plain = replace(CRITERION, landmarks=replace(LANDMARKS, weight=0.0))
    network = ROWS[SIZES[name]]
    return replace(base, network=network, criterion=plain, data=replace(base.data, balance=0.0))


def _mixed(recipe: Recipe, ingredients: Sequence[str]) -> Recipe:
    for ingredient in ingredients:
        recipe = INGREDIENTS[ingredient](recipe)
    return recipe


def full(name: str, ingredients: Sequence[str] = KEPT) -> Recipe:
    """The training for a GPU: 640-pixel crops as in SCRFD, AdamW on a cosine, averaged weights."""
    quick = scrfd.short(SIZES[name])
    base = replace(
        scrfd.paper(SIZES[name]),
        name=name,
        optim=quick.optim,
        schedule=replace(quick.schedule, epochs=300.0, batch=32),
    )
    return _mixed(_plain(base, name), ingredients)


def short(name: str, ingredients: Sequence[str] = KEPT) -> Recipe:
    """The training for a CPU and an hour or two, in windows of 320 pixels."""
    base = replace(scrfd.short(SIZES[name]), name=f"{name}-short")
    return _mixed(_plain(base, name), ingredients)


RECIPES: dict[str, Callable[[], Recipe]] = {
    **{name: partial(full, name) for name in SIZES},
    **{f"{name}-short": partial(short, name) for name in SIZES},
}
"""facefind's recipes by name."""
