"""Exports: networks as after training, what runtimes give for their files, and no export at all."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from facefind import weights
from facefind.export import relabel
from facefind.runtimes import Card, open_model

Shape = tuple[int, int, int, int]


def as_trained(network: torch.nn.Module) -> torch.nn.Module:
    """The network in eval mode, its normalizations with statistics that are not the first ones."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def check_runtime(
    file: Path,
    network: torch.nn.Module,
    runtime: str,
    shapes: Sequence[Shape],
    anchors: Callable[[Shape], int],
    *,
    atol: float = 0.02,
) -> Card:
    """Compare a file in a runtime with its network on noise of these shapes; its card.

    Args:
        file: the export.
        network: what it was made of.
        runtime: `onnxruntime` or `openvino`.
        shapes: (B,3,H,W) of the images.
        anchors: how many an image of such a shape has.
        atol: of boxes, in pixels.
    """
    model = open_model(file, runtime, threads=1)
    reference = open_model(copy.deepcopy(network), card=model.card)
    draw = np.random.default_rng(1)
    for shape in shapes:
        images = draw.integers(0, 256, shape, dtype=np.uint8)
        wanted, got = reference(images), model(images)
        assert wanted.scores.shape == (shape[0], anchors(shape))
        assert np.ptp(wanted.scores) > 0.1
        np.testing.assert_allclose(got.scores, wanted.scores, atol=1e-4)
        np.testing.assert_allclose(got.boxes, wanted.boxes, atol=atol)
    return model.card


def stub(network: object, path: Path, card: Card) -> Path:
    """In place of the slow export: a shipped file with the card, as far as it fits the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(weights.find("scrfd-500m-kps"), path)
    return relabel(path, replace(card, landmarks=True, parameters=1))
