"""Golden outputs of every SCRFD row: `python tests/golden/scrfd.py` writes them anew.

Weights and images come from formulas on names and places, not from torch's generator or its
initialisation, and everything runs in float64: the numbers hold on every machine and version.
Batch normalisation uses the batch's own statistics, which keeps deep rows in range.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from facefind.systems.scrfd import ROWS

FILE = Path(__file__).with_suffix(".json")
SHOWN = 3  # anchors a level whose outputs are kept


def fill(network: nn.Module) -> None:
    """Give every parameter a value that depends on its name and shape alone."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            count = np.arange(parameter.numel(), dtype=np.float64)
            noise = np.sin(count * 12.9898 + zlib.crc32(name.encode()) % 1000) * 43758.5453
            noise = 2 * (noise - np.floor(noise)) - 1
            if parameter.ndim > 1:
                noise *= np.sqrt(6 / parameter[0].numel())
            else:
                noise = 0.1 * noise + float(name.endswith("weight") or name.endswith("scale"))
            parameter.copy_(torch.from_numpy(noise).reshape(parameter.shape))


def outputs(row: str) -> dict[str, Any]:
    """State's digest, and the raw outputs of the first anchors of each level with their means."""
    network = ROWS[row].build().double().train()
    fill(network)
    place = torch.arange(2 * 3 * 64 * 96, dtype=torch.float64)
    images = ((place * 7919) % 256 + 32 * (place / 331).sin()).clamp(0, 255).reshape(2, 3, 64, 96)
    shapes = "\n".join(f"{k} {tuple(v.shape)}" for k, v in network.state_dict().items())
    with torch.no_grad():
        result = network(images)
    raw, starts = result.raw, np.cumsum([0, *result.anchors.per_level[:-1]])
    index = torch.tensor([start + i for start in starts for i in range(SHOWN)])
    kept = {"logits": raw.logits, "distances": raw.distances, "offsets": raw.offsets}
    found: dict[str, Any] = {"state": hashlib.sha256(shapes.encode()).hexdigest()[:16]}
    for name, values in kept.items():
        if values is not None:
            some = values[1, index].flatten()
            found[name] = [float(f"{v:.9g}") for v in some[:: max(len(some) // 18, 1)]]
            found[f"{name}_spread"] = float(f"{values.std():.9g}")
    return found


if __name__ == "__main__":
    rows = sys.argv[1:] or list(ROWS)
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    known |= {row: outputs(row) for row in rows}
    lines = [f"{json.dumps(row)}: {json.dumps(known[row])}" for row in ROWS if row in known]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
