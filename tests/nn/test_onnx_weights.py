"""Weights of a graph in a network: layers in running order, folded normalizations, what differs."""

from dataclasses import replace

import pytest
import torch
from reference.folding import graph_of, lively
from torch import nn

from facefind.errors import WeightsError
from facefind.nn.onnx_weights import Layer, graph_layers, match, run_order
from facefind.runtimes.onnx_file import Graph, Node
from facefind.systems.asfd import ROWS as ASFD
from facefind.systems.retinaface import ROWS as RETINAFACE
from facefind.systems.scrfd import FAMILY
from facefind.systems.smallhardface import ROWS as SMALLHARDFACE

KPS = replace(
    FAMILY["scrfd-500m-kps"], depths=(1, 1, 1, 1), widths=(8, 8, 12, 16), stem=(8, 8), neck=8,
    head=8, head_depth=1, scales=True,
)  # fmt: skip
GROUPS = replace(
    FAMILY["scrfd-2.5g"], depths=(1, 1, 1, 1), widths=(8, 8, 12, 16), stem=(8,), neck=8, head=8,
    head_groups=4,
)  # fmt: skip
MOBILE = replace(RETINAFACE["retinaface-mobile"], width=16, dense=True)
LIGHT = SMALLHARDFACE["smallhardface-light"]
VGG = replace(SMALLHARDFACE["smallhardface"], widths=(4, 4, 8, 8, 8), reduced=4, fused=8, head=4)
D0 = ASFD["asfd-d0"]
CONFIGS = {
    "kps": KPS, "groups": GROUPS, "mobile": MOBILE, "light": LIGHT, "vgg": VGG,
    "searched": replace(D0, context="cpm"), "bifpn": replace(D0, pyramid="bifpn"),
}  # fmt: skip


def loaded(config, graph, **options):
    """A fresh network of a configuration with a graph's weights."""
    torch.manual_seed(9)
    network = config.build().eval()
    found = match(network, graph, **options)
    network.load_state_dict(network.state_dict() | found.state)
    return network, found


def candidates(network):
    torch.manual_seed(2)
    with torch.inference_mode():
        return network.candidates(torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8))


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_network_gives_what_the_folded_one_gave(kind):
    network = lively(CONFIGS[kind].build())
    mine, found = loaded(CONFIGS[kind], graph_of(network))
    for got, want in zip(candidates(mine), candidates(network), strict=True):
        assert (got is None) == (want is None)
        if want is not None:
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    norms = {n for n, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}
    kept = {n for n in norms if n.startswith("head.norms")}  # each of one shared convolution
    assert set(found.folded) == norms - kept
    assert all(f"{name}.running_var" in found.origins for name in kept)


def test_equal_tensors_that_became_one_are_found_by_their_layers():
    network = lively(KPS.build())
    with torch.no_grad():
        network.neck.downsample_convs[0].bias.copy_(network.neck.fpn_convs[1].bias)
        network.neck.downsample_convs[1].bias.zero_()
        network.head.scales[1].scale.fill_(1)
    graph = graph_of(network)
    assert "network.neck.downsample_convs.0.bias" not in graph.weights
    mine, found = loaded(KPS, graph)
    assert found.origins["neck.downsample_convs.0.bias"] == "network.neck.fpn_convs.1.bias"
    read = mine.state_dict()
    for name, value in network.state_dict().items():
        if name.startswith(("neck.", "head.cls", "head.box", "head.landmarks", "head.scales")):
            assert torch.equal(read[name], value), name


def test_parts_that_only_one_of_both_has_are_left_out():
    network = lively(MOBILE.build())
    plain = replace(MOBILE, dense=False)
    mine, _ = loaded(plain, graph_of(network), surplus=("head.mesh.",))
    torch.testing.assert_close(candidates(mine)[:3], candidates(network)[:3], rtol=1e-4, atol=1e-4)
    fresh = MOBILE.build().eval()
    found = match(fresh, graph_of(mine), without=("head.mesh.",))
    assert not [name for name in found.state if name.startswith(("head.mesh", "mesh"))]
    assert {n.split(".")[1] for n in found.state if n.startswith("head.")} == {
        "cls", "box", "landmarks",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("mine", "said"),
    [
        (replace(KPS, widths=(8, 8, 16, 16)), r"shape \(12, 8, 1, 1\), backbone.layer3.* \(16, 8"),
        (replace(KPS, scales=False), r"layer \d+ of the file is a scale.*head.scales.0.scale, tha"),
        (
            replace(KPS, landmarks=False),
            r"head\.landmarks\.0\.weight of the file.*\(20, 8, 3, 3\), head.tow",
        ),
        (
            replace(KPS, head_depth=2),
            r"layer \d+ of the file is a conv.*network a batch norm|shape",
        ),
        (GROUPS, "is of shape"),
    ],
)
def test_another_network_is_refused_by_what_differs(mine, said):
    graph = graph_of(lively(KPS.build()))
    network = mine.build()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(WeightsError, match=said):
        match(network, graph)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_file_that_ends_early_or_late_is_refused():
    graph = graph_of(lively(KPS.build()))
    with pytest.raises(WeightsError, match=r"of the file is missing, that of the network is a con"):
        match(KPS.build(), graph._replace(nodes=graph.nodes[:-1]))
    more = [*graph.nodes, graph.nodes[-1]._replace(outputs=("more",))]
    with pytest.raises(WeightsError, match=r"the file has \d+ layers, the network \d+; the first"):
        match(KPS.build(), graph._replace(nodes=more))


def test_a_bias_that_no_normalization_takes_is_refused():
    network = nn.Conv2d(3, 4, 1, bias=False)
    weights = {"w": torch.ones(4, 3, 1, 1).numpy(), "b": torch.ones(4).numpy()}
    graph = Graph([Node("Conv", ("image", "w", "b"), ("y",))], weights)
    wrapped = nn.Sequential(Bytes(), network)
    with pytest.raises(WeightsError, match=r"a bias that the network lacks, 1\.bias"):
        match(wrapped, graph)
    weights["b"] *= 0
    assert list(match(wrapped, graph).state) == ["1.weight"]


class Bytes(nn.Module):
    def forward(self, x):
        return x.float()


def test_instances_that_are_no_groups_are_refused():
    graph = Graph([Node("InstanceNormalization", ("x", "a", "b"), ("y",))], {})
    with pytest.raises(WeightsError, match="not groups of channels"):
        list(graph_layers(graph))


def test_layers_come_in_running_order_and_the_mode_stays():
    network = LIGHT.build()
    network.backbone.eval()
    ran = [name for name, _ in run_order(network)]
    assert ran.count("head.shared") == 3
    assert ran.index("head.norms.1") == ran.index("head.norms.0") + 4
    assert network.training
    assert not network.backbone.training
    graph = graph_of(lively(network))
    kinds = [layer.kind for layer in graph_layers(graph)]
    assert kinds.count(nn.BatchNorm2d) == 3
    assert next(iter(graph_layers(graph))) == Layer(
        nn.Conv2d, ("network.backbone.stem.0.weight", "network.backbone.stem.0.bias")
    )
