import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facefind.nn.anchors import square_anchors
from facefind.nn.backbones import BasicBlock, Bottleneck, MobileNetV1, ResNet, ResNetV1e
from facefind.nn.coders import (
    BoxCoder,
    PointCoder,
    decode_distances,
    decode_points,
    encode_distances,
    encode_points,
)
from facefind.nn.context import ContextModule
from facefind.nn.cost import measure
from facefind.nn.deform import DeformConv2d
from facefind.nn.heads import LinearHead
from facefind.nn.layers import group_norm
from facefind.nn.necks import FPN, PAFPN


def test_anchors_stand_where_scrfd_s_stand():
    anchors = square_anchors([(2, 3), (1, 2)], (8, 16), ((16, 32), (64, 128)))
    assert anchors.per_level == (12, 4)
    assert anchors.centers[:6].tolist() == [[0, 0], [0, 0], [8, 0], [8, 0], [16, 0], [16, 0]]
    assert anchors.centers[6].tolist() == [0, 8]
    assert anchors.sizes[:4].tolist() == [16, 32, 16, 32]
    assert anchors.strides.tolist() == [8.0] * 12 + [16.0] * 4
    assert anchors.boxes[3].tolist() == [8 - 16, -16, 8 + 16, 16]


def test_a_vga_square_has_16800_anchors():
    sizes = [(640 // s, 640 // s) for s in (8, 16, 32)]
    assert square_anchors(sizes, (8, 16, 32), ((16, 32),) * 3).sizes.numel() == 16_800


def test_anchors_stand_where_they_are_shifted():
    sizes, strides, sides = [(2, 2), (1, 1)], (8, 16), ((16,), (64,))
    for offset in (7.5, (7.5, 7.5)):
        anchors = square_anchors(sizes, strides, sides, offset=offset)
        assert anchors.centers.tolist() == [
            *([7.5, 7.5], [15.5, 7.5], [7.5, 15.5], [15.5, 15.5]),
            [7.5, 7.5],
        ]
    assert anchors.corners(plus_one=True)[0].tolist() == [0, 0, 15, 15]
    assert anchors.boxes[0].tolist() == [-0.5, -0.5, 15.5, 15.5]
    middles = square_anchors(sizes, strides, sides, offset=(4, 8))
    assert middles.centers[[0, 4]].tolist() == [[4, 4], [8, 8]]


@pytest.mark.parametrize("plus_one", [False, True])
@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31))
def test_the_delta_coders_undo_each_other(plus_one, seed):
    generator = torch.Generator().manual_seed(seed)
    anchors = square_anchors([(4, 5), (2, 3)], (8, 16), ((16, 32), (64, 128)), offset=7.5)
    at = anchors.corners(plus_one=plus_one).double()
    corners = torch.rand(2, len(at), 2, generator=generator, dtype=torch.float64) * 100
    sides = 1 + torch.rand(2, len(at), 2, generator=generator, dtype=torch.float64) * 300
    boxes = torch.cat([corners, corners + sides], -1)
    coder = BoxCoder((0.1, 0.1, 0.2, 0.2), plus_one)
    assert torch.allclose(coder.decode(coder.encode(boxes, at), at), boxes)
    points = torch.rand(2, len(at), 5, 2, generator=generator, dtype=torch.float64) * 100
    for std in (0.1, 1.0):
        pointer = PointCoder(std, plus_one)
        assert torch.allclose(pointer.decode(pointer.encode(points, at), at), points)


def test_deltas_by_hand():
    anchor = torch.tensor([[0.0, 0, 15, 15]])  # 16 pixels around (7.5, 7.5)
    box = torch.tensor([[4.0, 0, 35, 15]])  # 32 x 16 pixels around (19.5, 7.5)
    points = torch.tensor([[[15.5, 7.5], [7.5, 3.5]]])
    assert BoxCoder(plus_one=True).encode(box, anchor)[0].tolist() == pytest.approx(
        [12 / 16, 0, math.log(2), 0]
    )
    assert BoxCoder((0.1, 0.1, 0.2, 0.2)).encode(box, anchor)[0].tolist() == pytest.approx(
        [12 / 15 / 0.1, 0, math.log(31 / 15) / 0.2, 0]
    )
    assert PointCoder(plus_one=True).encode(points, anchor).flatten().tolist() == pytest.approx(
        [0.5, 0, 0, -0.25]
    )


