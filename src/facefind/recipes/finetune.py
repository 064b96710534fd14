"""Fine-tuning: any recipe as a short training that goes on from known weights."""

from __future__ import annotations

from dataclasses import replace

from facefind.learn.recipe import MiningConfig, OptimConfig, Recipe, RunConfig, ScheduleConfig

__all__ = ["dark", "finetune"]


def finetune(recipe: Recipe, init_from: str) -> Recipe:
    """A training of some minutes of the same network, from weights that it stays near to.

    Network, losses and crops are the recipe's. The rate is a fifth of that of our short trainings,
    so that what the weights know is not lost before the new images are learned; the average of
    weights spans some fifty steps, since there are few; all images are drawn alike.

    Args:
        recipe: whose network and crops fit the weights: the one that they were trained by.
        init_from: what `--init-from` takes: the name of a model, a run folder, a file.
    """
    return replace(
        recipe,
        name=f"{recipe.name.removesuffix('-short')}-finetune",
        data=replace(recipe.data, balance=0.0),
        optim=OptimConfig(name="adamw", lr=3e-4, weight_decay=0.05, clip=10.0, ema=0.98),
        schedule=ScheduleConfig(epochs=20.0, batch=16, warmup_epochs=1.0, kind="cosine"),
        mining=MiningConfig(),
        run=RunConfig(init_from=init_from, precision="auto"),
    )


def dark(recipe: Recipe, init_from: str) -> Recipe:
    """A fine-tuning for faces in little light: half of the crops are darkened.

    One epoch of many images, as of WIDER FACE, so that what is learned of light is not forgotten:
    gamma, a part of the light, and noise as `learn.jitter` draws them.

    Args:
        recipe: whose network and crops fit the weights.
        init_from: what `--init-from` takes.
    """
    tuned = finetune(recipe, init_from)
    return replace(
        tuned,
        name=f"{tuned.name.removesuffix('-finetune')}-dark",
        augment=replace(tuned.augment, dark=0.5),
        schedule=replace(tuned.schedule, epochs=1.0, warmup_epochs=0.1),
    )
