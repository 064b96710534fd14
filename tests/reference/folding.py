"""Networks as exporters leave them: batch normalization folded, layers as nodes of a graph."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from facefind.nn.layers import Scale, WeightedSum
from facefind.nn.onnx_weights import run_order
from facefind.runtimes.onnx_file import Graph, Node


def lively(network: nn.Module, seed: int = 5) -> nn.Module:
    """The network in eval mode, with random statistics, scales and shifts everywhere."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.3)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
            if isinstance(module, Scale):
                nn.init.uniform_(module.scale, 0.5, 1.5)
            if isinstance(module, WeightedSum):
                nn.init.uniform_(module.weight, 0.5, 1.5)
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.normal_(module.bias, std=0.3)
    return network.eval()


def fuse(network: nn.Module) -> nn.Module:
    """A copy in eval mode in which no batch normalization that follows a convolution is left.

    Each such convolution gets the normalization's scale and shift as its own weights and bias; the
    normalization becomes an `Identity`, so that every other module keeps its name. A pair is a
    convolution and the normalization next to it among the children of one module, in
    which order our blocks run them. Group normalization depends on the image and stays.
    """
    fused = copy.deepcopy(network).eval()
    for parent in list(fused.modules()):
        children = list(parent.named_children())
        for (first, conv), (second, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, first, fuse_conv_bn_eval(conv, norm))
                setattr(parent, second, nn.Identity())
    return fused


def graph_of(network: nn.Module) -> Graph:
    """The layers of a network as the nodes of a file, one behind another, folded.

    Tensors have the names that an export gives them; equal ones are one, and zero biases and scales
    of 1 are dropped.
    """
    nodes: list[Node] = []
    weights, names = {}, {}

    def stored(name: str, tensor: torch.Tensor | None) -> str:
        if tensor is None or not tensor.any():
            return ""
        array = tensor.detach().numpy()
        name = names.setdefault((array.shape, array.tobytes()), f"network.{name}")
        weights[name] = array
        return name

    def add(kind: str, *inputs: str) -> None:
        last = nodes[-1].outputs[0] if nodes else "image"
        nodes.append(Node(kind, (last, *inputs), (f"x{len(nodes)}",)))

    for name, module in run_order(fuse(network)):
        if isinstance(module, nn.Conv2d):
            bias = stored(f"{name}.bias", module.bias)
            add("Conv", stored(f"{name}.weight", module.weight), *[bias] * bool(bias))
        elif isinstance(module, Scale) and module.scale != 1:
            add("Mul", stored(f"{name}.scale", module.scale))
        elif isinstance(module, WeightedSum):
            shares = [stored(f"{name}.{at}", share) for at, share in enumerate(module.shares())]
            for at, share in enumerate(shares):
                nodes.append(Node("Mul", (share, f"{name}.map{at}"), (f"{name}.product{at}",)))
            for at in range(1, len(shares)):
                before = nodes[-1].outputs[0] if at > 1 else f"{name}.product0"
                nodes.append(Node("Add", (before, f"{name}.product{at}"), (f"{name}.sum{at}",)))
        elif isinstance(module, nn.BatchNorm2d):
            parts = ("weight", "bias", "running_mean", "running_var")
            add("BatchNormalization", *(stored(f"{name}.{p}", getattr(module, p)) for p in parts))
        elif isinstance(module, nn.GroupNorm):
            add("InstanceNormalization")
            add("Reshape")
            column = (-1, 1, 1)
            add("Mul", stored(f"{name}.weight", module.weight.reshape(column)))
            add("Add", stored(f"{name}.bias", module.bias.reshape(column)))
    return Graph(nodes, weights)
