"""Averaged weights."""

import pytest
import torch

from facefind.learn.ema import EMA


def test_ema_is_the_moving_mean():
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    ema = EMA(network, 0.5)
    torch.nn.init.ones_(network.weight)
    want = 0.0
    for n in range(1, 20):
        ema.update(network)
        decay = min(0.5, (1 + n) / (10 + n))
        want = decay * want + (1 - decay)
        assert ema.module.weight.item() == pytest.approx(want, rel=1e-5)
