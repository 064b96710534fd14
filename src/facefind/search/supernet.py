"""Supernet: a detector whose pyramid or context holds every module that a search chooses among.

Each node of a cell chooses an operation and, in a context, the map that it is given. `sampled`
takes one path a node at a time, as ASFD does; `pc-darts` and `darts` mix all of them, for
comparison. In all but `darts` operations see a quarter of the channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from facefind.errors import DataError
from facefind.learn.recipe import NetworkConfig
from facefind.nn.cells import ContextCell, PyramidCell
from facefind.nn.detector import DenseDetector
from facefind.nn.genotypes import (
    CONTEXT_CHOICES,
    PYRAMID_CHOICES,
    ContextGenotype,
    Edge,
    Genotype,
    PyramidGenotype,
)
from facefind.nn.layers import xavier
from facefind.search.choices import Choice, Node, SearchedContext, one_hot

Mode = Literal["sampled", "pc-darts", "darts"]
Role = Literal["pyramid", "context"]
"""What is searched for: the field of a network's configuration that names it."""
SHARE = 4
"""Operations are given one in so many channels."""
NOISE = 1e-3
"""Factor of the Gumbel noise by which near ties change."""
_STAND_INS: dict[Role, str] = {"pyramid": "autofem", "context": "cpm"}


@dataclass(frozen=True)
class Supernet:
    """A detector in search.

    Attributes:
        network: all of it.
        role: what is searched for.
        mode: how.
        choices: what is to be chosen, by a name made of level and node.
        read: makes the genotype of the (edge, operation) chosen, in the order of `choices`.
    """

    network: DenseDetector
    role: Role
    mode: Mode
    choices: dict[str, Choice]
    read: Callable[[Sequence[tuple[int, int]]], Genotype]

    def parameters(self) -> list[nn.Parameter]:
        """Those of the architecture."""
        return [p for choice in self.choices.values() for p in choice.parameters()]

    def draw(self, rng: np.random.Generator, *, uniform: bool = False) -> None:
        """Choose what the next pass computes: one path a node, or the present mixture of all.

        Args:
            rng: of the draw.
            uniform: choose each path alike; a mixture stays what it is.
        """
        choices = list(self.choices.values())
        if self.mode != "sampled":
            for choice in choices:
                choice.mix()
        elif uniform:
            for choice in choices:
                edges, operations = choice.operations.shape
                choice.take(int(rng.integers(edges)), int(rng.integers(operations)))
        else:
            noisy = []
            for choice in choices:
                logits = choice.logits().flatten()
                noise = torch.from_numpy(NOISE * rng.gumbel(size=len(logits)))
                noisy.append(logits + noise.to(logits))
            for choice, logits, path in zip(choices, noisy, _largest(noisy), strict=True):
                weight = one_hot(logits)[path] if logits.requires_grad else None
                choice.take(*_pair(choice, path), weight)

    def settle(self) -> None:
        """Compute the path of `chosen` from now on."""
        for choice, path in zip(self.choices.values(), self.chosen(), strict=True):
            choice.take(*path)

    def chosen(self) -> list[tuple[int, int]]:
        """The most probable (edge, operation) of each choice."""
        choices = list(self.choices.values())
        largest = _largest([choice.logits().flatten() for choice in choices])
        return [_pair(choice, path) for choice, path in zip(choices, largest, strict=True)]

    def genotype(self) -> Genotype:
        """What is chosen, as data."""
        return self.read(self.chosen())

    def edges(self) -> dict[str, Edge]:
        """What is chosen, by the names of the choices."""
        genotype = self.genotype()
        rows = genotype.nodes if isinstance(genotype, PyramidGenotype) else genotype.levels
        return dict(zip(self.choices, (edge for row in rows for edge in row), strict=True))

    def entropies(self) -> list[float]:
        """Entropy of each choice's probabilities, 1 where all are alike and 0 where one is sure."""
        with torch.no_grad():
            found = []
            for choice in self.choices.values():
                logits = choice.logits().flatten()
                found.append(-(logits.exp() * logits).sum() / np.log(len(logits)))
            values: list[float] = torch.stack(found).tolist()
        return values


