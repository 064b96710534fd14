"""Golden outputs of SmallHardFace: in `tests`, `python -m golden.smallhardface` writes them anew.

Made as SCRFD's: weights and images by formulas, everything in float64. The full rows would take
long, so each kind stands with few channels; their layers and names are the full ones'.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from golden.scrfd import fill

from facefind.systems import smallhardface as system

FILE = Path(__file__).with_suffix(".json")
_WIDTHS = {"widths": (8, 8, 16, 16, 16), "reduced": 8, "fused": 16, "head": 8}
ROWS = {
    "smallhardface": replace(system.ROWS["smallhardface"], **_WIDTHS),
    "smallhardface-single": replace(system.ROWS["smallhardface-single"], **_WIDTHS),
    "smallhardface-three": replace(system.ROWS["smallhardface-three"], **_WIDTHS),
    "smallhardface-light": system.ROWS["smallhardface-light"],
}


def outputs(name: str) -> dict[str, Any]:
    """State's digest, some of the raw outputs, and their spread."""
    network = ROWS[name].build().double().train()
    fill(network)
    place = torch.arange(2 * 3 * 64 * 96, dtype=torch.float64)
    images = ((place * 7919) % 256 + 32 * (place / 331).sin()).clamp(0, 255).reshape(2, 3, 64, 96)
    shapes = "\n".join(f"{k} {tuple(v.shape)}" for k, v in network.state_dict().items())
    with torch.no_grad():
        raw = network(images).raw
    found: dict[str, Any] = {"state": hashlib.sha256(shapes.encode()).hexdigest()[:16]}
    for part, values in raw._asdict().items():
        some = values[1].flatten()
        found[part] = [float(f"{v:.9g}") for v in some[:: len(some) // 18]]
        found[f"{part}_spread"] = float(f"{values.std():.9g}")
    return found


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(outputs(name))}" for name in ROWS]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
