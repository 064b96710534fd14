"""A small ASFD as one ONNX file: the same faces in every runtime, cells and all."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from reference.exported import as_trained, check_runtime
from torch import nn

from facefind.export import export
from facefind.nn import features, genotypes
from facefind.nn.anchors import AnchorGrid
from facefind.nn.backbones import MobileNetV1
from facefind.nn.coders import AnchorBoxCoder
from facefind.nn.detector import AuxiliaryShot, DenseDetector, Normalize
from facefind.nn.extension import Extension
from facefind.nn.genotypes import ContextGenotype
from facefind.nn.heads import DeepHead
from facefind.runtimes import Card
from facefind.systems.dsfd import RELEASED_MEAN, smaller_sets

pytestmark = pytest.mark.slow


def three_levels() -> DenseDetector:
    """All kinds of parts of an ASFD, few of each: every level more takes its time to export.

    The coarsest stride divides no odd multiple of 32.
    """
    backbone, strides, width = MobileNetV1((8, 8), (1, 1, 1, 1), (8, 8, 16, 16)), (16, 32, 64), 12
    extension = Extension(backbone.widths[2:], ((8, 16),), norm=True)
    cell = (("sep_conv_3x3", 0), ("dil_conv_3x3", 0), ("sep_conv_3x3", 1))
    cells = genotypes.to_json(ContextGenotype((cell,) * 3))
    anchors = AnchorGrid(strides, ((64,), (128,), (256,)), None)
    return DenseDetector(
        Normalize(RELEASED_MEAN, (1, 1, 1)),
        backbone,
        features.pyramid("autofem", (width,) * 3, width, strides),
        features.context(cells, (width,) * 3, strides),
        DeepHead(
            width, ((width, 3),), levels=3, sets=3, max_in_out=True, separable=True, cosine=16.0
        ),
        anchors,
        AnchorBoxCoder((0.1, 0.1, 0.2, 0.2)),
        taps=slice(2, None),
        extension=nn.Sequential(extension, features.laterals(extension.widths, width)),
        auxiliary=[AuxiliaryShot(None, anchors.halved())],
        further=smaller_sets(anchors),
        system="asfd",
    )


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    made = three_levels()
    with torch.no_grad():
        for summed in made.neck.sums:
            summed.weight.normal_()
        for output in made.head.box:
            output[-1].weight.mul_(10)
    return as_trained(made)


@pytest.fixture(scope="module")
def exported(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    card = Card(name="d0", system="asfd", strides=network.strides)
    return export(network, tmp_path_factory.mktemp("exports") / "d0.onnx", card)


def test_the_head_is_computed_once(exported, network):
    graph = onnx.load(str(exported)).graph
    convs = sum(node.op_type == "Conv" for node in graph.node)
    assert convs == sum(isinstance(m, nn.Conv2d) for m in network.modules())


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_it_runs_everywhere_at_multiples_of_32(exported, network, runtime):
    shapes = [(2, 3, 64, 96), (1, 3, 224, 32), (1, 3, 32, 160)]

    def anchors(shape):
        return sum(-(-shape[2] // s) * -(-shape[3] // s) for s in network.strides)

    card = check_runtime(exported, network, runtime, shapes, anchors, atol=0.05)
    assert (card.strides, card.size_multiple) == ((16, 32, 64), 32)
