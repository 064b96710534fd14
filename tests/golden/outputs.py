"""Golden outputs of every network: in `tests`, `python -m golden.outputs` writes them anew.

Weights and images come from formulas on names and places, not from torch's generator or its
initialization, and everything runs in float64: the numbers hold on every machine and version.
Batch normalization uses the batch's own statistics, which keeps deep networks in range. What would
take long stands with fewer channels, or is left out where it differs from another only in the
number of blocks.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facefind.learn.recipe import NetworkConfig
from facefind.nn.detector import DenseOutput
from facefind.systems import asfd, dsfd, retinaface, scrfd, smallhardface

FOLDER = Path(__file__).parent
SHOWN = 20
"""Numbers that are kept of each output."""
_FEW = {"widths": (8, 8, 16, 16, 16), "reduced": 8, "fused": 16, "head": 8}
ROWS: dict[str, dict[str, NetworkConfig]] = {
    "scrfd": dict(scrfd.ROWS),
    "retinaface": {
        row: retinaface.ROWS[row]
        for row in (
            "retinaface-mobile",
            "retinaface-mobile-released",
            "retinaface-r50-released",
            "retinaface-r50",
        )
    },
    "smallhardface": {
        row: config if config.block != "vgg" else replace(config, **_FEW)
        for row, config in smallhardface.ROWS.items()
    },
    "dsfd": {
        **{row: replace(dsfd.ROWS[row], enhanced=(24,) * 6) for row in ("dsfd-vgg16", "dsfd-r50")},
        "dsfd-release": replace(dsfd.ROWS["dsfd-release"], backbone="resnet-50"),
        "dsfd-light": dsfd.ROWS["dsfd-light"],
        "lightdsfd": dsfd.ROWS["lightdsfd"],
    },
    "asfd": {
        "asfd-d0": asfd.ROWS["asfd-d0"],
        "asfd-d1-cpm": replace(asfd.ROWS["asfd-d1-cpm"], width=24),
        "asfd-d2": replace(asfd.ROWS["asfd-d2"], width=24),
        "asfd-d3": replace(asfd.ROWS["asfd-d3"], width=24),
        "asfd-r50": replace(
            asfd.ROWS["asfd-r50"], width=24, pyramid="bifpn", context="rfe", cosine=16.0
        ),
    },
}


FROZEN_KEYS = {
    "scrfd": (("head.box.", "head.reg."), ("head.landmarks.", "head.kps.")),
    "retinaface": (("context.", "contexts."), ("head.landmarks.", "head.points.")),
    "smallhardface": (),
    "dsfd": (),
    "asfd": (),
}
"""Beginnings of names in a state dict, and what they were when the outputs were frozen."""
FROZEN_OUTPUTS = {
    "scrfd": {"logits": "logits", "boxes": "distances", "landmarks": "offsets"},
    "retinaface": {"logits": "classes", "boxes": "deltas", "landmarks": "offsets"},
    "smallhardface": {"logits": "logits", "boxes": "deltas"},
    "dsfd": {"logits": "logits", "boxes": "boxes"},
    "asfd": {"logits": "logits", "boxes": "boxes"},
}
"""Names of outputs, and what they were."""


def frozen_key(system: str, name: str) -> str:
    """The name that an entry of a state dict had when the outputs were frozen."""
    for now, then in FROZEN_KEYS[system]:
        if name.startswith(now):
            return then + name.removeprefix(now)
    return name


def fill(network: nn.Module) -> None:
    """Give every parameter a value that depends on its name and shape alone."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            count = np.arange(parameter.numel(), dtype=np.float64)
            seed = zlib.crc32(frozen_key(network.system, name).encode()) % 1000
            noise = np.sin(count * 12.9898 + seed) * 43758.5453
            noise = 2 * (noise - np.floor(noise)) - 1
            if parameter.ndim > 1:
                noise *= np.sqrt(6 / parameter[0].numel())
            else:
                noise = 0.1 * noise + float(name.endswith("weight") or name.endswith("scale"))
            parameter.copy_(torch.from_numpy(noise).reshape(parameter.shape))


def outputs(config: NetworkConfig) -> dict[str, Any]:
    """State's digest, and some of each raw output of the second image with its spread."""
    network = config.build().double().train()
    fill(network)
    place = torch.arange(2 * 3 * 64 * 96, dtype=torch.float64)
    images = ((place * 7919) % 256 + 32 * (place / 331).sin()).clamp(0, 255).reshape(2, 3, 64, 96)
    shapes = "\n".join(
        f"{frozen_key(config.system, k)} {tuple(v.shape)}" for k, v in network.state_dict().items()
    )
    with torch.no_grad():
        result: DenseOutput = network(images)
    found: dict[str, Any] = {"state": hashlib.sha256(shapes.encode()).hexdigest()[:16]}
    for now, name in FROZEN_OUTPUTS[config.system].items():
        values = getattr(result, now)
        if isinstance(values, Tensor):
            some = values[1].flatten()
            some = some[torch.linspace(0, len(some) - 1, SHOWN).round().long()]
            found[name] = [float(f"{v:.9g}") for v in some]
            found[f"{name}_spread"] = float(f"{values.std():.9g}")
    return found


def known(system: str) -> dict[str, Any]:
    """What is frozen of a system, by row."""
    return dict(json.loads((FOLDER / f"{system}.json").read_text()))


if __name__ == "__main__":
    for system in sys.argv[1:] or ROWS:
        lines = [f"{json.dumps(row)}: {json.dumps(outputs(c))}" for row, c in ROWS[system].items()]
        (FOLDER / f"{system}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
