"""DSFD's feature enhance module, the extension of a backbone, and the released modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from facefind.nn.context import DilatedBranches, ReleasedContext
from facefind.nn.extension import Extension
from facefind.nn.heads import DeepHead
from facefind.nn.necks import ProductPyramid, SmoothedProduct

WIDTHS = (4, 6, 8)


def maps() -> list[torch.Tensor]:
    """Of 12 x 20, 6 x 10 and 3 x 5 cells."""
    torch.manual_seed(0)
    return [torch.randn(2, width, 12 >> n, 20 >> n) for n, width in enumerate(WIDTHS)]


def enlarged(x: torch.Tensor, like: torch.Tensor, align_corners: bool) -> torch.Tensor:
    """Bilinear by plain weights: rows, then columns."""
    for axis in (2, 3):
        old, new = x.shape[axis], like.shape[axis]
        places = torch.arange(new, dtype=torch.float64)
        if align_corners:
            places = places * (old - 1) / max(new - 1, 1)
        else:
            places = ((places + 0.5) * old / new - 0.5).clamp(0, old - 1)
        low = places.floor().long().clamp(max=old - 1)
        high = (low + 1).clamp(max=old - 1)
        part = (places - low).to(x.dtype).reshape(-1, *[1] * (3 - axis))
        x = x.index_select(axis, low) * (1 - part) + x.index_select(axis, high) * part
    return x


def test_equation_1_s_product_by_hand():
    neck = ProductPyramid(WIDTHS, WIDTHS, merged=2)
    fine, middle, coarse = maps()
    third = neck.own[2](coarse).relu()
    second = (enlarged(neck.down[1](third).relu(), middle, False) * neck.own[1](middle)).relu()
    first = (enlarged(neck.down[0](second).relu(), fine, False) * neck.own[0](fine)).relu()
    for got, want in zip(neck([fine, middle, coarse]), (first, second, third), strict=True):
        assert torch.allclose(got, want, atol=1e-5)


def test_equation_1_s_product_of_the_backbone_s_maps_by_hand():
    widths = (3, 5, 7)
    neck = ProductPyramid(WIDTHS, widths, merged=2, chained=False)
    fine, middle, coarse = given = maps()
    found = neck(given)
    for level, (x, up) in enumerate([(fine, middle), (middle, coarse)]):
        factor = enlarged(neck.down[level](up).relu(), x, False)
        assert torch.allclose(found[level], (factor * neck.own[level](x)).relu(), atol=1e-5)
    assert torch.equal(found[2], neck.own[2](coarse).relu())
    assert [x.shape[1] for x in found] == list(widths)


def test_the_released_product_by_hand():
    """By corners' centers, without ReLUs, the coarsest map as it is."""
    neck = ProductPyramid(WIDTHS, WIDTHS, merged=1, rectified=False, align_corners=True)
    fine, middle, coarse = maps()
    first, second, third = neck([fine, middle, coarse])
    assert second is middle
    assert third is coarse
    want = enlarged(neck.down[0](middle), fine, True) * neck.own[0](fine)
    assert torch.allclose(first, want, atol=1e-5)
    assert not torch.allclose(
        first, enlarged(neck.down[0](middle), fine, False) * neck.own[0](fine)
    )


def test_lightdsfds_product_by_hand():
    neck = SmoothedProduct(WIDTHS, 5, merged=1)
    fine, middle, coarse = maps()
    first, second, third = neck([fine, middle, coarse])
    assert torch.equal(third, neck.laterals[2](coarse))
    assert torch.equal(second, neck.laterals[1](middle))
    want = neck.smooths[0](enlarged(second, fine, True) * neck.laterals[0](fine))
    assert torch.allclose(first, want, atol=1e-5)


