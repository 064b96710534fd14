"""Statistics of batch normalization: what folding loses, kept beside the folded weights.

In training a batch normalization divides by the deviation of its own batch. A network whose folded
weights are put back (`nn.onnx_weights`) goes on from what it was only if scales and shifts of its
normalizations fit what the convolutions give; mean and variance of that are all it takes.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facefind.errors import WeightsError
from facefind.nn.layers import evaluating
from facefind.nn.onnx_weights import Matched, run_order

__all__ = ["measure", "pack", "restore"]


def pack(network: nn.Module) -> str:
    """The statistics of a network's folded convolutions as text: float32 numbers in base 64.

    Convolutions come in running order, each with the mean (C,) and then the variance (C,) of its
    outputs, without a bias.
    """
    parts = [torch.empty(0)]
    for norm, conv in _normalizations(network).values():
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        bias = 0.0 if conv is None or conv.bias is None else conv.bias
        parts += [(norm.running_mean - bias) * scale, norm.running_var * scale.square()]
    numbers = torch.cat([part.detach().cpu().float() for part in parts]).numpy()
    return base64.b64encode(numbers.astype("<f4").tobytes()).decode()


def restore(found: Matched, network: nn.Module, text: str, *, leading: str = "") -> None:
    """Give the folded batch normalizations among a file's weights the statistics of `pack`.

    Their scales and shifts undo them: in evaluation all outputs stay the same.

    Args:
        found: the file's weights; changed.
        network: the network that they are for.
        text: what `pack` made of the network of the file.
        leading: as of `match`: the text goes on with what is not of this part.

    Raises:
        WeightsError: if the text is damaged or of another network.
    """
    norms = {
        name: norm
        for name, (norm, _) in _normalizations(network).items()
        if name.startswith(leading)
    }
    sizes = [norm.num_features for norm in norms.values() for _ in range(2)]
    try:
        numbers = np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)
        numbers = numbers[: sum(sizes)] if leading else numbers
        parts = iter(torch.split(torch.from_numpy(numbers), sizes))
    except (ValueError, RuntimeError) as error:
        raise WeightsError(f"the statistics of batch normalization do not fit: {error}") from error
    for name, norm in norms.items():
        mean, var = next(parts), next(parts)
        if name in found.folded:
            found.state[f"{name}.weight"] = (var + norm.eps).sqrt()
            found.state[f"{name}.bias"] = found.state[f"{name}.bias"] + mean
            found.state[f"{name}.running_mean"] = mean
            found.state[f"{name}.running_var"] = var


@torch.no_grad()
def measure(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give a network's batch normalizations the statistics of images, and change nothing else.

    Scales and shifts follow the new means and variances, so that evaluation gives what it gave
    before; training then starts from about the same.

    Args:
        network: stays in the mode that it is in.
        batches: images (B,3,H,W), such as the network is to be trained on.
    """
    sums: dict[Any, Tensor] = {}

    def add(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        x = inputs[0].transpose(0, 1).flatten(1).double()
        count = torch.full_like(x[:, 0], x.shape[1])
        sums[norm] = sums.get(norm, 0) + torch.stack([count, x.sum(1), x.square().sum(1)])

    norms = [norm for norm, _ in _normalizations(network).values()]
    hooks = [norm.register_forward_pre_hook(add) for norm in norms]
    with evaluating(network, hooks):
        for images in batches:
            network(images)
    for norm, found in sums.items():
        mean, square = found[1:] / found[0]
        var = (square - mean.square()).clamp(min=0)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        norm.bias += scale * (mean - norm.running_mean)
        norm.weight.copy_(scale * (var + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)


def _normalizations(network: nn.Module) -> dict[str, tuple[Any, nn.Conv2d | None]]:
    """Each batch normalization that an image runs, and the convolution before it, by its name."""
    found: dict[str, tuple[Any, nn.Conv2d | None]] = {}
    before = None
    for name, module in run_order(network):
        if isinstance(module, nn.BatchNorm2d):
            found.setdefault(name, (module, before))
        before = module if isinstance(module, nn.Conv2d) else None
    return found
