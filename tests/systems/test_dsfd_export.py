"""The light DSFD as one ONNX file: the second shot alone, the same faces in every runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from reference.exported import as_trained, check_runtime

from facefind.export import export
from facefind.runtimes import Card
from facefind.systems.dsfd import ROWS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    few = {"stem": (8, 8), "depths": (1, 1, 1, 1), "widths": (8, 12, 16, 20)}
    made = replace(ROWS["dsfd-light"], **few, enhanced=(12,) * 6).build()
    # Enhanced are a normalized map and a plain one; the others stay as the neck gives them.
    for level in range(1, 5):
        made.context[0][level] = torch.nn.Identity()
    with torch.no_grad():
        for output in (*made.head.cls, *made.head.box):
            output.weight.mul_(50)
    return as_trained(made)


@pytest.fixture(scope="module")
def exported(network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    card = Card(name="light", system="dsfd", strides=network.strides)
    return export(network, tmp_path_factory.mktemp("exports") / "light.onnx", card)


def test_the_file_holds_nothing_of_the_first_shot(exported, network):
    graph = onnx.load(str(exported)).graph
    convs = [node for node in graph.node if node.op_type == "Conv"]
    parts = (network.backbone, network.extension, network.neck, network.context, network.head)
    wanted = sum(isinstance(m, torch.nn.Conv2d) for part in parts for m in part.modules())
    assert len(convs) == wanted
    assert not any("auxiliary" in tensor.name for tensor in graph.initializer)
    assert any("auxiliary" in name for name, _ in network.named_parameters())


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_light_network_runs_everywhere_at_multiples_of_32(exported, network, runtime):
    shapes = [(2, 3, 64, 96), (1, 3, 224, 32), (1, 3, 32, 160)]

    def anchors(shape):
        return sum(-(-shape[2] // s) * -(-shape[3] // s) for s in network.strides)

    card = check_runtime(exported, network, runtime, shapes, anchors)
    assert (card.strides, card.size_multiple) == ((4, 8, 16, 32, 64, 128), 32)
