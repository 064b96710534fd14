"""Recipes for minutes on a GPU: their course, and a step of each on a CPU."""

import dataclasses
import json

import numpy as np
import PIL.Image
import pytest

from facefind import recipes
from facefind.learn import checkpoints
from facefind.learn.engine import train
from facefind.learn.recipe import Phase
from facefind.learn.schedule import Progress, Stopwatch, crop_size

NAMES = [name for name in recipes.names() if name.endswith("-gpu") and "-mesh" not in name]


def test_the_family_and_the_light_networks_have_one():
    assert {"scrfd-500m-kps-gpu", "scrfd-2.5g-kps-gpu", "scrfd-34g-gpu"} <= set(NAMES)
    assert {"retinaface-mobile-gpu", "smallhardface-light-gpu"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_they_share_a_course_and_differ_in_what_is_learned(name):
    recipe, model = recipes.get(name), recipes.get("scrfd-2.5g-kps-gpu")
    assert recipe.augment == dataclasses.replace(model.augment, fill=recipe.augment.fill)
    for part in ("data", "optim", "schedule"):
        assert getattr(recipe, part) == getattr(model, part)
    origin = recipes.get(name.removesuffix("-gpu") + "-short" * (not name.startswith("scrfd")))
    assert recipe.run == dataclasses.replace(model.run, init_from=origin.run.init_from)
    assert recipe.network == origin.network
    assert recipe.mining == origin.mining
    assert recipe.protocol == origin.protocol


def test_their_course_is_that_of_the_weights_that_ship():
    recipe = recipes.get("scrfd-2.5g-kps-gpu")
    assert recipe.criterion == recipes.get("scrfd-2.5g-kps").criterion
    now = [0.0]
    watch = Stopwatch(0.0, lambda: now[0])
    progress = Progress(recipe.schedule, 5810, watch)
    watch.start()
    found = []
    for step, seconds in enumerate((5.4, 188.0, 190.0, 539.9), start=1):
        now[0] = seconds
        progress.update(step)
        found.append((progress.rate(step), crop_size(progress.fraction(step), recipe.augment)))
    rates, sizes = zip(*found, strict=True)
    assert rates[0] == pytest.approx(1.0)  # warmed up after 1 % of the time
    assert rates[3] == pytest.approx(0.01, abs=1e-5)
    assert sizes == (448, 448, 640, 640)
    by_steps = dataclasses.replace(recipe.schedule, minutes=None)
    assert Progress(by_steps, 5810, Stopwatch()).steps == pytest.approx(7819, abs=20)


@pytest.fixture(scope="module")
def square(tmp_path_factory):
    """An image with a bright square for a face, in WIDER FACE's layout."""
    root = tmp_path_factory.mktemp("square")
    pixels = np.zeros((96, 128, 3), np.uint8)
    pixels[20:60, 30:70] = 220
    (root / "images").mkdir()
    PIL.Image.fromarray(pixels).save(root / "images" / "a.png")
    (root / "one_bbx_gt.txt").write_text("a.png\n1\n30 20 40 40 0 0 0 0 0 0\n")
    return root


LIGHTEST = ("scrfd-500m-kps-gpu", "retinaface-mobile-gpu", "smallhardface-light-gpu", "asfd-d0-gpu")


@pytest.mark.slow
@pytest.mark.parametrize("name", LIGHTEST)  # a family differs in its network alone, as seen above
def test_a_step_of_each_system_is_taken(name, square, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEFIND_MAX_STEPS", "1")
    recipe = recipes.get(name)
    tiny = dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, root=(str(square),), hold_out=0.0, workers=0),
        augment=dataclasses.replace(recipe.augment, size=96, phases=(Phase(until=0.35, size=64),)),
        schedule=dataclasses.replace(recipe.schedule, batch=2),
        run=dataclasses.replace(recipe.run, out=tmp_path / "run", device="cpu", threads=1),
    )
    folder = train(tiny)
    assert checkpoints.load(folder / "final.pt")["step"] == 1
    record = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    assert {"loss_cls", "loss_box", "seconds"} <= record.keys()
    assert recipes.read_recipe(folder) == tiny
