"""A RetinaFace of deformable convolutions as an ONNX file, in every runtime, at any size.

The plain network is exported in `test_retinaface_mesh`, with the mesh.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import going_on
from torch import nn

from facefind.export import export
from facefind.nn.anchors import AnchorGrid
from facefind.nn.backbones import MobileNetV1
from facefind.nn.coders import AnchorBoxCoder
from facefind.nn.context import ContextModule
from facefind.nn.deform import DeformConv2d
from facefind.nn.detector import DenseDetector, Normalize, PerLevel
from facefind.nn.heads import LinearHead
from facefind.nn.layers import Conv3x3, conv3x3
from facefind.nn.necks import FPN
from facefind.runtimes import Card, open_model
from facefind.systems.retinaface import IMAGENET, PAPER_SIZES, PAPER_STRIDES

pytestmark = pytest.mark.slow


def in_turn(*kinds: Conv3x3) -> Conv3x3:
    """Makes a convolution of each kind, one after another."""
    rest = iter(kinds)
    return lambda inputs, outputs: next(rest)(inputs, outputs)


def deformable() -> DenseDetector:
    """Two levels of few channels: deformable layers take long to export, so here are three.

    One is in the neck, and two, one on the other, in a context module.
    """
    backbone = MobileNetV1((8, 8), (1, 1, 1), (8, 8, 8))
    outputs = {"cls": 2, "box": 4, "landmarks": 10}
    context = (conv3x3, DeformConv2d, DeformConv2d, conv3x3, conv3x3)
    return DenseDetector(
        Normalize(*IMAGENET),
        backbone,
        FPN((8, 8), 8, conv=DeformConv2d),
        PerLevel([ContextModule(8, conv=in_turn(*context)), nn.Identity()]),
        LinearHead(8, outputs, levels=2, anchors_per_cell=3, shared=True),
        AnchorGrid(PAPER_STRIDES[1:3], PAPER_SIZES[1:3], None),
        AnchorBoxCoder(),
        taps=slice(1, None),
        system="retinaface",
    )


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    made = deformable()
    for module in made.modules():  # as after training: nothing is as it was
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, DeformConv2d):
            nn.init.normal_(module.offsets.weight, std=0.1)
            nn.init.normal_(module.offsets.bias)
    for parameter in made.head.parameters():
        nn.init.normal_(parameter, std=0.1)
    return made.eval()


@pytest.fixture(scope="module")
def exported(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    card = Card(name="small", system="retinaface")
    return export(network, tmp_path_factory.mktemp("exports") / "small.onnx", card)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_export_gives_what_the_network_gives(exported, network, runtime):
    model = open_model(exported, runtime, threads=1)
    assert model.card.landmarks
    assert model.card.strides == network.strides
    reference = open_model(copy.deepcopy(network), card=model.card)
    draw = np.random.default_rng(1)
    for shape in [(3, 3, 64, 160), (1, 3, 224, 32), (2, 3, 32, 32)]:
        images = draw.integers(0, 256, shape, dtype=np.uint8)
        wanted, got = reference(images), model(images)
        assert np.ptp(wanted.scores) > 0.05
        np.testing.assert_allclose(got.scores, wanted.scores, atol=1e-4)
        np.testing.assert_allclose(got.boxes, wanted.boxes, atol=0.02)
        np.testing.assert_allclose(got.landmarks, wanted.landmarks, atol=0.02)


def test_training_goes_on_from_an_export(exported, network):
    going_on.check(network, exported)
