"""Folding batch normalisation into the convolutions before it, as published files have it."""

from __future__ import annotations

import copy
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fuse(network: nn.Module) -> nn.Module:
    """A copy in eval mode in which no batch normalisation that follows a convolution is left.

    Each such convolution gets the normalisation's scale and shift as its own weights and bias; the
    normalisation becomes an `Identity`, so that every other module keeps its name. A pair is a
    convolution and the normalisation that stands next to it among the children of one module, in
    which order our blocks run them. Group normalisation depends on the image and stays.
    """
    fused = copy.deepcopy(network).eval()
    for parent in list(fused.modules()):
        children = list(parent.named_children())
        for (first, conv), (second, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, first, fuse_conv_bn_eval(conv, norm))
                setattr(parent, second, nn.Identity())
    return fused
