"""Batch normalization folded into the convolutions before it, as published files have it."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


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


def unfuse(fused: nn.Module, network: nn.Module) -> nn.Module:
    """`network` with the weights of a fused copy of its kind, in eval mode; returns it.

    A folded normalization can't be separated from its convolution any more, so it becomes neutral:
    mean 0, variance 1, the shift in its bias. The outputs are those of `fused`; training may
    continue, from statistics that the first batches overwrite.

    Args:
        fused: what `fuse` makes of a network of the same shape.
        network: takes the weights.
    """
    network.eval()
    state = dict(fused.state_dict())
    with torch.no_grad():
        for prefix, parent in network.named_modules():
            for (first, conv), (second, norm) in pairwise(parent.named_children()):
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    path = f"{prefix}.{first}".lstrip(".")
                    bias = state[f"{path}.bias"]
                    if conv.bias is None:
                        del state[f"{path}.bias"]
                    else:
                        state[f"{path}.bias"] = torch.zeros_like(bias)
                    norm.reset_parameters()
                    norm.weight.fill_((1 + norm.eps) ** 0.5)
                    norm.bias.copy_(bias)
                    below = f"{prefix}.{second}".lstrip(".")
                    state |= {f"{below}.{name}": x for name, x in norm.state_dict().items()}
        network.load_state_dict(state)
    return network
