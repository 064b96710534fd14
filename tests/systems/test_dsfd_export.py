"""A small DSFD as one ONNX file: the second shot alone, the same faces in every runtime."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from reference.exported import as_trained, check_runtime
from torch import nn

from facefind.export import export
from facefind.nn.anchors import AnchorGrid
from facefind.nn.backbones import MobileNetV1
from facefind.nn.coders import AnchorBoxCoder
from facefind.nn.context import DilatedBranches
from facefind.nn.detector import AuxiliaryShot, DenseDetector, Normalize, PerLevel
from facefind.nn.extension import Extension
from facefind.nn.heads import LinearHead
from facefind.nn.necks import ProductPyramid
from facefind.runtimes import Card
from facefind.systems.retinaface import IMAGENET

pytestmark = pytest.mark.slow


def three_levels() -> DenseDetector:
    """All kinds of parts of a DSFD, few of each: every level more takes its time to export.

    The coarsest stride divides no odd multiple of 32.
    """
    backbone, strides = MobileNetV1((8, 8), (1, 1, 1, 1), (8, 8, 16, 20)), (16, 32, 64)
    extension = Extension(backbone.widths[2:], ((8, 16),), norm=False)
    maps, widths = extension.widths, (12,) * 3

    def head(channels: tuple[int, ...]) -> nn.Module:
        outputs = {"cls": 2, "box": 4}
        return LinearHead(channels, outputs, levels=3, anchors_per_cell=1, shared=False, kernel=3)

    anchors = AnchorGrid(strides, (((64, 96),), ((128, 192),), ((256, 384),)), offset=None)
    modules = [DilatedBranches(12, norm=True), DilatedBranches(12, norm=False), nn.Identity()]
    return DenseDetector(
        Normalize(*IMAGENET),
        backbone,
        ProductPyramid(maps, widths, merged=2, normalized=1),
        PerLevel(modules),
        head(widths),
        anchors,
        AnchorBoxCoder((0.1, 0.1, 0.2, 0.2)),
        taps=slice(2, None),
        extension=extension,
        auxiliary=[AuxiliaryShot(head(maps), anchors.halved())],
        system="dsfd",
    )


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    made = three_levels()
    with torch.no_grad():
        for output in (*made.head.cls, *made.head.box):
            output.weight.mul_(300)
    return as_trained(made)


@pytest.fixture(scope="module")
def exported(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    card = Card(name="light", system="dsfd", strides=network.strides)
    return export(network, tmp_path_factory.mktemp("exports") / "light.onnx", card)


def test_the_file_holds_nothing_of_the_first_shot(exported, network):
    graph = onnx.load(str(exported)).graph
    convs = [node for node in graph.node if node.op_type == "Conv"]
    parts = (network.backbone, network.extension, network.neck, network.context, network.head)
    wanted = sum(isinstance(m, nn.Conv2d) for part in parts for m in part.modules())
    assert len(convs) == wanted
    assert not any("auxiliary" in tensor.name for tensor in graph.initializer)
    assert any("auxiliary" in name for name, _ in network.named_parameters())


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_it_runs_everywhere_at_multiples_of_32(exported, network, runtime):
    shapes = [(2, 3, 64, 96), (1, 3, 224, 32), (1, 3, 32, 160)]

    def anchors(shape):
        return sum(-(-shape[2] // s) * -(-shape[3] // s) for s in network.strides)

    card = check_runtime(exported, network, runtime, shapes, anchors)
    assert (card.strides, card.size_multiple) == ((16, 32, 64), 32)
