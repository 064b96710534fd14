"""The smallest ASFD as one ONNX file: the same faces in every runtime, cells and all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from reference.exported import as_trained, check_runtime

from facefind.export import export
from facefind.runtimes import Card
from facefind.systems.asfd import ROWS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    made = replace(ROWS["asfd-d0-cpm"], width=12, repeats=2, cosine=16.0).build()
    with torch.no_grad():
        for weights in (cell_weights for cell in made.neck for cell_weights in cell.weights):
            weights.normal_()
        for output in made.head.box:
            output[-1].weight.mul_(10)
    return as_trained(made)


@pytest.fixture(scope="module")
def exported(network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    card = Card(name="d0", system="asfd", strides=network.strides)
    return export(network, tmp_path_factory.mktemp("exports") / "d0.onnx", card)


def test_the_head_is_computed_once(exported, network):
    graph = onnx.load(str(exported)).graph
    convs = sum(node.op_type == "Conv" for node in graph.node)
    assert convs == sum(isinstance(m, torch.nn.Conv2d) for m in network.modules())


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_it_runs_everywhere_at_multiples_of_32(exported, network, runtime):
    shapes = [(2, 3, 64, 96), (1, 3, 224, 32), (1, 3, 32, 160)]

    def anchors(shape):
        return sum(-(-shape[2] // s) * -(-shape[3] // s) for s in network.strides)

    card = check_runtime(exported, network, runtime, shapes, anchors, atol=0.05)
    assert (card.strides, card.size_multiple) == ((4, 8, 16, 32, 64, 128), 32)