def test_without_a_product_no_map_knows_a_coarser_one():
    fine, middle, coarse = maps()
    for product in (True, False):
        neck = ProductPyramid(WIDTHS, (3, 3, 3), merged=2, product=product)
        before, after = (neck([fine, middle, c]) for c in (coarse, coarse + 1))
        assert torch.equal(before[0], after[0]) != product
        assert neck.widths == (3, 3, 3)


@pytest.mark.parametrize(("dilation", "reach"), [(3, 9), (1, 3)])
def test_the_branches_see_one_two_and_three_convolutions_around(dilation, reach):
    torch.manual_seed(0)
    branches = DilatedBranches(8, dilation=dilation)
    assert [b[-1][0].out_channels for b in branches.branches] == [2, 2, 4]
    for module in branches.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 0.1)
            nn.init.zeros_(module.bias)
    x = torch.zeros(1, 8, 31, 31)
    x[..., 15, 15] = 1
    out = branches(x)
    assert out.shape == x.shape
    for branch, part in enumerate(out.split([2, 2, 4], 1), 1):
        rows = part[0].amax((0, 2)).nonzero().flatten()
        assert (rows.min().item(), rows.max().item()) == (
            15 - branch * reach // 3,
            15 + branch * reach // 3,
        )


def test_the_released_context_by_hand():
    torch.manual_seed(0)
    context = ReleasedContext(6)
    x = torch.randn(1, 6, 9, 9)

    def conv(block: nn.Sequential, x: torch.Tensor, dilation: int) -> torch.Tensor:
        return functional.conv2d(x, block[0].weight, block[0].bias, 1, dilation, dilation).relu()

    wide = conv(context.wide, x, 2)
    wanted = [
        conv(context.first, x, 1),
        conv(context.second, wide, 1),
        conv(context.third, conv(context.wider, wide, 2), 1),
    ]
    assert [part.shape[1] for part in wanted] == [256, 128, 128]
    assert torch.allclose(context(x), torch.cat(wanted, 1), atol=1e-5)


@pytest.mark.parametrize("norm", [False, True])
def test_an_extension_halves_and_keeps_what_it_was_given(norm):
    extension = Extension(WIDTHS, ((3, 5), (2, 7)), norm=norm)
    given = maps()
    found = extension(given)
    assert all(a is b for a, b in zip(given, found, strict=False))
    assert [m.shape[1:] for m in found[3:]] == [(5, 2, 3), (7, 1, 2)]
    assert extension.widths == (*WIDTHS, 5, 7)
    assert any(isinstance(m, nn.BatchNorm2d) for m in extension.modules()) == norm


def test_vgg_is_extended_by_its_fully_connected_layers():
    extension = Extension((6, 8), ((3, 5),), norm=False, fc_width=16)
    found = extension([torch.randn(1, 6, 16, 16), torch.randn(1, 8, 8, 8)])
    assert [m.shape[1:] for m in found] == [(6, 16, 16), (8, 8, 8), (16, 4, 4), (5, 2, 2)]
    dilated = next(m for m in extension.modules() if isinstance(m, nn.Conv2d))
    assert (dilated.dilation, dilated.padding) == ((3, 3), (3, 3))


def test_a_deep_head_keeps_the_order_of_the_anchors():
    torch.manual_seed(0)
    head = DeepHead(4, ((3, 1), (3, 3)), levels=2, sets=2, norm=True).train()
    fine, coarse = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 2, 2)
    found = head.eval()([fine, coarse])
    assert found.logits.shape == (2, 15 + 4, 2)
    assert found.further == ()
    assert torch.equal(found.boxes[1, 1 * 5 + 2], head.box[0](fine)[1, :, 1, 2])
    assert torch.equal(found.boxes[1, 15 + 3], head.box[1](coarse)[1, :4, 1, 1])
    assert torch.equal(found.logits[0, 15 + 1], head.cls[1](coarse)[0, :2, 0, 1])
    (further,) = head.train()([fine, coarse]).further
    assert further.boxes.shape == (2, 4, 4)