def supernet(
    config: NetworkConfig,
    role: Role,
    mode: Mode = "sampled",
    *,
    nodes: int = 6,
    concat: Literal["leaf", "all"] = "leaf",
) -> Supernet:
    """The supernet of a network, of any system that names its feature modules.

    Args:
        config: the network; its other feature module stays.
        role: what is searched for.
        mode: one path a node, or all mixed.
        nodes: of a context's cell.
        concat: which nodes of it are joined, `leaf` or `all`; a mixture has no leaves, and joins
            all of them while it is searched.

    Raises:
        DataError: if the system has no such module, or channels do not divide.

    Source: ASFD, sec. 4.1 and 4.2; the released code of DSFDv2 for the operations without
    normalization. That a pyramid's edges are those of the authors' is ours, as all of a context is.
    """
    if not hasattr(config, role) or nodes < 1:
        raise DataError(
            f"expected a system with a {role} to search and nodes of at least 1, got "
            f"{config.system or type(config).__name__} and {nodes}"
        )
    network = replace(config, **{role: _STAND_INS[role]}).build()
    share = 1 if mode == "darts" else SHARE
    if role == "pyramid":
        return Supernet(network, role, mode, *_open_pyramids(network, share))
    return Supernet(network, role, mode, *_open_contexts(network, share, nodes, concat))


Opened = tuple[dict[str, Choice], Callable[[Sequence[tuple[int, int]]], Genotype]]


def _open_pyramids(network: DenseDetector, share: int) -> Opened:
    """Put choices in the place of a pyramid's operations; its repeats have them in common."""
    cells = [module for module in network.modules() if isinstance(module, PyramidCell)]
    sources = cells[0].sources
    keys = [(level, place) for level, row in enumerate(sources) for place in range(len(row))]
    choices = [Choice(1, len(PYRAMID_CHOICES)) for _ in keys]
    for cell in cells:
        width = cast(nn.Conv2d, cell.outputs[0]).in_channels
        for (level, place), choice in zip(keys, choices, strict=True):
            node = Node(choice, PYRAMID_CHOICES, width, share)
            xavier(node)
            cast(nn.ModuleList, cell.edges[level])[place] = node

    def read(chosen: Sequence[tuple[int, int]]) -> Genotype:
        rows: list[list[Edge]] = [[] for _ in sources]
        for (level, place), (_, name) in zip(keys, chosen, strict=True):
            rows[level].append((PYRAMID_CHOICES[name], sources[level][place]))
        return PyramidGenotype(tuple(map(tuple, rows)))

    named = [f"level {level}, from {sources[level][place]}" for level, place in keys]
    return dict(zip(named, choices, strict=True)), read


def _open_contexts(
    network: DenseDetector, share: int, nodes: int, concat: Literal["leaf", "all"]
) -> Opened:
    """Put cells with choices in the place of a detector's contexts."""
    cells = cast(nn.ModuleList, network.context)
    choices: dict[str, Choice] = {}
    for level, cell in enumerate(cells):
        width = cast(nn.Conv2d, cast(ContextCell, cell).join[0]).out_channels
        own = [Choice(number, len(CONTEXT_CHOICES)) for number in range(1, nodes + 1)]
        opened = SearchedContext(
            [Node(choice, CONTEXT_CHOICES, width, share) for choice in own], width, concat
        )
        xavier(opened)
        cells[level] = opened
        choices |= {f"level {level}, node {n}": choice for n, choice in enumerate(own, 1)}

    def read(chosen: Sequence[tuple[int, int]]) -> Genotype:
        edges = [(CONTEXT_CHOICES[name], source) for source, name in chosen]
        starts = range(0, len(edges), nodes)
        return ContextGenotype(tuple(tuple(edges[at : at + nodes]) for at in starts), concat)

    return choices, read


def _pair(choice: Choice, path: int) -> tuple[int, int]:
    """Edge and operation of a place among the flattened logits."""
    return divmod(path, choice.operations.shape[1])


def _largest(logits: Sequence[Tensor]) -> list[int]:
    """Where each is largest; the device is read once."""
    found: list[int] = torch.stack([one.detach().argmax() for one in logits]).tolist()
    return found
