"""What a network costs: parameters and multiply-adds by part, and memory in training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from facefind.nn.layers import evaluating


@dataclass(frozen=True)
class Cost:
    """Cost of a network and of each of its direct children.

    Attributes:
        parameters: learned numbers, normalization included.
        multiply_adds: of convolutions and linear layers for one image; biases, normalization,
            activations and pooling are not counted.
        parts: the same two for each direct child that has any, by name.
    """

    parameters: int
    multiply_adds: int
    parts: dict[str, dict[str, int]]

    def to_dict(self) -> dict[str, object]:
        """Plain numbers, ready for JSON."""
        return asdict(self)


def measure(network: nn.Module, height: int, width: int) -> Cost:
    """Cost of `network` for one image of `height` x `width` pixels, counted in one pass over zeros.

    Nothing of the network is changed; running statistics stay as they are.
    """
    counts: dict[str, int] = dict.fromkeys((name for name, _ in network.named_children()), 0)
    hooks = []
    for child, part in network.named_children():
        for module in part.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                hooks.append(module.register_forward_hook(_counter(counts, child)))
    with evaluating(network, hooks), torch.no_grad():
        device = next(network.parameters()).device
        network(torch.zeros(1, 3, height, width, device=device))
    parts = {}
    for name, part in network.named_children():
        parameters = sum(p.numel() for p in part.parameters())
        if parameters or counts[name]:
            parts[name] = {"parameters": parameters, "multiply_adds": counts[name]}
    return Cost(
        parameters=sum(p.numel() for p in network.parameters()),
        multiply_adds=sum(counts.values()),
        parts=parts,
    )


def kept_bytes(work: Callable[[], Tensor]) -> int:
    """Bytes that a pass keeps for its backward pass, parameters left out.

    On the device `meta` nothing is computed, and the result is that of any other.

    Args:
        work: the pass; returns what the backward pass would start from.
    """
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(value: Tensor) -> Tensor:
        if not isinstance(value, nn.Parameter):
            storage = value.untyped_storage()
            kept[storage._cdata] = storage
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        work()
    return sum(storage.nbytes() for storage in kept.values())


Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]


def _counter(counts: dict[str, int], child: str) -> Hook:
    def count(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            kernel = module.kernel_size[0] * module.kernel_size[1]
            counts[child] += output[0].numel() * kernel * module.in_channels // module.groups
        elif isinstance(module, nn.Linear):
            counts[child] += output[0].numel() * module.in_features

    return count
