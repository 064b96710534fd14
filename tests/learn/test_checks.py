"""Numbers of a recipe that make no sense are refused in the command line's words."""

import dataclasses

import pytest

from facefind import recipes
from facefind.errors import DataError, ProtocolError
from facefind.learn.checks import check, option
from facefind.learn.recipe import AugmentConfig, Phase, ResizedConfig


def change(recipe, part, **values):
    return dataclasses.replace(
        recipe, **{part: dataclasses.replace(getattr(recipe, part), **values)}
    )


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_makes_sense(name):
    check(recipes.get(name))


@pytest.mark.parametrize(
    ("part", "field", "value", "expected"),
    [
        ("schedule", "batch", 0, "1 or more"),
        ("schedule", "epochs", 0.0, "more than 0"),
        ("schedule", "minutes", -1.0, "more than 0"),
        ("schedule", "steps", (0.5, 2.0), "0 to 1"),
        ("schedule", "warmup_epochs", -1.0, "0 or more"),
        ("optim", "accumulate", 0, "1 or more"),
        ("optim", "lr", -1.0, "0 or more"),
        ("optim", "ema", 1.0, "0 to less than 1"),
        ("optim", "momentum", 1.5, "0 to less than 1"),
        ("data", "workers", -1, "0 or more"),
        ("data", "hold_out", 1.0, "0 to less than 1"),
        ("run", "log_every", 0, "1 or more"),
        ("run", "threads", 0, "1 or more"),
        ("run", "evaluate_every", -1.0, "0 or more"),
        ("augment", "size", 0, "1 or more"),
        ("augment", "crop_sides", (0.5, -1.0), "more than 0"),
        ("augment", "crop_sides", (), "one or more"),
        ("augment", "flip", 3.0, "0 to 1"),
    ],
)
def test_a_number_out_of_its_range_is_named(part, field, value, expected):
    wrong = change(recipes.get("scrfd-500m"), part, **{field: value})
    with pytest.raises(DataError) as caught:
        check(wrong)
    assert str(caught.value).startswith(f"--{part}.{field.replace('_', '-')}: expected {expected}")


@pytest.mark.parametrize(
    ("resized", "message"),
    [
        ({"short_sides": ()}, "--augment.resized.short-sides: expected one or more"),
        ({"min_crop": 0.0}, "--augment.resized.min-crop: expected more than 0 and up to 1, got 0"),
        ({"multiple": 0}, "--augment.resized.multiple: expected 1 or more, got 0"),
    ],
)
def test_a_number_deep_in_the_tree_is_named(resized, message):
    wrong = change(recipes.get("smallhardface"), "augment", resized=ResizedConfig(**resized))
    with pytest.raises(DataError, match=message):
        check(wrong)


def test_the_numbers_of_a_criterion_are_checked():
    base = recipes.get("dsfd-vgg16")
    for part, field, value, expected in (
        ("assigner", "positive_iou", 1.4, "0 to 1"),
        ("sampler", "ratio", -3.0, "0 or more"),
        ("box", "smooth_l1_beta", 0.0, "more than 0"),
    ):
        changed = dataclasses.replace(getattr(base.criterion, part), **{field: value})
        wrong = change(base, "criterion", **{part: changed})
        name = f"--criterion.{part}.{field.replace('_', '-')}"
        with pytest.raises(DataError, match=f"^{name}: expected {expected}, got {value}"):
            check(wrong)


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([(0.5, 448), (0.4, 512)], "each to end after the last, got 0.5:448 0.4:512"),
        ([(0.5, 448), (0.5, 512)], "each to end after the last"),
        ([(0.5, 0)], r"--augment\.phases\.size: expected 1 or more, got 0"),
        ([(2.0, 448)], r"--augment\.phases\.until: expected more than 0 and up to 1, got 2"),
    ],
)
def test_phases_follow_each_other(phases, message):
    config = tuple(Phase(until=until, size=size) for until, size in phases)
    with pytest.raises(DataError, match=message):
        check(change(recipes.get("scrfd-500m"), "augment", phases=config))


@pytest.mark.parametrize("sides", [(), (64.0, 32.0), (512.0, 1024.0)])
def test_faces_are_brought_to_sizes_that_a_crop_can_show(sides):
    dsfd = change(recipes.get("dsfd-r50"), "augment", phases=(Phase(until=0.5, size=448),))
    check(dsfd)
    with pytest.raises(DataError, match=r"anchor-sides: expected .* the first at most 448"):
        check(change(dsfd, "augment", anchor_sides=sides))


def test_whole_images_have_no_phases():
    augment = AugmentConfig(crop="resized", phases=(Phase(until=0.5, size=448),))
    with pytest.raises(DataError, match=r"not of --augment\.crop resized"):
        check(dataclasses.replace(recipes.get("scrfd-500m"), augment=augment))


def test_a_batch_is_shared_by_processes_and_parts():
    recipe = change(change(recipes.get("scrfd-500m"), "schedule", batch=12), "optim", accumulate=2)
    check(recipe, 3)
    with pytest.raises(DataError, match=r"--schedule\.batch: expected a multiple of 8.*got 12"):
        check(recipe, 4)


def test_a_protocol_that_is_none_is_found_before_the_end():
    with pytest.raises(ProtocolError, match="did you mean 'vga'"):
        check(dataclasses.replace(recipes.get("scrfd-500m"), protocol="vgaa"))


def test_options_are_named_as_the_command_line_does():
    names = {"data.root": "--data", "run.init_from": "--init-from", "run.out": "--out"}
    for name, spelled in (names | {"data.hold_out": "--data.hold-out"}).items():
        assert option(name) == spelled
