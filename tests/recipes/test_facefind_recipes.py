import pytest

from facefind import recipes
from facefind.nn.cost import measure
from facefind.recipes.facefind import INGREDIENTS, KEPT, SIZES, full, short


@pytest.mark.parametrize(("name", "limit"), [("facefind-n", 0.6e9), ("facefind-s", 2.6e9)])
def test_the_detectors_stay_within_their_budgets(name, limit):
    cost = measure(recipes.get(name).network.build(), 480, 640)
    assert 0.9 * limit < cost.multiply_adds < limit


@pytest.mark.parametrize("make", [full, short])
@pytest.mark.parametrize("name", SIZES)
def test_every_ingredient_changes_the_plain_recipe_but_not_its_cost(make, name):
    plain = make(name, ())
    parameters = {tuple(p.shape) for p in plain.network.build().parameters()}
    for ingredient in INGREDIENTS:
        mixed = make(name, (ingredient,))
        assert mixed != plain
        assert {tuple(p.shape) for p in mixed.network.build().parameters()} == parameters
    assert set(KEPT) <= set(INGREDIENTS)
    assert make(name) == make(name, KEPT) != plain


def test_the_full_training_sees_whole_windows_and_the_short_one_half():
    whole, half = full("facefind-n"), short("facefind-n")
    assert (whole.augment.size, half.augment.size) == (640, 320)
    assert half.augment.crop_sides == tuple(side / 2 for side in whole.augment.crop_sides)
