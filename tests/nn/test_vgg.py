import pytest
import torch
from torch import nn
from torch.nn import functional

from facefind.nn.backbones import VGG, BasicBlock, MobileNetV1, ResNetV1e
from facefind.nn.upsampling import FixedBilinear

# torchvision's vgg16: place in `features`, output and input channels.
TORCHVISION = [
    (0, 64, 3),
    (2, 64, 64),
    (5, 128, 64),
    (7, 128, 128),
    (10, 256, 128),
    (12, 256, 256),
    (14, 256, 256),
    (17, 512, 256),
    (19, 512, 512),
    (21, 512, 512),
    (24, 512, 512),
    (26, 512, 512),
    (28, 512, 512),
]


def test_vgg16_has_torchvision_s_names_and_shapes():
    with torch.device("meta"):
        network = VGG()
    wanted = {}
    for place, outputs, inputs in TORCHVISION:
        wanted[f"features.{place}.weight"] = (outputs, inputs, 3, 3)
        wanted[f"features.{place}.bias"] = (outputs,)
    assert {k: tuple(v.shape) for k, v in network.state_dict().items()} == wanted
    assert sum(p.numel() for p in network.parameters()) == 14_714_688
    assert network.widths == (256, 512, 512)


def test_vgg16_knows_its_caffe_layers():
    with torch.device("meta"):
        network = VGG()
    names = [f"conv{b}_{i}" for b, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, n + 1)]
    assert list(network.convolutions) == names
    assert list(network.convolutions.values()) == [f"features.{p}" for p, _, _ in TORCHVISION]
    first_two = [layer for block in network.blocks[:2] for layer in block]
    convs = [p for p in first_two if isinstance(network.features[p], nn.Conv2d)]
    assert convs == [0, 2, 5, 7]


def test_vgg_s_maps_are_taken_after_the_relu_and_before_the_pool():
    torch.manual_seed(0)
    network = VGG((1, 1, 1, 1, 1), (4, 4, 6, 8, 8))
    x = torch.randn(2, 3, 32, 48)
    fine, middle, coarse = network(x)
    assert [m.shape[1:] for m in (fine, middle, coarse)] == [(6, 8, 12), (8, 4, 6), (8, 2, 3)]
    last = network.get_submodule(network.convolutions["conv5_1"])
    assert torch.equal(coarse, last(functional.max_pool2d(middle, 2)).relu())


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 4)])
def test_fixed_bilinear_is_bilinear_on_a_map_that_goes_on_in_zeros(shape):
    x = torch.randn(shape, dtype=torch.float64)
    wider = functional.interpolate(
        functional.pad(x, (1, 1, 1, 1)), scale_factor=2, mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(FixedBilinear()(x), wider[..., 2:-2, 2:-2])


def test_fixed_bilinear_darkens_the_rim():
    up = FixedBilinear()
    out = up(torch.ones(1, 3, 4, 4))
    assert out[0, 2, 3, 3] == 1
    assert out[0, 2, 0, 3] == 0.75
    assert out[0, 2, 0, 0] == 9 / 16
    assert not up.state_dict()
    assert not list(up.parameters())


@pytest.mark.parametrize(
    "backbone",
    [
        MobileNetV1((8, 8), (1, 2, 1), (8, 16, 24)),
        ResNetV1e(BasicBlock, 8, (1, 1, 1), (8, 16, 24)),
    ],
)
def test_backbones_may_end_at_stride_16(backbone):
    maps = backbone.eval()(torch.zeros(1, 3, 32, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [(8, 8, 16), (16, 4, 8), (24, 2, 4)]
