import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facefind.nn.anchors import AnchorGrid
from facefind.nn.backbones import BasicBlock, Bottleneck, MobileNetV1, ResNet, ResNetV1e
from facefind.nn.coders import AnchorBoxCoder, DistanceCoder
from facefind.nn.context import ContextModule
from facefind.nn.cost import measure
from facefind.nn.deform import DeformConv2d
from facefind.nn.detector import AuxiliaryShot, DenseDetector, DenseOutput, Normalize
from facefind.nn.heads import DeepHead, LinearHead
from facefind.nn.layers import group_norm, xavier
from facefind.nn.necks import FPN, PAFPN


def test_scrfd_s_anchors_are_centered_on_the_cells_corners():
    anchors = AnchorGrid((8, 16), ((16, 32), (64, 128)))([(2, 3), (1, 2)])
    assert anchors.per_level == (12, 4)
    assert len(anchors) == 16
    assert anchors.centers[:6].tolist() == [[0, 0], [0, 0], [8, 0], [8, 0], [16, 0], [16, 0]]
    assert anchors.centers[6].tolist() == [0, 8]
    assert anchors.sizes[:4].tolist() == [[16, 16], [32, 32], [16, 16], [32, 32]]
    assert anchors.strides.tolist() == [8.0] * 12 + [16.0] * 4
    assert anchors.boxes[3].tolist() == [8 - 16, -16, 8 + 16, 16]


def test_a_vga_square_has_16800_anchors():
    sizes = [(640 // s, 640 // s) for s in (8, 16, 32)]
    anchors = AnchorGrid((8, 16, 32), ((16, 32),) * 3)(sizes)
    assert len(anchors) == len(anchors.sizes) == sum(anchors.per_level) == 16_800


def test_anchors_are_shifted_by_an_offset_or_half_a_cell():
    sizes, strides, sides = [(2, 2), (1, 1)], (8, 16), ((16,), (64,))
    anchors = AnchorGrid(strides, sides, offset=8.0)(sizes)
    assert anchors.centers.tolist() == [*([8, 8], [16, 8], [8, 16], [16, 16]), [8, 8]]
    assert anchors.boxes[0].tolist() == [0, 0, 16, 16]
    middles = AnchorGrid(strides, sides, offset=None)(sizes)
    assert middles.centers[[0, 4]].tolist() == [[4, 4], [8, 8]]
    assert middles.boxes[0].tolist() == [-4, -4, 12, 12]


def test_anchors_have_width_and_height_a_name_and_plain_numbers():
    heads = AnchorGrid((8, 16), (((16, 24), 32), ((64, 96), 128)), 4.0, "head")
    anchors = heads([(2, 3), (1, 2)])
    assert (anchors.name, AnchorGrid((8,), ((16,),))([(1, 1)]).name) == ("head", "face")
    assert anchors.sizes[:2].tolist() == [[16, 24], [32, 32]]
    assert anchors.boxes[0].tolist() == [4 - 8, 4 - 12, 4 + 8, 4 + 12]
    fine, coarse = anchors.levels
    assert (fine.start, fine.map_size, fine.stride, fine.offset) == (0, (2, 3), 8, 4.0)
    assert fine.sizes == ((16.0, 24.0), (32.0, 32.0))
    assert (coarse.start, coarse.count) == (fine.count, 4) == (12, 4)
    half = heads.halved()([(2, 3), (1, 2)])
    assert torch.equal(half.sizes, anchors.sizes / 2)
    assert torch.equal(half.centers, anchors.centers)
    assert half.name == "head"


def test_a_grid_refuses_levels_that_do_not_fit():
    with pytest.raises(ValueError, match="expected anchor sizes for each"):
        AnchorGrid((8, 16), ((16,),))
    with pytest.raises(ValueError, match="expected 1 maps, got 2"):
        AnchorGrid((8,), ((16,),))([(1, 1), (1, 1)])


def doubled(anchors):
    """The same anchors in float64."""
    parts = ("centers", "sizes", "strides")
    return replace(anchors, **{part: getattr(anchors, part).double() for part in parts})


CODERS = [
    DistanceCoder(),
    AnchorBoxCoder(),
    AnchorBoxCoder((0.1, 0.1, 0.2, 0.2), 0.1),
]


@pytest.mark.parametrize("coder", CODERS)
@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31))
def test_coders_undo_each_other(coder, seed):
    generator = torch.Generator().manual_seed(seed)
    sizes = ((16, 32, (16, 24)), (64, 128, (64, 96)))
    anchors = doubled(AnchorGrid((8, 16), sizes, offset=7.5)([(4, 5), (2, 3)]))
    count = len(anchors)
    corners = torch.rand(2, count, 2, generator=generator, dtype=torch.float64) * 100
    sides = 1 + torch.rand(2, count, 2, generator=generator, dtype=torch.float64) * 300
    boxes = torch.cat([corners, corners + sides], -1)
    assert torch.allclose(coder.decode(coder.encode(boxes, anchors), anchors), boxes)
    landmarks = torch.rand(2, count, 5, 2, generator=generator, dtype=torch.float64) * 100
    raw = coder.encode_landmarks(landmarks, anchors)
    assert torch.allclose(coder.decode_landmarks(raw, anchors), landmarks)


