"""Choices: the modules of a cell in search, and what each of its nodes computes at present.

Legend: B batch, C channels, E edges into a node, O operations on an edge, K channels for each one
that operations are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from facefind.errors import DataError
from facefind.nn.cells import operation


class OneHot(torch.autograd.Function):
    """Logits (N,) -> 1 at the largest and 0 elsewhere, with a gradient all the same.

    With p the softmax of the logits, a gradient g comes back as g p (1 - p) N, entry by entry.

    Source: the released code of DSFDv2.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        """The one-hot vector."""
        ctx.save_for_backward(logits.softmax(0))
        return torch.zeros_like(logits).index_fill_(0, logits.argmax(0), 1.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """The gradient of the logits."""
        (share,) = ctx.saved_tensors
        return cast(Tensor, gradients[0] * share * (1 - share) * share.numel())


def one_hot(logits: Tensor) -> Tensor:
    """`OneHot` of logits (N,)."""
    return cast(Tensor, OneHot.apply(logits))  # type: ignore[no-untyped-call]


Paths = Mapping[int, tuple[Tensor | None, Sequence[tuple[int, Tensor | None]]]]
"""What a node computes: by edge, the weight of the edge, and operations with theirs; None is 1."""


class Choice(nn.Module):
    """What one node chooses from: E edges with O operations each.

    Attributes:
        operations: (E,O) how much each operation is preferred on its edge.
        edges: (E,) how much each edge is preferred.
        paths: what the node computes at present.

    Source: PC-DARTS (arXiv:1907.05737), sec. 3.3, for weights of edges beside those of operations.
    """

    def __init__(self, edges: int, operations: int) -> None:
        super().__init__()
        self.operations = nn.Parameter(1e-3 * torch.randn(edges, operations))
        self.edges = nn.Parameter(1e-3 * torch.randn(edges), requires_grad=edges > 1)
        self.paths: Paths = {}

    def logits(self) -> Tensor:
        """(E,O) logarithms of the probabilities of edge and operation together."""
        return self.edges.log_softmax(0)[:, None] + self.operations.log_softmax(1)

    def mix(self) -> None:
        """Compute everything, weighed by softmax."""
        shares, weights = self.edges.softmax(0), self.operations.softmax(1)
        self.paths = {
            edge: (shares[edge], [(place, weight) for place, weight in enumerate(row)])
            for edge, row in enumerate(weights)
        }

    def take(self, edge: int, place: int, weight: Tensor | None = None) -> None:
        """Compute one operation on one edge."""
        self.paths = {edge: (None, [(place, weight)])}


class EdgeOperations(nn.Module):
    """The operations on an edge: (B,C,H,W) -> (B,C,H,W).

    They see the first C/K channels; the others pass by, and channels are then shuffled so that
    the next edge's operations see others.

    Source: PC-DARTS (arXiv:1907.05737), sec. 3.2.
    """

    def __init__(self, names: Sequence[str], width: int, share: int) -> None:
        super().__init__()
        if width % share:
            raise DataError(f"a search needs a multiple of {share} channels, got {width}")
        self.part, self.share = width // share, share
        self.operations = nn.ModuleList(operation(name, self.part, norm=False) for name in names)

    def forward(self, x: Tensor, taken: Sequence[tuple[int, Tensor | None]]) -> Tensor:
        """The sum of the operations taken, by weight, beside the other channels."""
        part = x[:, : self.part]
        total = weighed_sum((self.operations[place](part), weight) for place, weight in taken)
        if self.share == 1:
            return total
        both = torch.cat([total, x[:, self.part :]], 1)
        return functional.channel_shuffle(both, self.share)


class Node(nn.Module):
    """A node of a cell: maps of its E edges, each (B,C,H,W) -> (B,C,H,W)."""

    def __init__(self, choice: Choice, names: Sequence[str], width: int, share: int) -> None:
        super().__init__()
        self.choice = choice
        edges = range(len(choice.edges))
        self.edges = nn.ModuleList(EdgeOperations(names, width, share) for _ in edges)

    def forward(self, *maps: Tensor) -> Tensor:
        """What its choice computes at present."""
        return weighed_sum(
            (self.edges[edge](maps[edge], taken), own)
            for edge, (own, taken) in self.choice.paths.items()
        )


class SearchedContext(nn.Module):
    """A context cell in search: (B,C,H,W) -> (B,C,H,W).

    As `ContextCell`, but that every node has an edge from each before it. Which nodes are joined
    follows from the paths taken; of a mixture, which has no leaves, all are. Of each, a 1x1
    convolution of its own is added up.
    """

    def __init__(self, nodes: Sequence[Node], width: int, concat: Literal["leaf", "all"]) -> None:
        super().__init__()
        self.nodes, self.concat = nn.ModuleList(nodes), concat
        self.join = nn.ModuleList(nn.Conv2d(width, width, 1, bias=False) for _ in nodes)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """The cell's output."""
        found = [x]
        for node in self.nodes:
            found.append(node(*found))
        joined = weighed_sum((self.join[place - 1](found[place]), None) for place in self.joined())
        return cast(Tensor, self.norm(joined).relu() + x)

    def joined(self) -> list[int]:
        """Numbers of the nodes that are joined at present."""
        paths = [cast(Node, node).choice.paths for node in self.nodes]
        single = self.concat == "leaf" and all(len(path) == 1 for path in paths)
        taken = {edge for path in paths for edge in path} if single else set()
        return [place for place in range(1, len(paths) + 1) if place not in taken]


def weighed_sum(weighed: Iterable[tuple[Tensor, Tensor | None]]) -> Tensor:
    """The sum of tensors by their weights; None is 1."""
    total: Tensor | None = None
    for value, weight in weighed:
        value = value if weight is None else value * weight
        total = value if total is None else total + value
    assert total is not None
    return total
