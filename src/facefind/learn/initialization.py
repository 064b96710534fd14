"""Initialization: a network that starts from known weights instead of random ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facefind.errors import WeightsError
from facefind.learn import checkpoints


def initialize(network: nn.Module, source: str | Path) -> str:
    """Load weights into a network; return into what: "network", "network but for ..", "backbone".

    The source is a run folder or checkpoint of the same network, whose averaged weights are taken
    where it has them; one of the network without some of its branches (a RetinaFace without its
    mesh), which then keep their random weights; or a torch file of tensors in the names of the
    network's `backbone`, such as torchvision's, of which the classifier and whatever else the
    backbone lacks is ignored.

    Raises:
        WeightsError: if the file can't be read, or fits neither; names what is missing.
    """
    path = checkpoints.path_of(Path(source))
    if not path.is_file():
        raise WeightsError(
            "--init-from: expected a run folder, a checkpoint or a backbone's weights, "
            f"got {path}, which is no file"
        )
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise WeightsError(f"{path} cannot be read as a torch file: {error}") from error
    state = content
    if isinstance(content, dict):
        state = content.get("ema", content.get("network", content.get("state_dict", content)))
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path} holds no state dict")
    if not _mismatches(network, state):
        network.load_state_dict(state)
        return "network"
    if fresh := _branches(network, state):
        network.load_state_dict(state, strict=False)
        return f"network but for {', '.join(fresh)}"
    backbone = getattr(network, "backbone", None)
    missing = _mismatches(backbone, state) if isinstance(backbone, nn.Module) else []
    if not isinstance(backbone, nn.Module) or missing:
        some = ", ".join(missing[:3] or _mismatches(network, state)[:3])
        raise WeightsError(
            f"{path} holds neither this network's weights nor its backbone's: without {some}, or "
            "in another shape"
        )
    backbone.load_state_dict({name: state[name] for name in backbone.state_dict()})
    return "backbone"


def _branches(network: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Branches of a network that a state lacks, if all else matches; none otherwise.

    Branches are the parts of its head, and all but backbone, neck and head.
    """
    expected = network.state_dict()
    if any(name not in expected or expected[name].shape != v.shape for name, v in state.items()):
        return []
    found = {_part(name) for name in state}
    missing = {_part(name) for name in expected if name not in state}
    return [] if missing & (found | {"backbone", "neck"}) else sorted(missing)


def _part(name: str) -> str:
    first, _, rest = name.partition(".")
    return f"{first}.{rest.partition('.')[0]}" if first == "head" else first


def _mismatches(part: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Names that a part of the network needs and the state lacks, or has in another shape."""
    expected = part.state_dict()
    return [k for k, v in expected.items() if k not in state or state[k].shape != v.shape]
