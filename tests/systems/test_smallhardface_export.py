"""The light SmallHardFace as one ONNX file: the same faces in every runtime, at any size."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import going_on

from facefind.export import export
from facefind.runtimes import Card, open_model
from facefind.systems.smallhardface import ROWS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    # A block a stage: exporting takes its time.
    made = replace(ROWS["smallhardface-light"], depths=(1, 1, 1)).build()
    for module in made.modules():  # as after training: statistics that are not the initial ones
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    with torch.no_grad():
        for output in (*made.head.cls, *made.head.box):
            output.weight.mul_(30)
    return made.eval()


@pytest.fixture(scope="module")
def exported(network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    card = Card(name="light", system="smallhardface", strides=(8,), size_multiple=16)
    return export(network, tmp_path_factory.mktemp("exports") / "light.onnx", card)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_light_network_runs_everywhere_at_multiples_of_16(exported, network, runtime):
    model = open_model(exported, runtime, threads=1)
    assert (model.card.strides, model.card.size_multiple) == ((8,), 16)
    reference = open_model(copy.deepcopy(network), card=model.card)
    draw = np.random.default_rng(1)
    for shape in [(2, 3, 48, 80), (1, 3, 112, 16), (1, 3, 16, 32)]:
        images = draw.integers(0, 256, shape, dtype=np.uint8)
        wanted, got = reference(images), model(images)
        assert wanted.scores.shape == (shape[0], shape[2] // 8 * (shape[3] // 8) * 3)
        assert np.ptp(wanted.scores) > 0.1
        np.testing.assert_allclose(got.scores, wanted.scores, atol=1e-4)
        np.testing.assert_allclose(got.boxes, wanted.boxes, atol=0.02)


def test_training_goes_on_from_an_export(exported, network):
    going_on.check(network, exported)
