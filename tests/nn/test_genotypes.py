"""Genotypes as files, and the cells that are built of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from facefind.errors import DataError
from facefind.nn import genotypes
from facefind.nn.cells import ContextCell, PyramidCell, operation
from facefind.nn.genotypes import (
    CONTEXT_CHOICES,
    OPERATIONS,
    PYRAMID_CHOICES,
    RELEASED_PYRAMID,
    TREE_CONTEXT,
    ContextGenotype,
    PyramidGenotype,
)

STRIDES = (4, 8, 16, 32, 64, 128)


def test_the_released_pyramid_is_the_authors():
    assert RELEASED_PYRAMID.nodes[0] == (("sep_conv_3x3", 1), ("conv_1x1", 0))
    assert RELEASED_PYRAMID.nodes[1] == (("sep_conv_3x3", 2), ("sep_conv_3x3", 0), ("conv_1x1", 1))
    assert RELEASED_PYRAMID.nodes[5] == (("sep_conv_3x3", 4), ("conv_1x1", 5))
    names = [name for node in RELEASED_PYRAMID.nodes for name, _ in node]
    assert (names.count("sep_conv_3x3"), names.count("conv_1x1"), len(names)) == (10, 6, 16)
    assert {*PYRAMID_CHOICES, *CONTEXT_CHOICES} <= OPERATIONS.keys()


def test_the_hand_made_tree_joins_its_three_leaves():
    assert TREE_CONTEXT.joined(0) == (1, 3, 5)
    assert replace(TREE_CONTEXT, concat="all").joined(0) == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("genotype", [RELEASED_PYRAMID, TREE_CONTEXT])
def test_a_file_holds_a_genotype(genotype, tmp_path):
    path = tmp_path / "found.json"
    genotypes.write(genotype, path)
    assert genotypes.read(path) == genotype
    text = json.loads(path.read_text())
    assert (text["version"], text["kind"]) == (1, genotype.kind)
    line = genotypes.inline(str(path), type(genotype))
    assert "\n" not in line
    assert genotypes.inline(line, type(genotype)) == line
    assert genotypes.of_kind(type(genotype), line) == genotype
    other = ContextGenotype if isinstance(genotype, PyramidGenotype) else PyramidGenotype
    with pytest.raises(DataError, match=r"found\.json is of kind .*; expected"):
        genotypes.of_kind(other, str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no JSON"),
        ("[]", '"version": 1'),
        ('{"version": 2, "kind": "fpn", "nodes": []}', '"version": 1'),
        ('{"version": 1, "kind": "rnn", "nodes": []}', "expected 'fpn' or 'cpm'"),
        ('{"version": 1, "kind": "fpn"}', r"expected \['nodes'\]"),
        ('{"version": 1, "kind": "fpn", "nodes": [], "levels": []}', r"expected \['nodes'\]"),
        ('{"version": 1, "kind": "fpn", "nodes": []}', "at least one level"),
        ('{"version": 1, "kind": "fpn", "nodes": [[]]}', "level 0 has no edge"),
        ('{"version": 1, "kind": "fpn", "nodes": [["conv_1x1", 0]]}', r"\[operation, source\]"),
        ('{"version": 1, "kind": "fpn", "nodes": [[["conv_1x1", true]]]}', r"\[operation, source"),
        ('{"version": 1, "kind": "fpn", "nodes": [[["conv_9x9", 0]]]}', "no operation 'conv_9x9'"),
        ('{"version": 1, "kind": "fpn", "nodes": [[["none", 0]]]}', "no operation 'none'"),
        ('{"version": 1, "kind": "fpn", "nodes": [[["conv_1x1", 1]]]}', "source 1; expected each"),
        ('{"version": 1, "kind": "fpn", "nodes": [[["conv_1x1", 0], ["conv_1x1", 0]]]}', "edge 1"),
        ('{"version": 1, "kind": "cpm", "levels": [[]]}', "has no node"),
        ('{"version": 1, "kind": "cpm", "levels": [[["conv_1x1", 1]]]}', "no cycle"),
        ('{"version": 1, "kind": "cpm", "levels": [[["conv_1x1", -1]]]}', "no cycle"),
        ('{"version": 1, "kind": "cpm", "levels": [[["conv_1x1", 0]]], "concat": "x"}', "'leaf'"),
    ],
)
def test_a_file_that_holds_none_is_named_with_its_fault(content, message, tmp_path):
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as raised:
        genotypes.read(path)
    assert str(path) in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no genotype file .*none\.json"):
        genotypes.inline(str(tmp_path / "none.json"), PyramidGenotype)


def test_a_network_of_fewer_levels_takes_those_of_its_strides():
    part = RELEASED_PYRAMID.at((8, 16, 32))
    assert part.nodes[0] == (("sep_conv_3x3", 1), ("conv_1x1", 0))
    assert part.nodes[1] == (("sep_conv_3x3", 2), ("sep_conv_3x3", 0), ("conv_1x1", 1))
    assert part.nodes[2] == (("sep_conv_3x3", 1), ("conv_1x1", 2))
    assert part.at((4, 8, 16)) == part  # exactly as many: they are the network's
    different = ContextGenotype(tuple((("skip_connect", 0),) * (n + 1) for n in range(6)))
    assert [len(nodes) for nodes in different.at((8, 16)).levels] == [2, 3]
    for wrong in ((2, 4), (8, 32), (64, 128, 256)):
        with pytest.raises(DataError, match="the network has levels at strides"):
            RELEASED_PYRAMID.at(wrong)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_keeps_the_shape_and_sees_as_far_as_its_name_says(name, norm):
    torch.manual_seed(0)
    module = operation(name, 4, norm=norm).train()
    assert any(isinstance(m, nn.BatchNorm2d) for m in module.modules()) == (norm and "conv" in name)
    x = torch.zeros(1, 4, 21, 21)
    base = module.eval()(x + 1)
    moved = x + 1
    moved[..., 10, 10] = 2
    out = module(moved)
    assert out.shape == x.shape
    changed = (out - base).abs().amax((0, 1)).nonzero()
    wanted = {
        "none": None, "skip_connect": (0, 0), "max_pool_3x3": (1, 1), "avg_pool_3x3": (1, 1),
        "conv_1x1": (0, 0), "conv_1x3": (0, 1), "conv_3x1": (1, 0), "conv_1x5": (0, 2),
        "conv_5x1": (2, 0), "sep_conv_3x3": (1, 1), "sep_conv_5x5": (2, 2), "sep_conv_7x7": (3, 3),
        "dil_conv_3x3": (2, 2), "dil_conv_3x3_3": (3, 3), "dil_conv_5x5": (4, 4),
        "conv_1x3_3x1": (1, 1), "conv_1x5_5x1": (2, 2),
    }[name]  # fmt: skip
    if wanted is None:
        assert len(changed) == 0
    else:
        assert tuple((changed.amax(0) - 10).tolist()) == wanted


def test_a_pyramid_cell_by_hand():
    """Products on the way down and up, weighted by a softmax, then a 1x1 convolution."""
    torch.manual_seed(0)
    cell = PyramidCell(RELEASED_PYRAMID.at((8, 16, 32)), 4).eval()
    with torch.no_grad():
        for summed in cell.sums:
            summed.weight.normal_()
    f1, f2, f3 = (torch.randn(2, 4, *size) for size in ((13, 20), (7, 10), (4, 5)))

    def up(x, like):
        return functional.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)

    def pool(x):
        return functional.max_pool2d(x, 3, 2, 1)

    (e1, own1), (e2, g2, own2), (g3, own3) = cell.edges
    down2 = e2(up(f3, f2) * f2)
    down1 = e1(up(down2, f1) * f1)
    up2 = g2(pool(f1) * f2)
    up3 = g3(pool(up2) * f3)
    wanted = []
    for level, terms in enumerate(((down1, own1(f1)), (down2, up2, own2(f2)), (up3, own3(f3)))):
        share = torch.softmax(cell.sums[level].weight, 0)
        wanted.append(cell.outputs[level](sum(s * t for s, t in zip(share, terms, strict=True))))
    for got, want in zip(cell([f1, f2, f3]), wanted, strict=True):
        assert torch.allclose(got, want, atol=1e-5)
    assert sum(one.weight.numel() for one in PyramidCell(RELEASED_PYRAMID, 4).sums) == 16


def test_a_context_cell_by_hand():
    torch.manual_seed(0)
    cell = ContextCell(TREE_CONTEXT.levels[0], TREE_CONTEXT.joined(0), 6).eval()
    x = torch.randn(2, 6, 9, 7)
    first, wide = cell.nodes[0](x), cell.nodes[1](x)
    second, wider = cell.nodes[2](wide), cell.nodes[3](wide)
    third = cell.nodes[4](wider)
    leaves = torch.cat([first, second, third], 1)
    conv, norm, _ = cell.join
    assert conv.weight.shape == (6, 18, 1, 1)
    assert torch.allclose(cell(x), norm(conv(leaves)).relu() + x, atol=1e-6)
