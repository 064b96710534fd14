"""The smallest ASFD as one ONNX file: the same faces in every runtime, cells and all."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from facefind.export import export
from facefind.runtimes import Card, open_model
from facefind.systems.asfd import ROWS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    made = replace(ROWS["asfd-d0-cpm"], width=12, repeats=2, cosine=16.0).build()
    for module in made.modules():  # as after training: statistics that are not the initial ones
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    with torch.no_grad():
        for weights in (cell_weights for cell in made.neck for cell_weights in cell.weights):
            weights.normal_()
        for output in made.head.box:
            output[-1].weight.mul_(10)
    return made.eval()


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
    model = open_model(exported, runtime, threads=1)
    assert (model.card.strides, model.card.size_multiple) == ((4, 8, 16, 32, 64, 128), 32)
    reference = open_model(copy.deepcopy(network), card=model.card)
    draw = np.random.default_rng(1)
    for shape in [(2, 3, 64, 96), (1, 3, 224, 32), (1, 3, 32, 160)]:
        images = draw.integers(0, 256, shape, dtype=np.uint8)
        wanted, got = reference(images), model(images)
        cells = sum(-(-shape[2] // s) * -(-shape[3] // s) for s in network.strides)
        assert wanted.scores.shape == (shape[0], cells)
        assert np.ptp(wanted.scores) > 0.1
        np.testing.assert_allclose(got.scores, wanted.scores, atol=1e-4)
        np.testing.assert_allclose(got.boxes, wanted.boxes, atol=0.05)
