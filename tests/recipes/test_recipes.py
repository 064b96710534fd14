import dataclasses
import json

import pytest

from facefind import recipes
from facefind.errors import DataError
from facefind.recipes import scrfd


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_survives_json(name):
    recipe = recipes.get(name)
    assert recipe.name == name
    assert recipes.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_the_paper_s_schedule():
    recipe = recipes.get("scrfd-2.5g")
    assert recipe.augment.crop_sides[-1] == 2.0
    assert recipe.augment.size == 640
    assert (recipe.optim.lr, recipe.optim.momentum, recipe.optim.weight_decay) == (0.01, 0.9, 5e-4)
    assert recipe.schedule.epochs == 640
    assert [round(f * 640) for f in recipe.schedule.steps] == [440, 544]


@pytest.mark.parametrize("name", scrfd.ROWS)
def test_every_row_has_its_trainings(name):
    if name == "resnet-34g-released":
        assert recipes.get(name).network == scrfd.ROWS[name]
        return
    with_sr, without = recipes.get(name), recipes.get(f"{name}-nosr")
    assert with_sr.augment.crop_sides == (0.3, 0.45, 0.6, 0.8, 1, 1.2, 1.4, 1.6, 1.8, 2)
    assert without.augment.crop_sides == (0.3, 0.45, 0.6, 0.8, 1)
    sides = without.augment.crop_sides
    one = dataclasses.replace(
        with_sr, name=without.name, augment=dataclasses.replace(with_sr.augment, crop_sides=sides)
    )
    assert one == without
    assert with_sr.schedule.epochs == 640
    assert with_sr.schedule.batch == 32


@pytest.mark.parametrize("name", ["scrfd-500m-kps", "scrfd-2.5g-kps", "dsfd-light"])
def test_dark_faces_are_fine_tuned_on_darkened_crops(name):
    dark, tuned = recipes.get(f"{name}-dark"), recipes.get(f"{name}-finetune")
    assert (dark.augment.dark, tuned.augment.dark) == (0.5, 0)
    assert dark.run.init_from == name
    assert dark.network == tuned.network
    assert dark.schedule.epochs == 1


def test_the_released_settings():
    assert recipes.get("scrfd-10g").augment.fill == scrfd.MEAN_COLOR
    released = recipes.get("scrfd-10g-released")
    assert released.augment.fill == (128, 128, 128)
    assert released.augment.channel_shuffle
    assert not released.augment.clip_boxes
    assert recipes.get("scrfd-34g-released").augment.clip_boxes
    assert recipes.get("scrfd-34g-released").optim.lr == 0.02
    assert released.optim.lr == recipes.get("scrfd-34g").optim.lr == 0.01
    assert recipes.get("scrfd-500m-kps-released").schedule.batch == 64
    base = recipes.get("resnet-34g-released")
    assert base.network.depths == (3, 8, 4, 3)
    assert base.schedule.epochs == 400
    assert [round(f * 400) for f in base.schedule.steps] == [275, 340]
    # 1,500 steps of warm-up on all of WIDER FACE
    for name in ("scrfd-10g-released", "scrfd-500m-kps-released"):
        schedule = recipes.get(name).schedule
        assert round(schedule.warmup_epochs * 12_880 / schedule.batch) == 1500


def test_unknown_names_are_helped():
    with pytest.raises(DataError, match=r"scrfd-2\.5g"):
        recipes.get("scrfd-2.5")
    with pytest.raises(DataError, match="no recipe file"):
        recipes.get("missing.py:mine")


def test_a_recipe_of_one_s_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import replace\n"
        "from facefind import recipes\n"
        "def small():\n"
        "    return replace(recipes.get('scrfd-500m'), name='small')\n"
        "def wrong():\n"
        "    return 3\n"
    )
    recipe = recipes.get(f"{file}:small")
    assert recipe == dataclasses.replace(recipes.get("scrfd-500m"), name="small")
    with pytest.raises(DataError, match="wrong"):
        recipes.get(f"{file}:wrong")


def test_unknown_settings_are_named():
    content = recipes.get("scrfd-500m").to_dict()
    content["network"]["color"] = 1
    with pytest.raises(DataError, match="color"):
        recipes.from_dict(content)