ANCHOR = AnchorGrid((8,), (((16, 32),),), offset=8.0)([(1, 1)])  # (0,-8) to (16,24)


def test_deltas_by_hand():
    box = torch.tensor([[4.0, -8, 36, 8]])  # 32 x 16 around (20, 0)
    landmarks = torch.tensor([[[16.0, 8], [8, 0]]])
    deltas = [12 / 16, -8 / 32, math.log(2), -math.log(2)]
    plain, ssd = AnchorBoxCoder(), AnchorBoxCoder((0.1, 0.1, 0.2, 0.2), 0.1)
    assert plain.encode(box, ANCHOR)[0].tolist() == pytest.approx(deltas)
    assert ssd.encode(box, ANCHOR)[0].tolist() == pytest.approx(
        [d / std for d, std in zip(deltas, (0.1, 0.1, 0.2, 0.2), strict=True)]
    )
    shifts = [0.5, 0, 0, -0.25]
    assert plain.encode_landmarks(landmarks, ANCHOR).flatten().tolist() == pytest.approx(shifts)
    assert ssd.encode_landmarks(landmarks, ANCHOR).flatten().tolist() == pytest.approx(
        [10 * shift for shift in shifts]
    )


def test_distances_by_hand():
    box, landmarks = torch.tensor([[4.0, -8, 36, 16]]), torch.tensor([[[16.0, 8], [8, 0]]])
    coder = DistanceCoder()
    assert coder.encode(box, ANCHOR)[0].tolist() == [0.5, 2, 3.5, 1]
    assert coder.encode_landmarks(landmarks, ANCHOR).flatten().tolist() == [1, 0, 0, -1]


def test_no_decoded_box_overflows():
    raw = torch.tensor([[0.0, 0, 500, 500]])
    found = AnchorBoxCoder().decode(raw, AnchorGrid((8,), ((16,),))([(1, 1)]))
    assert (found[0, 2:] - found[0, :2]).tolist() == pytest.approx([1000, 1000])


class Halves(torch.nn.Module):
    """A backbone of two strides."""

    def forward(self, x):
        return [torch.nn.functional.avg_pool2d(x, side) for side in (8, 16)]


class Counted(LinearHead):
    """A head that counts its calls."""

    calls = 0

    def forward(self, maps):
        self.calls += 1
        return super().forward(maps)


def small(**parts):
    def head():
        outputs = {"cls": 1, "box": 4, "landmarks": 10}
        return Counted(3, outputs, levels=2, anchors_per_cell=2, shared=True)

    grid = AnchorGrid((8, 16), ((16, (16, 24)), (32, (32, 48))))
    if parts.pop("two_shots", False):
        parts["auxiliary"] = [AuxiliaryShot(head(), grid.halved())]
    torch.manual_seed(0)
    return DenseDetector(
        Normalize(), Halves(), None, None, head(), grid, DistanceCoder(), size_multiple=16, **parts
    )


def test_an_auxiliary_shot_is_computed_in_training_alone():
    network, images = small(two_shots=True), torch.rand(2, 3, 32, 48) * 255
    shot = network.auxiliary[0]
    output = network.train()(images)
    (first,) = output.auxiliary
    assert (network.head.calls, shot.head.calls) == (1, 1)
    assert isinstance(first, DenseOutput)
    assert first.auxiliary == ()
    assert torch.equal(first.anchors.sizes, output.anchors.sizes / 2)
    assert first.boxes.shape == output.boxes.shape == (2, len(output.anchors), 4)
    assert network.eval()(images).auxiliary == ()
    network.candidates(images)
    assert (network.head.calls, shot.head.calls) == (3, 1)
    torch.testing.assert_close(network(images).boxes, output.boxes)


def test_float_makes_half_precision_single_in_all_parts():
    output = small(two_shots=True).train()(torch.zeros(1, 3, 32, 32))
    half = replace(
        output,
        **{part: getattr(output, part).bfloat16() for part in ("logits", "boxes", "landmarks")},
        extras={"mesh": output.boxes.half()},
        auxiliary=tuple(replace(shot, boxes=shot.boxes.half()) for shot in output.auxiliary),
    )
    single = half.float()
    (shot,) = single.auxiliary
    tensors = [single.logits, single.boxes, single.landmarks, single.extras["mesh"], shot.boxes]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    assert replace(output, boxes=output.boxes.double()).float().boxes.dtype == torch.float64


