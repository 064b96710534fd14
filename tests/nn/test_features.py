"""Feature modules by name: pyramids and contexts on maps of any widths and strides."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from facefind.errors import DataError
from facefind.nn import features, genotypes
from facefind.nn.cells import ContextCell, PyramidCell
from facefind.nn.context import ReceptiveFields
from facefind.nn.necks import BiFPN

STRIDES = (8, 16, 32)
SIZES = ((13, 20), (7, 10), (4, 5))


def maps(widths: tuple[int, ...]) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, w, *size) for w, size in zip(widths, SIZES, strict=True)]


@pytest.mark.parametrize("widths", [(8, 8, 8), (6, 10, 4)])
@pytest.mark.parametrize("repeats", [1, 2])
@pytest.mark.parametrize("name", features.PYRAMIDS)
def test_every_pyramid_gives_maps_of_one_width_and_teaches_every_weight(name, repeats, widths):
    module = features.pyramid(name, widths, 8, STRIDES, repeats=repeats)
    if name == "none" and widths == (8, 8, 8):
        assert module is None
        return
    found = module(maps(widths))
    assert [m.shape for m in found] == [(2, 8, *size) for size in SIZES]
    sum(m.square().sum() for m in found).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    cells = sum(isinstance(m, PyramidCell) for m in module.modules())
    assert cells == (repeats if name == "autofem" else 0)


@pytest.mark.parametrize("name", features.CONTEXTS)
def test_every_context_keeps_the_shapes(name):
    module = features.context(name, (8, 12, 8), STRIDES)
    if name == "none":
        assert module is None
        return
    given = maps((8, 12, 8))
    assert [m.shape for m in module(given)] == [m.shape for m in given]


def test_genotypes_are_taken_by_file_or_as_they_are(tmp_path):
    edges = (("sep_conv_5x5", 1), ("conv_1x1", 0))
    rest = (("dil_conv_3x3", 0), ("conv_1x1", 1)), (("conv_1x1", 2),)
    pyramid = genotypes.PyramidGenotype((edges, *rest))
    context = genotypes.ContextGenotype(((("sep_conv_3x3", 0), ("skip_connect", 0)),) * 3, "all")
    genotypes.write(pyramid, tmp_path / "pyramid.json")
    for name in (str(tmp_path / "pyramid.json"), genotypes.to_json(pyramid)):
        cell = features.pyramid(name, (8, 8, 8), 8, STRIDES)
        assert cell.sources == ((1, 0), (0, 1), (2,))
        assert cell.edges[0][0][1].kernel_size == (5, 5)
        assert [m.shape for m in cell(maps((8, 8, 8)))] == [(2, 8, *size) for size in SIZES]
    (cell, *_) = features.context(genotypes.to_json(context), (8, 8, 8), STRIDES)
    assert isinstance(cell, ContextCell)
    assert cell.joined == (1, 2)


def test_unknown_names_and_unfit_genotypes_are_told(tmp_path):
    with pytest.raises(ValueError, match=r"no pyramid is called 'cpm'; expected none, fpn"):
        features.pyramid("cpm", (8, 8, 8), 8, STRIDES)
    with pytest.raises(ValueError, match=r"no context is called 'x'; expected none, ssh"):
        features.context("x", (8, 8, 8), STRIDES)
    with pytest.raises(ValueError, match="at strides 5, 10"):
        features.pyramid("autofem", (8, 8), 8, (5, 10))
    genotypes.write(genotypes.TREE_CONTEXT, tmp_path / "context.json")
    with pytest.raises(DataError, match=r"context\.json is of kind 'cpm'; expected 'fpn'"):
        features.pyramid(str(tmp_path / "context.json"), (8, 8, 8), 8, STRIDES)


def test_bifpn_by_hand():
    """Nearest up, max-pool down; weights that are not negative share each sum."""
    torch.manual_seed(0)
    neck = BiFPN(3, 4).eval()
    with torch.no_grad():
        neck.down_sums[0].weight.copy_(torch.tensor([2.0, 1.0]))
        neck.down_sums[1].weight.copy_(torch.tensor([-3.0, 1.0]))
        neck.up_sums[0].weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
    f1, f2, f3 = (torch.randn(2, 4, *size) for size in SIZES)

    def mean(weights, *terms):
        return sum(w * t for w, t in zip(weights, terms, strict=True)) / (sum(weights) + 1e-4)

    def up(x, like):
        return functional.interpolate(x, size=like.shape[2:])

    def pool(x):
        return functional.max_pool2d(x, 3, 2, 1)

    middle = neck.down[1](mean([0, 1], f2, up(f3, f2)))
    first = neck.down[0](mean([2, 1], f1, up(middle, f1)))
    second = neck.up[0](mean([1, 2, 3], f2, middle, pool(first)))
    third = neck.up[1](mean([1, 1], f3, pool(second)))
    for got, want in zip(neck([f1, f2, f3]), (first, second, third), strict=True):
        assert torch.allclose(got, want, atol=1e-5)


def test_receptive_fields_see_by_rows_and_columns():
    torch.manual_seed(0)
    module = ReceptiveFields(8).eval()
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.constant_(part.weight, 0.1)
    x = torch.zeros(1, 8, 11, 11)
    x[..., 5, 5] = 1
    for branch, reach in zip(module.branches, ((0, 1), (1, 0), (0, 2), (2, 0)), strict=True):
        seen = branch(x)[0].amax(0).nonzero() - 5
        assert tuple(seen.amax(0).tolist()) == reach
        assert tuple(seen.amin(0).tolist()) == (-reach[0], -reach[1])
    parts = [branch(x) for branch in module.branches]
    assert torch.allclose(module(x), torch.cat(parts, 1) + x)
    with pytest.raises(ValueError, match="multiple of 4"):
        ReceptiveFields(6)


def test_a_recipe_keeps_a_genotype_not_its_file(tmp_path):
    from facefind import recipes

    genotypes.write(replace(genotypes.TREE_CONTEXT, concat="all"), tmp_path / "found.json")
    base = recipes.get("scrfd-500m-kps-short")
    network = replace(base.network, context=str(tmp_path / "found.json"))
    (tmp_path / "found.json").unlink()
    recipe = replace(base, network=network)
    assert recipes.from_dict(recipe.to_dict()) == recipe
    assert len(recipe.network.build().context[0].joined) == 5
    with pytest.raises(DataError, match="no genotype file"):
        replace(base.network, pyramid="gone.json")
