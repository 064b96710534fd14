"""Whether training goes on from an exported file as it would have from the network itself."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facefind.learn.initialization import initialize


def check(network: Any, exported: Path) -> None:
    """Assert that a fresh network takes all of a file's weights and then is like the network.

    In training, too, where batch normalization goes by its batch: the statistics that folding lost
    are the file's.
    """
    fresh = copy.deepcopy(network).train()
    torch.manual_seed(3)
    for module in fresh.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.GroupNorm):
            module.reset_parameters()
            for parameter in module.parameters(recurse=False):
                nn.init.normal_(parameter, std=0.1)
    images = torch.randint(0, 256, (3, 3, 96, 128), dtype=torch.uint8)
    wanted = copy.deepcopy(network)
    untrained = raw(fresh, images)
    assert initialize(fresh, exported) == "network"
    assert fresh.training
    for training in (False, True):
        got, want = raw(fresh.train(training), images), raw(wanted.train(training), images)
        torch.testing.assert_close(got, want, rtol=5e-3, atol=5e-3)
    assert all((a - b).abs().max() > 0.1 for a, b in zip(untrained, want, strict=True))


@torch.no_grad()
def raw(network: nn.Module, images: Tensor) -> list[Tensor]:
    found = network(images)
    return [found.logits, found.boxes] + ([] if found.landmarks is None else [found.landmarks])
