"""A tiny training set, and settings of a study that ends in seconds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from facefind.learn.recipe import (
    AugmentConfig,
    DataConfig,
    OptimConfig,
    Recipe,
    RunConfig,
    ScheduleConfig,
)
from facefind.search.redistribution import Redistribution
from facefind.search.settings import Settings
from facefind.search.space import Goal
from facefind.systems.asfd import DRMC, ASFDConfig
from facefind.systems.scrfd import FAMILY


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright squares on dark noise in WIDER FACE's format."""
    root = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    lines = []
    for number in range(12):
        name = f"{number % 3}--Event/{number}.jpg"
        image = rng.integers(0, 60, (64, 64, 3), dtype=np.uint8)
        x, y, side = (int(n) for n in rng.integers((0, 0, 16), (32, 32, 32)))
        image[y : y + side, x : x + side] = 220
        place = root / "images" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(image).save(place, quality=95)
        lines += [name, "1", f"{x} {y} {side} {side} 0 0 0 0 0 0"]
    (root / "squares_bbx_gt.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def settings(squares: Path) -> Settings:
    """Three networks a step of 0.1 GF, each trained for three steps of four images."""
    trial = Recipe(
        name="trial",
        network=FAMILY["scrfd-500m"],
        data=DataConfig(root=(str(squares),), hold_out=0.3, workers=0),
        augment=AugmentConfig(size=32),
        optim=OptimConfig(name="adamw", lr=3e-3, ema=0.9),
        schedule=ScheduleConfig(epochs=1, batch=4, warmup_epochs=0.5, kind="cosine"),
        run=RunConfig(device="cpu", log_every=100, threads=1, evaluate_images=1),
    )
    return Settings(
        candidates=Redistribution(
            goal=Goal(gflops=0.1, block="depthwise", neck=8, head=16, tolerance=0.1)
        ),
        models=3,
        trial=trial,
        final=dataclasses.replace(trial, name="final"),
        subset="height>=16",
    )


@pytest.fixture
def around() -> ASFDConfig:
    """A small ASFD, whose feature modules may be searched."""
    return ASFDConfig(
        backbone="mobilenet-0.25",
        coarser=((8, 16), (8, 16)),
        width=8,
        pyramid="none",
        first_shot="none",
    )


@pytest.fixture
def searched(settings: Settings, around: ASFDConfig) -> Recipe:
    """A search of six steps of two images."""
    return dataclasses.replace(
        settings.trial,
        name="searched",
        network=around,
        criterion=DRMC,
        augment=AugmentConfig(size=64),
        optim=OptimConfig(name="sgd", lr=1e-4, clip=1.0),
        schedule=ScheduleConfig(epochs=2.4, batch=2, warmup_epochs=0),
        run=RunConfig(device="cpu", log_every=2, threads=1, evaluate_images=1),
    )
