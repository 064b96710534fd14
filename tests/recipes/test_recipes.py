import dataclasses
import json

import pytest

from facefind import recipes
from facefind.errors import DataError


@pytest.mark.parametrize("name", list(recipes.RECIPES))
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
    content["network"]["colour"] = 1
    with pytest.raises(DataError, match="colour"):
        recipes.from_dict(content)
