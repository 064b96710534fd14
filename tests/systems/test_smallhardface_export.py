"""The light SmallHardFace as one ONNX file: the same faces in every runtime, at any size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reference import going_on
from reference.exported import as_trained, check_runtime

from facefind.export import export
from facefind.runtimes import Card
from facefind.systems.smallhardface import ROWS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    # A block a stage: exporting takes its time.
    made = replace(ROWS["smallhardface-light"], depths=(1, 1, 1)).build()
    with torch.no_grad():
        for output in (*made.head.cls, *made.head.box):
            output.weight.mul_(30)
    return as_trained(made)


@pytest.fixture(scope="module")
def exported(network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    card = Card(name="light", system="smallhardface", strides=(8,), size_multiple=16)
    return export(network, tmp_path_factory.mktemp("exports") / "light.onnx", card)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_light_network_runs_everywhere_at_multiples_of_16(exported, network, runtime):
    shapes = [(2, 3, 48, 80), (1, 3, 112, 16), (1, 3, 16, 32)]

    def anchors(shape):
        return shape[2] // 8 * (shape[3] // 8) * 3

    card = check_runtime(exported, network, runtime, shapes, anchors)
    assert (card.strides, card.size_multiple) == ((8,), 16)


def test_training_goes_on_from_an_export(exported, network):
    going_on.check(network, exported)