def test_decoding_takes_off_the_pixel_that_training_adds():
    """`CriterionConfig.inclusive_pixels`: boxes a pixel wider, landmarks half a pixel further."""
    images = torch.rand(1, 3, 32, 32) * 255
    plain, inclusive = (
        small(inclusive_pixels=on).eval().candidates(images) for on in (False, True)
    )
    last = torch.tensor([0.0, 0, 1, 1])
    torch.testing.assert_close(inclusive.boxes, plain.boxes - last)
    torch.testing.assert_close(inclusive.landmarks, plain.landmarks - 0.5)
    assert torch.equal(inclusive.scores, plain.scores)


def test_two_logits_score_as_their_softmax():
    output = small()(torch.zeros(1, 3, 32, 32))
    two = torch.randn(1, len(output.anchors), 2)
    scores = replace(output, logits=two).decode().scores
    torch.testing.assert_close(scores, two.softmax(-1)[..., 1])
    torch.testing.assert_close(output.decode().scores, output.logits[..., 0].sigmoid())


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
    with pytest.raises(ValueError, match="2 or 4, got 3"):
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
    assert found.logits.shape == (2, 57, 2)
    assert found.boxes.shape == (2, 57, 4)
    assert found.landmarks is None
    assert not found.extras
    # row 1, column 2, anchor 1 of the first level; row 0, column 1, anchor 2 of the second
    for level, row, column, anchor, place in ((0, 1, 2, 1, 22), (1, 0, 1, 2, 50)):
        conv = head.box[0 if shared else level]
        want = conv(maps[level])[:, 4 * anchor : 4 * anchor + 4, row, column]
        torch.testing.assert_close(found.boxes[:, place], want)
    assert len(head.cls) == (1 if shared else 2)
    with pytest.raises(ValueError, match="built for 2 maps, got 1"):
        head(maps[:1])


def test_a_linear_head_gives_what_it_does_not_know_by_name():
    outputs = {"mesh": 7, "box": 4, "cls": 1, "landmarks": 10}
    head = LinearHead(4, outputs, levels=1, anchors_per_cell=2, shared=True)
    x = torch.randn(1, 4, 2, 3)
    found = head([x])
    assert found.landmarks.shape == (1, 12, 5, 2)
    assert found.extras.keys() == {"mesh"}
    torch.testing.assert_close(found.extras["mesh"][0, 3], head.mesh[0](x)[0, 7:, 0, 1])


def test_group_norm_refuses_what_does_not_divide():
    with pytest.raises(ValueError, match="multiple of 16 channels, got 24"):
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


@pytest.mark.parametrize("head", ["linear", "deep"])
def test_scores_may_be_scaled_cosines(head):
    """Whatever the length of a cell's channels, its scores are the same and within the scale."""
    torch.manual_seed(0)
    if head == "linear":
        outputs = {"cls": 2, "box": 4}
        made = LinearHead(6, outputs, levels=1, anchors_per_cell=1, shared=True, cosine=20.0)
        plain = LinearHead(6, outputs, levels=1, anchors_per_cell=1, shared=True)
    else:
        made, plain = (DeepHead(6, (), levels=1, cosine=cosine) for cosine in (20.0, 0.0))
    x = torch.randn(2, 6, 4, 5)
    logits = made([x]).logits
    assert torch.allclose(made([3 * x]).logits, logits, atol=1e-4)
    assert not torch.allclose(made([3 * x]).boxes, made([x]).boxes)
    assert 5 < logits.abs().max() <= 20
    weight = next(p for name, p in made.named_parameters() if name.startswith("cls"))
    cell, row = x[1, :, 2, 3], weight[1, :, 0, 0]
    wanted = 20 * torch.dot(cell, row) / cell.norm() / row.norm()
    assert logits[1, 2 * 5 + 3, 1].item() == pytest.approx(wanted.item(), abs=1e-4)
    assert (made.logit_scale, plain.logit_scale) == (20, 1)


def test_separable_convolutions_begin_as_loud_as_full_ones():
    torch.manual_seed(0)
    x = torch.randn(1, 64, 32, 32)
    loudness = []
    for groups in (1, 4, 64):
        conv = torch.nn.Conv2d(64, 64, 3, padding=1, groups=groups)
        xavier(conv)
        loudness.append(conv(x)[..., 1:-1, 1:-1].std().item())
    assert loudness == pytest.approx([1, 1, 1], rel=0.15)
