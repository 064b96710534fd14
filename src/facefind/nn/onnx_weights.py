"""Weights of an ONNX file, put back into the network that it was made of.

Exporters keep the order in which a network runs its layers, but neither all names nor all tensors:
batch normalization is folded into the convolution before it, equal tensors become one, and what
changes nothing is dropped. So layers are matched in running order, shape by shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from facefind.errors import WeightsError
from facefind.nn.deform import DeformConv2d
from facefind.nn.layers import Scale, WeightedSum, evaluating
from facefind.runtimes.onnx_file import Graph, Node

__all__ = ["Layer", "Matched", "graph_layers", "match", "run_order"]

_PARTS: dict[Any, tuple[str, ...]] = {
    nn.Conv2d: ("weight", "bias"),
    nn.BatchNorm2d: ("weight", "bias", "running_mean", "running_var"),
    nn.GroupNorm: ("weight", "bias"),
    Scale: ("scale",),
    WeightedSum: ("weight",),
}
_WORDS = {
    nn.Conv2d: "a convolution",
    nn.BatchNorm2d: "a batch normalization",
    nn.GroupNorm: "a group normalization",
    Scale: "a scale",
    WeightedSum: "a weighted sum",
}


class Layer(NamedTuple):
    """A layer of a graph: its kind, and the names of its tensors, "" for a bias that is 0.

    A weighted sum has one tensor a map: the map's share.
    """

    kind: type[nn.Module]
    tensors: tuple[str, ...]


class Matched(NamedTuple):
    """What a network takes from a graph.

    Attributes:
        state: tensors by their names in the network's state dict.
        origins: the graph's names of those that it holds as they are, by the same names.
        folded: names of the batch normalizations that it has folded.
    """

    state: dict[str, Tensor]
    origins: dict[str, str]
    folded: list[str]


def graph_layers(graph: Graph) -> Iterator[Layer]:
    """The layers with weights of a graph, in the order in which they run.

    A group normalization is an InstanceNormalization of groups, reshaped back, times the weight,
    plus the bias; a scale is the product of a convolution's output and one number. In a weighted
    sum products of this kind are added, and their numbers add up to 1.

    Raises:
        WeightsError: if instances are normalized otherwise.
    """
    takers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            takers.setdefault(name, []).append(node)
    sums = _weighted_sums(graph)
    shares = {name for names in sums.values() for name in names}

    def taker(node: Node | None, kind: str) -> Node | None:
        taking = takers.get(node.outputs[0], []) if node else []
        return next((one for one in taking if one.kind == kind), None)

    def constant(node: Node) -> str:
        return next((name for name in node.inputs if name in graph.weights), "")

    for node in graph.nodes:
        if node.kind == "Conv":
            yield Layer(nn.Conv2d, (*node.inputs[1:], "")[:2])
            times = taker(node, "Mul")
            factor = constant(times) if times else ""
            if factor and factor not in shares and graph.weights[factor].size == 1:
                yield Layer(Scale, (factor,))
        elif node.kind == "BatchNormalization":
            yield Layer(nn.BatchNorm2d, node.inputs[1:])
        elif node.kind == "InstanceNormalization":
            times = taker(taker(node, "Reshape"), "Mul")
            plus = taker(times, "Add")
            if not times or not plus:
                raise WeightsError("it normalizes by instances, but not groups of channels")
            yield Layer(nn.GroupNorm, (constant(times), constant(plus)))
        elif node.outputs[0] in sums:
            yield Layer(WeightedSum, sums[node.outputs[0]])


def _weighted_sums(graph: Graph) -> dict[str, tuple[str, ...]]:
    """The shares of each weighted sum, in order, by the name of its result."""
    single = {name for name, values in graph.weights.items() if values.size == 1}
    terms: dict[str, tuple[str, ...]] = {}  # numbers of the products that a result adds up
    parts: set[str] = set()
    for node in graph.nodes:
        if node.kind == "Mul" and (factor := single.intersection(node.inputs)):
            terms[node.outputs[0]] = tuple(factor)
        elif node.kind == "Add" and all(name in terms for name in node.inputs):
            terms[node.outputs[0]] = tuple(one for name in node.inputs for one in terms[name])
            parts.update(node.inputs)
    return {
        result: names
        for result, names in terms.items()
        if result not in parts
        and len(names) > 1
        and abs(sum(graph.weights[name].item() for name in names) - 1) < 1e-3
    }


def run_order(network: nn.Module) -> list[tuple[str, Any]]:
    """Names and modules of the kinds that `graph_layers` knows, as one image runs them.

    One that runs several times is there as often. The network stays in the mode that it is in.
    """
    ran: list[tuple[str, nn.Module]] = []
    hooks = [
        module.register_forward_hook(lambda m, _, __, name=name: ran.append((name, m)))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.GroupNorm | Scale | WeightedSum)
    ]
    side = 2 * int(getattr(network, "size_multiple", 32))
    with evaluating(network, hooks), torch.inference_mode():
        run = getattr(network, "candidates", network)
        run(torch.zeros(1, 3, side, side, dtype=torch.uint8))
    return ran


def match(
    network: nn.Module,
    graph: Graph,
    *,
    without: Sequence[str] = (),
    surplus: Sequence[str] = (),
    leading: str = "",
) -> Matched:
    """Weights of a graph for a network of the kind that it was made of, which stays as it is.

    A normalization that was folded into its convolution becomes neutral: mean 0, variance 1, the
    convolution's bias as its own. That is exact in evaluation; in training, where a batch has other
    statistics, it must be frozen or given true ones (`nn.statistics`). What an image does not run
    is not in the result.

    Args:
        network: gives names, shapes and running order.
        graph: nodes and weights of a file.
        without: parts of the network that the graph lacks, by the start of their names.
        surplus: parts of the graph that the network lacks, by what their tensors' names hold.
        leading: the part of the network that runs first and is to be matched alone, by the start of
            its names: `backbone.`; what the graph then does is its own.

    Raises:
        WeightsError: if the layers differ; says where and how.
    """
    layers = [
        layer
        for layer in graph_layers(graph)
        if not any(part in name for part in surplus for name in layer.tensors)
    ]
    found, place = Matched({}, {}, []), 0
    conv = ""  # the convolution before: its bias may be that of a folded normalization
    for name, module in run_order(network):
        if not name.startswith(leading):
            break
        if name.startswith(tuple(without)):
            continue
        layer = layers[place] if place < len(layers) else None
        if layer is not None and isinstance(module, layer.kind):
            place += 1
            _fill(found, name, module, layer, graph)
        elif isinstance(module, Scale):  # a factor of 1 was dropped
            found.state[f"{name}.scale"] = torch.ones_like(module.scale)
        elif isinstance(module, WeightedSum) and module.weight.numel() == 1:  # its share is 1
            found.state[f"{name}.weight"] = torch.ones_like(module.weight)
        elif isinstance(module, nn.BatchNorm2d) and conv:
            bias = found.state[f"{conv}.bias"]
            found.folded.append(name)
            found.state[f"{name}.weight"] = torch.full_like(bias, (1 + module.eps) ** 0.5)
            found.state[f"{name}.bias"] = bias
            found.state[f"{name}.running_mean"] = torch.zeros_like(bias)
            found.state[f"{name}.running_var"] = torch.ones_like(bias)
            found.state[f"{conv}.bias"] = torch.zeros_like(bias)
        else:
            raise WeightsError(
                f"layer {place + 1} of the file is {_shown(layer, graph)}, that of the network is "
                f"{next(word for kind, word in _WORDS.items() if isinstance(module, kind))}, {name}"
            )
        conv = name if isinstance(module, nn.Conv2d) else ""
    if place < len(layers) and not leading:
        raise WeightsError(
            f"the file has {len(layers)} layers, the network {place}; the first that the network "
            f"lacks is {_shown(layers[place], graph)}"
        )
    for name in found.state.keys() - network.state_dict().keys():  # biases of folded layers
        if found.state.pop(name).any():
            raise WeightsError(f"the file has a bias that the network lacks, {name}")
    return found


def _fill(found: Matched, name: str, module: Any, layer: Layer, graph: Graph) -> None:
    """Add a layer's tensors under the names of the module that it is of."""
    if isinstance(module, WeightedSum):
        if len(layer.tensors) != len(module.weight):
            raise WeightsError(
                f"{', '.join(layer.tensors)} of the file are {len(layer.tensors)} shares, {name} "
                f"has {len(module.weight)}"
            )
        shares = torch.cat(
            [torch.from_numpy(graph.weights[key]).flatten() for key in layer.tensors]
        )
        found.state[f"{name}.weight"] = module.weight_of(shares)
        return
    for part, key in zip(_PARTS[layer.kind], layer.tensors, strict=True):
        expected = getattr(module, part)
        if part == "bias" and expected is None:  # perhaps that of a folded normalization
            expected = torch.zeros(len(module.weight))
        if part == "bias" and not key:
            found.state[f"{name}.bias"] = torch.zeros_like(expected)
            continue
        shape, given = tuple(expected.shape), graph.weights.get(key)
        # A group normalization's vectors have axes more, a deformable convolution is one of points.
        free = expected.ndim < 2 or isinstance(module, DeformConv2d)
        if given is None or given.size != expected.numel() or (given.shape != shape and not free):
            has = "computed" if given is None else f"of shape {given.shape}"
            raise WeightsError(f"{key} of the file is {has}, {name}.{part} is of shape {shape}")
        found.state[f"{name}.{part}"] = torch.from_numpy(given.reshape(shape).copy())
        found.origins[f"{name}.{part}"] = key


def _shown(layer: Layer | None, graph: Graph) -> str:
    """A layer of a graph in words."""
    if layer is None:
        return "missing"
    weight = graph.weights.get(layer.tensors[0])
    shape = "" if weight is None else f" of shape {weight.shape}"
    return f"{_WORDS[layer.kind]}{shape}, {layer.tensors[0]}"
