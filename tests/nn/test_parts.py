import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facefind.nn.anchors import square_anchors
from facefind.nn.backbones import BasicBlock, Bottleneck, MobileNetV1, ResNetV1e
from facefind.nn.coders import decode_distances, decode_points, encode_distances, encode_points
from facefind.nn.cost import measure
from facefind.nn.layers import group_norm
from facefind.nn.necks import PAFPN


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
