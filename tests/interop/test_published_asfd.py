"""The published DSFDv2 on ResNet-18 and our D2: names both ways, on generated tensors."""

from __future__ import annotations

import pytest
import torch
from reference.published_shapes import Shapes, conv, norm

from facefind import interop, recipes
from facefind.errors import WeightsError
from facefind.interop import asfd as published


def released_shapes() -> Shapes:
    """The released network from a list of its parts."""
    found = conv("stem_layer.0", 3, 64, 7, bias=False) | norm("stem_layer.1", 64)
    inputs = 64
    for layer, width in enumerate((64, 128, 256, 512), 1):
        for place in range(2):
            block = f"layer{layer}.0.{place}"
            for number, into in ((1, inputs), (2, width)):
                found |= conv(f"{block}.conv{number}", into, width, 3, bias=False)
                found |= norm(f"{block}.bn{number}", width)
            if inputs != width:
                found |= conv(f"{block}.downsample.0", inputs, width, 1, bias=False)
                found |= norm(f"{block}.downsample.1", width)
            inputs = width
    for layer, into in ((5, 512), (6, 256)):
        found |= conv(f"layer{layer}.0.conv", into, 128, 1) | norm(f"layer{layer}.0.bn", 128)
        found |= conv(f"layer{layer}.1.conv", 128, 256, 3) | norm(f"layer{layer}.1.bn", 256)
    for level, into in enumerate((64, 128, 256, 512, 256, 256), 1):
        found |= conv(f"latlayer{level}.conv", into, 128, 1) | norm(f"latlayer{level}.bn", 128)
    at = "bi_fpn.0.layers"
    for level in range(1, 7):
        ways = [way for way, last in (("_td", 6), ("_du", 1)) if level != last]
        for way in ways:
            found[f"{at}.conv{level}{way}.op.1.weight"] = (128, 1, 3, 3)
            found[f"{at}.conv{level}{way}.op.2.weight"] = (128, 128, 1, 1)
            found |= norm(f"{at}.conv{level}{way}.op.3", 128)
        found[f"{at}.conv{level}.op.1.weight"] = (128, 128, 1, 1)
        found |= norm(f"{at}.conv{level}.op.2", 128)
        found[f"{at}.w{level}"] = (len(ways) + 1,)
        found |= conv(f"{at}.out_layers.{level - 1}", 128, 128, 1)
    for part, counts in {"loc": (4, 8, *(12,) * 4), "conf": (4, 6, *(8,) * 4)}.items():
        for level, count in enumerate(counts):
            found |= conv(f"{part}_layers.{level}.layers.0", 128, 128, 3)
            found |= conv(f"{part}_head.{level}", 128, count, 1)
    return found


@pytest.fixture(scope="module")
def theirs() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: torch.rand(shape) for name, shape in released_shapes().items()}


def test_the_released_network_maps_both_ways(theirs):
    learned = sum(
        value.numel()
        for name, value in theirs.items()
        if not name.endswith(("_mean", "_var", "_tracked"))
    )
    assert learned == 14_218_678
    with torch.device("meta"):
        network = recipes.get("asfd-d2").network.build()
    ours = published.D2.from_published(theirs)
    assert {k: v.shape for k, v in ours.items()} == {
        k: v.shape for k, v in network.state_dict().items()
    }
    back = published.D2.to_published(ours)
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[name], value) for name, value in theirs.items())


def test_names_land_where_they_belong():
    one = torch.ones(1)
    names = {
        "stem_layer.1.running_var": "backbone.bn1.running_var",
        "layer4.0.1.bn2.weight": "backbone.layer4.1.bn2.weight",
        "layer6.1.conv.bias": "extension.0.stages.1.3.bias",
        "layer5.0.bn.weight": "extension.0.stages.0.1.weight",
        "latlayer3.bn.bias": "extension.1.2.1.bias",
        "bi_fpn.0.layers.conv2_du.op.1.weight": "neck.edges.1.1.1.weight",
        "bi_fpn.0.layers.conv2_td.op.2.weight": "neck.edges.1.0.2.weight",
        "bi_fpn.0.layers.conv6_du.op.3.bias": "neck.edges.5.0.3.bias",
        "bi_fpn.0.layers.conv6.op.1.weight": "neck.edges.5.1.1.weight",
        "bi_fpn.0.layers.w4": "neck.sums.3.weight",
        "bi_fpn.0.layers.out_layers.5.bias": "neck.outputs.5.bias",
        "loc_layers.2.layers.0.bias": "head.box.2.0.bias",
        "conf_head.5.weight": "head.cls.5.2.weight",
    }
    for name, ours in names.items():
        assert list(published.D2.from_published({name: one})) == [ours]
        assert list(published.D2.to_published({ours: one})) == [name]
    assert published.D2.from_published({"auxiliary_head.0.weight": one}) == {}
    with pytest.raises(WeightsError, match="latlayer7"):
        published.D2.from_published({"latlayer7.conv.weight": one})


def test_a_file_converts_and_red_and_blue_change_places(theirs, tmp_path):
    """As training wrote it: `module.` before every name, and what is for training alone."""
    file = {f"module.{name}": value for name, value in theirs.items()}
    torch.save(file | {"module.auxiliary.0.weight": torch.ones(2)}, tmp_path / "dsfdv2_r18.pth")
    assert interop.detect_format(tmp_path / "dsfdv2_r18.pth").name == "asfd-d2"
    done = interop.convert(tmp_path / "dsfdv2_r18.pth", tmp_path / "d2.pt")
    assert (done.format, done.recipe) == ("asfd-d2", "asfd-d2")
    recipe, network = recipes.load_network(tmp_path / "d2.pt")
    assert recipe.network.system == network.system == "asfd"
    first = network.backbone.conv1.weight
    assert torch.equal(first, theirs["stem_layer.0.weight"].flip(1))
    assert torch.equal(network.neck.sums[2].weight, theirs["bi_fpn.0.layers.w3"])
    assert network.normalize.mean.flatten().tolist() == [123, 117, 104]
    assert network.normalize.std.flatten().tolist() == [1, 1, 1]
