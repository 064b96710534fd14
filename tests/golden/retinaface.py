"""Golden outputs of RetinaFace: in `tests`, `python -m golden.retinaface` writes them anew.

Made as SCRFD's: weights and images by formulas, everything in float64. The deeper ResNets differ
from these in the number of blocks alone.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from golden.scrfd import fill

from facefind.systems.retinaface import ROWS

FILE = Path(__file__).with_suffix(".json")
KEPT = (
    "retinaface-mobile",
    "retinaface-mobile-released",
    "retinaface-r50-released",
    "retinaface-r50",
)


def outputs(row: str) -> dict[str, Any]:
    """State's digest, some of the raw outputs, and their spread."""
    network = ROWS[row].build().double().train()
    fill(network)
    place = torch.arange(2 * 3 * 64 * 96, dtype=torch.float64)
    images = ((place * 7919) % 256 + 32 * (place / 331).sin()).clamp(0, 255).reshape(2, 3, 64, 96)
    shapes = "\n".join(f"{k} {tuple(v.shape)}" for k, v in network.state_dict().items())
    with torch.no_grad():
        raw = network(images)
    found: dict[str, Any] = {"state": hashlib.sha256(shapes.encode()).hexdigest()[:16]}
    for part in ("classes", "deltas", "offsets"):
        values = getattr(raw, part)
        some = values[1].flatten()
        found[part] = [float(f"{v:.9g}") for v in some[:: len(some) // 18]]
        found[f"{part}_spread"] = float(f"{values.std():.9g}")
    return found


if __name__ == "__main__":
    lines = [f"{json.dumps(row)}: {json.dumps(outputs(row))}" for row in KEPT]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
