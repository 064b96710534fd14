"""Backbones of a name: the parameters and names under which their weights for ImageNet are kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from facefind.learn.initialization import initialize
from facefind.nn.backbones import DPN, published
from facefind.nn.backbones.dpn import DualPathBlock
from facefind.nn.backbones.mobilenet_v2 import InvertedResidual
from facefind.nn.backbones.senet import SEBottleneck
from facefind.systems.dsfd import ROWS

# Parameters as published, and those of the classifier for 1000 classes.
COUNTS = {
    "vgg16": (138_357_544, 123_642_856),
    "mobilenet-0.25": (470_072, 257_000),
    "mobilenet-v2": (3_504_872, 1_281_000 + 320 * 1280 + 2 * 1280),  # and the 1x1 before it
    "resnet-18": (11_689_512, 513_000),
    "resnet-34": (21_797_672, 513_000),
    "resnet-50": (25_557_032, 2_049_000),
    "resnet-101": (44_549_160, 2_049_000),
    "resnet-152": (60_192_808, 2_049_000),
    "se-resnet-101": (49_326_872, 2_049_000),
    "se-resnext-101": (48_955_416, 2_049_000),
    "dpn-98": (61_570_728, 2_689_000),
}


@pytest.fixture(scope="module", params=COUNTS)
def backbone(request) -> tuple[str, nn.Module]:
    with torch.device("meta"):
        return request.param, published(request.param)


def test_parameters_are_the_published_ones_without_the_classifier(backbone):
    name, network = backbone
    whole, classifier = COUNTS[name]
    assert sum(p.numel() for p in network.parameters()) == whole - classifier


def test_maps_have_strides_4_to_32_and_the_stated_widths(backbone):
    name, network = backbone
    with torch.device("meta"):
        maps = network(torch.zeros(1, 3, 96, 160))
    strides = (4, 8, 16) if name == "vgg16" else (4, 8, 16, 32)
    assert [m.shape for m in maps] == [
        (1, width, 96 // stride, 160 // stride)
        for width, stride in zip(network.widths, strides, strict=True)
    ]


def se_names(groups: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of Cadene's se_resnet101 (or, with groups, se_resnext101_32x4d)."""
    found = {"layer0.conv1.weight": (64, 3, 7, 7)}
    norms = {"layer0.bn1": 64}
    inputs = 64
    for stage, (depth, width) in enumerate(((3, 64), (4, 128), (23, 256), (3, 512)), 1):
        inner = width if groups == 1 else width * 2
        for block in range(depth):
            at = f"layer{stage}.{block}"
            found |= {
                f"{at}.conv1.weight": (inner, inputs, 1, 1),
                f"{at}.conv2.weight": (inner, inner // groups, 3, 3),
                f"{at}.conv3.weight": (4 * width, inner, 1, 1),
                f"{at}.se_module.fc1.weight": (width // 4, 4 * width, 1, 1),
                f"{at}.se_module.fc1.bias": (width // 4,),
                f"{at}.se_module.fc2.weight": (4 * width, width // 4, 1, 1),
                f"{at}.se_module.fc2.bias": (4 * width,),
            }
            norms |= {f"{at}.bn1": inner, f"{at}.bn2": inner, f"{at}.bn3": 4 * width}
            if block == 0:
                found[f"{at}.downsample.0.weight"] = (4 * width, inputs, 1, 1)
                norms[f"{at}.downsample.1"] = 4 * width
            inputs = 4 * width
    return found | with_statistics(norms)


def dpn98_names() -> dict[str, tuple[int, ...]]:
    """Names and shapes of timm's and Cadene's dpn98."""
    found = {"features.conv1_1.conv.weight": (96, 3, 7, 7)}
    norms = {"features.conv1_1.bn": 96}
    inputs = 96
    stages = ((3, 16, 256), (6, 32, 512), (20, 32, 1024), (3, 128, 2048))
    for stage, (depth, step, residual) in enumerate(stages):
        inner = 160 * residual // 256
        for block in range(1, depth + 1):
            at = f"features.conv{stage + 2}_{block}"
            convs = {
                "c1x1_a": (inner, inputs, 1),
                "c3x3_b": (inner, inner, 3),
                "c1x1_c": (residual + step, inner, 1),
            }
            if block == 1:
                name = f"c1x1_w_s{2 if stage else 1}"
                convs[name] = (residual + 2 * step, inputs, 1)
            for name, (outputs, into, side) in convs.items():
                groups = 40 if side == 3 else 1
                found[f"{at}.{name}.conv.weight"] = (outputs, into // groups, side, side)
                norms[f"{at}.{name}.bn"] = into
            inputs = (residual + 2 * step if block == 1 else inputs) + step
    norms["features.conv5_bn_ac.bn"] = inputs
    return found | with_statistics(norms)


def mobilenet_v2_names() -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's mobilenet_v2, up to its last 1x1 convolution."""
    found = {"features.0.0.weight": (32, 3, 3, 3)}
    norms = {"features.0.1": 32}
    channels = (32, 16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320)
    for place in range(1, 18):
        inputs, outputs, at = channels[place - 1], channels[place], f"features.{place}.conv"
        inner = inputs if place == 1 else 6 * inputs
        if place > 1:
            found[f"{at}.0.0.weight"] = (inner, inputs, 1, 1)
            norms[f"{at}.0.1"] = inner
        deep = int(place > 1)
        found[f"{at}.{deep}.0.weight"] = (inner, 1, 3, 3)
        norms[f"{at}.{deep}.1"] = inner
        found[f"{at}.{deep + 1}.weight"] = (outputs, inner, 1, 1)
        norms[f"{at}.{deep + 2}"] = outputs
    return found | with_statistics(norms)


def basic_resnet_names(depths: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's resnet18 or resnet34 without the classifier."""
    found, norms, inputs = {"conv1.weight": (64, 3, 7, 7)}, {"bn1": 64}, 64
    for stage, (depth, width) in enumerate(zip(depths, (64, 128, 256, 512), strict=True), 1):
        for block in range(depth):
            at = f"layer{stage}.{block}"
            found[f"{at}.conv1.weight"] = (width, inputs, 3, 3)
            found[f"{at}.conv2.weight"] = (width, width, 3, 3)
            norms |= {f"{at}.bn1": width, f"{at}.bn2": width}
            if inputs != width:
                found[f"{at}.downsample.0.weight"] = (width, inputs, 1, 1)
                norms[f"{at}.downsample.1"] = width
            inputs = width
    return found | with_statistics(norms)


def with_statistics(norms: dict[str, int]) -> dict[str, tuple[int, ...]]:
    kinds = ("weight", "bias", "running_mean", "running_var")
    found = {f"{name}.{kind}": (n,) for name, n in norms.items() for kind in kinds}
    return found | {f"{name}.num_batches_tracked": () for name in norms}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("se-resnet-101", se_names(1)),
        ("se-resnext-101", se_names(32)),
        ("dpn-98", dpn98_names()),
        ("mobilenet-v2", mobilenet_v2_names()),
        ("resnet-18", basic_resnet_names((2, 2, 2, 2))),
        ("resnet-34", basic_resnet_names((3, 4, 6, 3))),
    ],
)
def test_names_and_shapes_are_the_published_ones(name, wanted):
    with torch.device("meta"):
        state = published(name).state_dict()
    assert {k: tuple(v.shape) for k, v in state.items()} == wanted


def test_weights_for_imagenet_start_a_dsfd(tmp_path):
    """A file in the published names, its classifier and all, under `--init-from`."""
    torch.manual_seed(0)
    network = ROWS["dsfd-r50"].build()
    theirs = {k: torch.full(v.shape, 0.5) if v.ndim else v for k, v in
              network.backbone.state_dict().items()}  # fmt: skip
    torch.save(theirs | {"fc.weight": torch.zeros(1000, 2048)}, tmp_path / "resnet50.pth")
    assert initialize(network, tmp_path / "resnet50.pth") == "backbone"
    assert (network.backbone.layer3[2].conv2.weight == 0.5).all()


def test_an_se_block_by_hand():
    torch.manual_seed(0)
    block = SEBottleneck(8, 4, 2, groups=1).eval()
    x = torch.randn(2, 8, 6, 6)
    out = block.bn1(functional.conv2d(x, block.conv1.weight, stride=2)).relu()
    out = block.bn2(functional.conv2d(out, block.conv2.weight, padding=1)).relu()
    out = block.bn3(functional.conv2d(out, block.conv3.weight))
    mean = out.mean((2, 3))
    hidden = functional.linear(
        mean, block.se_module.fc1.weight[..., 0, 0], block.se_module.fc1.bias
    )
    gate = functional.linear(
        hidden.relu(), block.se_module.fc2.weight[..., 0, 0], block.se_module.fc2.bias
    ).sigmoid()
    wanted = (out * gate[..., None, None] + block.downsample(x)).relu()
    assert torch.allclose(block(x), wanted, atol=1e-6)
    # ResNeXt's has its stride in the 3x3 convolution
    grouped = SEBottleneck(64, 64, 2, groups=32, group_width=4)
    assert (grouped.conv1.stride, grouped.conv2.stride) == ((1, 1), (2, 2))
    assert grouped.conv2.weight.shape == (128, 4, 3, 3)


def test_a_dual_path_block_adds_to_one_part_and_lengthens_the_other():
    torch.manual_seed(0)
    first = DualPathBlock(6, 8, 4, 2, 2, projection=2).eval()
    second = DualPathBlock(first.outputs, 8, 4, 2, 2).eval()
    assert (first.outputs, second.outputs) == (4 + 3 * 2, 4 + 4 * 2)
    x = torch.randn(1, 6, 8, 8)
    middle = first(x)
    assert middle.shape == (1, 10, 4, 4)
    new = second.c1x1_c(second.c3x3_b(second.c1x1_a(middle)))
    out = second(middle)
    assert torch.equal(out[:, :4], middle[:, :4] + new[:, :4])
    assert torch.equal(out[:, 4:10], middle[:, 4:])
    assert torch.equal(out[:, 10:], new[:, 4:])


def test_an_inverted_residual_by_hand():
    torch.manual_seed(0)
    block = InvertedResidual(6, 6, 1, 4).eval()
    (wide, wide_norm, _), (deep, deep_norm, _), flat, flat_norm = block.conv
    x = 3 * torch.randn(2, 6, 7, 7)
    out = wide_norm(functional.conv2d(x, wide.weight)).clamp(0, 6)
    out = deep_norm(functional.conv2d(out, deep.weight, padding=1, groups=24)).clamp(0, 6)
    out = flat_norm(functional.conv2d(out, flat.weight))
    assert torch.allclose(block(x), out + x, atol=1e-5)
    smaller = InvertedResidual(6, 6, 2, 1).eval()
    assert len(smaller.conv) == 3
    assert not smaller.adds
    assert smaller(x).shape == (2, 6, 4, 4)


def test_dpn_s_last_map_alone_is_rectified():
    torch.manual_seed(0)
    network = DPN(8, (1, 1, 1, 1), (2, 2, 2, 2), 4, 2).eval()
    maps = network(torch.randn(1, 3, 64, 64))
    assert [bool((m < 0).any()) for m in maps] == [True, True, True, False]
