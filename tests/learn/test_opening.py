"""What a run says and shows before it trains."""

import dataclasses
import itertools
import sys

import numpy as np
import PIL.Image
import torch

from facefind import datasets
from facefind.learn.engine import train
from facefind.learn.loader import Batch
from facefind.learn.opening import labeled_crops
from facefind.learn.recipe import AugmentConfig, Phase
from facefind.learn.targets import BatchTargets, Target

GREEN, ORANGE = (0, 230, 118), (255, 171, 64)


def test_a_run_says_first_what_it_trains_on(recipe, tiny_set, capsys):
    train(recipe, stop_at=2)
    samples, held_out = datasets.read_sets([str(tiny_set)], hold_out=0.2)
    faces = sum(len(s.boxes) for s in samples)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:6] == [
        f"training  tiny in {recipe.run.out}",
        f"images    {len(samples)} with {faces} faces (digest {datasets.digest(samples)[:12]}); "
        f"{len(held_out)} to evaluate on",
        "device    cpu, fp32 (as asked for)",
        "batches   4 square crops a step, sides of 64 pixels",
        "length    11 steps, 4 epochs",
        "cache     none: images are decoded whenever they are used; --cache auto keeps them",
    ]
    assert lines[6].startswith("1/11  loss_cls")  # at once, though a line is due every two steps
    assert lines[7].startswith("2/11  loss_cls")
    assert all("  left 0:00:" in line for line in lines[6:8])
    train(recipe, stop_at=3, resume=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith(", from step 2 on")
    assert lines[6].startswith("3/11  loss_cls")


def test_minutes_phases_parts_and_a_cache_are_said(recipe, capsys):
    other = dataclasses.replace(
        recipe,
        augment=AugmentConfig(size=64, phases=(Phase(until=0.35, size=32),)),
        data=dataclasses.replace(recipe.data, cache="host"),
        optim=dataclasses.replace(recipe.optim, accumulate=2),
        schedule=dataclasses.replace(recipe.schedule, minutes=9.0),
    )
    train(other, stop_at=1)
    lines = capsys.readouterr().err.splitlines()
    assert "sides of 32 until 35% of the run, 64 pixels, in 2 parts" in lines[3]
    assert lines[4] == "length    9 minutes of training, by the clock"
    assert lines[5] == "cache     decoded images in memory, 0.0 GiB (--cache host)"
    assert lines[6].startswith("1/~")


def test_the_first_batch_is_shown_with_its_labels():
    point = torch.full((1, 5, 2), 20.0)
    five = Target(torch.tensor([[10.0, 10, 40, 40]]), point, torch.zeros(0, 4))
    unknown, ignored = torch.full((1, 5, 2), torch.nan), torch.tensor([[32.0, 32, 60, 60]])
    boxed = Target(torch.tensor([[4.0, 4, 30, 30]]), unknown, ignored)
    targets = BatchTargets.from_images([five, boxed, Target.empty(), boxed, five], (64, 64))
    batch = Batch(torch.full((5, 64, 64, 3), 7, dtype=torch.uint8), targets, list("abcde"))
    grid = labeled_crops(batch, most=5)
    assert grid.shape == (128, 256, 3)
    places = itertools.product((0, 64), (0, 64, 128, 192))
    tiles = [grid[top : top + 64, left : left + 64] for top, left in places]
    pointed, marked = [True, False, False, False, True], [False, True, False, True, False]
    assert [tuple(tile[10, 12]) == GREEN for tile in tiles[:5]] == pointed
    assert [tuple(tile[20, 20]) != (7, 7, 7) for tile in tiles[:5]] == pointed
    assert [tuple(tile[4, 8]) == GREEN for tile in tiles[:5]] == marked
    assert [tuple(tile[32, 40]) == ORANGE for tile in tiles[:5]] == marked
    assert (tiles[2] == 7).all()
    assert not any(tile.any() for tile in tiles[5:])
    assert (batch.images == 7).all()


def test_a_run_keeps_a_picture_of_its_first_batch(recipe, monkeypatch):
    from torch.utils.tensorboard import SummaryWriter

    shown = []
    monkeypatch.setattr(SummaryWriter, "add_image", lambda _, *args, **kwargs: shown.append(args))
    folder = train(recipe, stop_at=1)
    path = folder / "first_batch.jpg"
    with PIL.Image.open(path) as picture:
        assert picture.size == (256, 64)
        difference = np.asarray(picture, float) - shown[0][1]
    assert np.abs(difference).mean() < 12  # but for JPEG
    path.unlink()
    train(recipe, stop_at=2, resume=True)
    assert len(shown) == 1
    assert not path.exists()


def test_the_picture_needs_no_tensorboard(recipe, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    folder = train(recipe, stop_at=1)
    assert (folder / "first_batch.jpg").exists()
    assert not (folder / "tensorboard").exists()