def test_no_decoded_box_overflows():
    found = BoxCoder().decode(torch.tensor([[0.0, 0, 500, 500]]), torch.tensor([[0.0, 0, 16, 16]]))
    assert (found[0, 2:] - found[0, :2]).tolist() == pytest.approx([1000, 1000])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**31))
def test_coders_undo_each_other(seed):
    generator = torch.Generator().manual_seed(seed)
    anchors = square_anchors([(4, 5), (2, 3)], (8, 16), ((16, 32), (64, 128)))
    count = anchors.sizes.numel()
    boxes = torch.rand(2, count, 4, generator=generator, dtype=torch.float64) * 100
    points = torch.rand(2, count, 5, 2, generator=generator, dtype=torch.float64) * 100
    at = (anchors.centers.double(), anchors.strides.double())
    assert torch.allclose(decode_distances(encode_distances(boxes, *at), *at), boxes)
    assert torch.allclose(decode_points(encode_points(points, *at), *at), points)


@pytest.mark.parametrize(
    ("backbone", "widths"),
    [
        (MobileNetV1((8, 16), (1, 2, 1, 1), (16, 24, 32, 40)), (16, 24, 32, 40)),
        (MobileNetV1((8, 16), (1, 2, 1, 1), (16, 24, 32, 40), first=(7, 4)), (16, 24, 32, 40)),
        (ResNet(BasicBlock, (1, 2, 1, 1), (8, 8, 16, 24)), (8, 8, 16, 24)),
        (ResNetV1e(BasicBlock, 8, (1, 2, 1, 1), (8, 8, 16, 24)), (8, 8, 16, 24)),
        (ResNetV1e(Bottleneck, 8, (1, 1, 1, 1), (8, 8, 16, 24)), (32, 32, 64, 96)),
    ],
)
def test_backbones_give_four_strides(backbone, widths):
    maps = backbone.eval()(torch.zeros(1, 3, 64, 96))
    assert backbone.widths == widths
    assert [tuple(m.shape[1:]) for m in maps] == [
        (width, 64 // s, 96 // s) for width, s in zip(widths, (4, 8, 16, 32), strict=True)
    ]


def test_residual_blocks_begin_as_their_shortcut():
    block = BasicBlock(8, 8).eval()
    torch.nn.init.zeros_(block.bn2.weight)
    x = torch.randn(1, 8, 5, 5)
    assert torch.equal(block(x), x.relu())


def test_pafpn_lets_every_level_see_every_other():
    neck = PAFPN((8, 12, 16), 4)
    maps = [torch.randn(1, c, s, s, requires_grad=True) for c, s in ((8, 16), (12, 8), (16, 4))]
    for out in neck(maps):
        grads = torch.autograd.grad(out.abs().sum(), maps, retain_graph=True)
        assert all(g.abs().sum() > 0 for g in grads)


@pytest.mark.parametrize(
    ("depths", "parameters"),
    [((3, 4, 6, 3), 23_508_032), ((3, 4, 23, 3), 42_500_160), ((3, 8, 36, 3), 58_143_808)],
)
def test_resnets_are_torchvision_s_without_the_classifier(depths, parameters):
    """ResNet-50, -101 and -152 of torchvision 0.19 have 2,049,000 more, those of `fc`."""
    with torch.device("meta"):
        network = ResNet(Bottleneck, depths)
    assert sum(p.numel() for p in network.parameters()) == parameters
    names = network.state_dict()
    assert names["conv1.weight"].shape == (64, 3, 7, 7)
    for name in (
        "bn1.running_mean",
        "layer1.0.downsample.0.weight",
        "layer4.2.bn3.num_batches_tracked",
    ):
        assert name in names
    assert names["layer2.0.downsample.0.weight"].shape == (512, 256, 1, 1)
    assert names["layer2.0.downsample.1.weight"].shape == (512,)
    assert "layer2.1.downsample.0.weight" not in names


def test_a_resnet_s_stride_lies_in_the_3x3_convolution():
    block = ResNet(Bottleneck, (1, 1, 1, 1), (4, 4, 4, 4)).layer2[0]
    assert (block.conv1.stride, block.conv2.stride) == ((1, 1), (2, 2))


def test_mobilenet_refuses_other_strides():
    with pytest.raises(ValueError, match="was 3"):
        MobileNetV1((8, 16), (1, 1, 1, 1), (8, 8, 8, 8), first=(3, 3))


@pytest.mark.parametrize("conv", [None, DeformConv2d])
def test_fpn_lets_fine_levels_see_coarse_ones(conv):
    neck = FPN((8, 12, 16), 4, coarser=True, **({"conv": conv} if conv else {})).eval()
    maps = [torch.randn(1, c, s, s, requires_grad=True) for c, s in ((8, 17), (12, 9), (16, 5))]
    outs = neck(maps)
    assert [tuple(out.shape) for out in outs] == [(1, 4, s, s) for s in (17, 9, 5, 3)]
    for level, out in enumerate(outs):
        grads = torch.autograd.grad(out.square().sum(), maps, retain_graph=True, allow_unused=True)
        seen = [grad is not None and bool(grad.abs().sum() > 0) for grad in grads]
        assert seen == [place >= min(level, 2) for place in range(3)]


@pytest.mark.parametrize("conv", [None, DeformConv2d])
def test_a_context_module_sees_3_5_and_7_pixels(conv):
    torch.manual_seed(0)
    module = ContextModule(8, slope=0.1, **({"conv": conv} if conv else {})).eval()
    x = torch.randn(1, 8, 11, 11)
    changed = x.clone()
    changed[:, :, 5, 5] += 10
    moved = (module(changed) - module(x)).abs()[0] > 1e-3
    for channels, reach in ((slice(0, 4), 1), (slice(4, 6), 2), (slice(6, 8), 3)):
        rows = moved[channels].any(0).any(1).nonzero().flatten()
        assert 5 - reach <= rows.min()
        assert rows.max() <= 5 + reach
        assert rows.max() - rows.min() > 2 * reach - 2  # and no less, but for rectified edges
    assert (module(x) >= 0).all()
    with pytest.raises(ValueError, match="multiple of 4"):
        ContextModule(10)


@pytest.mark.parametrize("shared", [True, False])
def test_a_linear_head_keeps_the_order_of_the_anchors(shared):
    head = LinearHead(4, {"cls": 2, "box": 4}, levels=2, anchors_per_cell=3, shared=shared)
    maps = [torch.randn(2, 4, 3, 5), torch.randn(2, 4, 2, 2)]
    found = head(maps)
    assert {name: tuple(x.shape) for name, x in found.items()} == {
        "cls": (2, 57, 2),
        "box": (2, 57, 4),
    }
    # row 1, column 2, anchor 1 of the first level; row 0, column 1, anchor 2 of the second
    for level, row, column, anchor, place in ((0, 1, 2, 1, 22), (1, 0, 1, 2, 50)):
        conv = head.box[0 if shared else level]
        want = conv(maps[level])[:, 4 * anchor : 4 * anchor + 4, row, column]
        torch.testing.assert_close(found["box"][:, place], want)
    assert len(head.cls) == (1 if shared else 2)
    with pytest.raises(ValueError, match="given 1 maps"):
        head(maps[:1])


def test_group_norm_refuses_what_does_not_divide():
    with pytest.raises(ValueError, match="24 channels"):
        group_norm(16)(24)


def test_cost_counts_by_hand_and_leaves_the_network_alone():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2, 1),
        torch.nn.BatchNorm2d(8),
        torch.nn.Conv2d(8, 8, 3, 1, 1, groups=8),
    )
    before = network[1].running_mean.clone()
    cost = measure(network, 32, 64)
    assert cost.multiply_adds == 16 * 32 * (8 * 27 + 8 * 9)
    assert cost.parameters == 8 * 28 + 16 + 8 * 10
    assert network.training
    assert torch.equal(network[1].running_mean, before)
