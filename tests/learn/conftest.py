"""A tiny training set: bright squares with points on dark noise, in WIDER FACE's format."""

from __future__ import annotations

import dataclasses

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
from facefind.systems.scrfd import FAMILY


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory):
    root = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(0)
    lines = []
    for number in range(12):
        name = f"{number % 3}--Event/{number}.jpg"
        image = rng.integers(0, 60, (96, 128, 3), dtype=np.uint8)
        boxes = []
        for _ in range(number % 4):
            x, y = rng.integers(0, (96, 64))
            side = int(rng.integers(12, 32))
            image[y : y + side, x : x + side] = 220
            boxes.append(f"{x} {y} {side} {side} 0 0 0 0 0 0")
        place = root / "images" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(image).save(place, quality=95)
        lines += [name, str(len(boxes)), *(boxes or ["0 0 0 0 0 0 0 0 0 0"])]
    (root / "tiny_bbx_gt.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def recipe(tiny_set, tmp_path):
    network = dataclasses.replace(
        FAMILY["scrfd-500m-kps"],
        depths=(1, 1, 1, 1), widths=(8, 8, 8, 8), stem=(8, 8), neck=8, head=8, head_depth=1,
    )  # fmt: skip
    return Recipe(
        name="tiny",
        network=network,
        data=DataConfig(root=(str(tiny_set),), hold_out=0.2, workers=0, balance=0.5),
        augment=AugmentConfig(size=64),
        optim=OptimConfig(name="adamw", lr=3e-3, ema=0.9),
        schedule=ScheduleConfig(epochs=4, batch=4, warmup_epochs=0.5, kind="cosine"),
        run=RunConfig(out=tmp_path / "run", device="cpu", log_every=2, threads=1),
    )
