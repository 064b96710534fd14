"""The supernet: what its nodes compute, how choices learn, and what it keeps in memory."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facefind.errors import DataError
from facefind.nn import genotypes
from facefind.nn.cost import kept_bytes
from facefind.nn.genotypes import (
    CONTEXT_CHOICES,
    PYRAMID_CHOICES,
    TREE_CONTEXT,
    ContextGenotype,
    PyramidGenotype,
)
from facefind.search.autofem import random_context, random_pyramid
from facefind.search.choices import Choice, EdgeOperations, Node, SearchedContext, one_hot
from facefind.search.supernet import Mode, Role, Supernet, supernet
from facefind.systems.asfd import ASFDConfig
from facefind.systems.retinaface import ROWS as RETINAFACE
from facefind.systems.smallhardface import ROWS as SMALLHARDFACE


def test_one_hot_forward_and_its_gradient_by_formula() -> None:
    """Forward 1 at the largest; backward g p (1 - p) N, entry by entry."""
    logits = torch.tensor([0.3, 1.7, -0.4, 1.1], requires_grad=True)
    given = torch.tensor([2.0, -3.0, 0.5, 1.0])
    chosen = one_hot(logits)
    assert chosen.tolist() == [0, 1, 0, 0]
    chosen.backward(given)
    p = np.exp(logits.detach().numpy())
    p /= p.sum()
    assert logits.grad is not None
    assert np.allclose(logits.grad.numpy(), given.numpy() * p * (1 - p) * 4, atol=1e-6)


def test_a_choice_learns_by_the_gradient_of_its_path_alone(around: ASFDConfig) -> None:
    """dL/d(logit) of the path taken is dL/d(weight) p (1 - p) N; of all others it is 0."""
    found = supernet(around, "context", nodes=2)
    found.network.train()
    torch.manual_seed(1)
    images = torch.rand(2, 3, 64, 64) * 255
    name, choice = list(found.choices.items())[1]
    assert name == "level 0, node 2"

    def loss() -> Tensor:
        found.network.train()
        output = found.network(images)
        return (output.logits**2).mean() + (output.boxes**2).mean()

    with torch.no_grad():
        choice.operations.normal_()
    found.draw(np.random.default_rng(0))
    (((edge, (_, [(place, _)])),)) = choice.paths.items()
    loss().backward()
    got = choice.operations.grad, choice.edges.grad

    weight = torch.ones((), requires_grad=True)
    found.draw(np.random.default_rng(0))
    choice.take(edge, place, weight)
    loss().backward()
    assert weight.grad is not None
    assert abs(weight.grad) > 1e-6
    logits = choice.logits().detach()
    chosen = torch.zeros_like(logits)
    p = logits.exp()[edge, place]  # without the noise, which is a thousandth
    chosen[edge, place] = weight.grad * p * (1 - p) * logits.numel()
    choice.operations.grad = choice.edges.grad = None
    choice.logits().backward(chosen)
    for mine, expected in zip(got, (choice.operations.grad, choice.edges.grad), strict=True):
        assert mine is not None
        assert expected is not None
        assert torch.allclose(mine, expected, rtol=1e-2, atol=1e-7)


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


@pytest.mark.parametrize("seed", range(4))
def test_choices_settle_on_what_lowers_the_loss(seed: int) -> None:
    torch.manual_seed(seed)
    choice = Choice(2, 3)
    node = Node(choice, ("skip_connect",) * 3, 4, 1)
    for edge, factors in zip(node.edges, ((-1, -0.5, -2), (-0.5, 1, -1)), strict=True):
        edge.operations = nn.ModuleList(map(Times, factors))  # type: ignore[assignment]
    found = Supernet(
        nn.Module(),  # type: ignore[arg-type]
        "context",
        "sampled",
        {"node": choice},
        lambda chosen: ContextGenotype((tuple(("skip_connect", e) for e, _ in chosen),)),
    )
    adam = torch.optim.Adam(found.parameters(), 0.1)
    x = torch.rand(1, 4, 3, 3)
    for step in range(40):
        found.draw(np.random.default_rng(step))
        adam.zero_grad()
        (node(x, x) - 2 * x).square().mean().backward()
        adam.step()
    assert found.chosen() == [(1, 1)]
    assert found.entropies()[0] < 0.9


def test_operations_see_a_quarter_of_the_channels_and_others_are_passed_on() -> None:
    edge = EdgeOperations(("skip_connect", "none"), 8, 4)
    x = torch.arange(8.0).reshape(1, 8, 1, 1)
    out = edge(x, [(1, None)]).flatten().tolist()
    assert out == [0, 2, 4, 6, 0, 3, 5, 7]  # 0 and 1 are made zeros; then shuffled by four
    assert edge(x, [(0, torch.tensor(3.0))]).flatten().tolist() == [0, 2, 4, 6, 3, 3, 5, 7]
    with pytest.raises(DataError, match="multiple of 4 channels, got 6"):
        EdgeOperations(("skip_connect",), 6, 4)


def computed(found: Supernet, images: Tensor) -> int:
    """How many operations a pass computes."""
    count = 0

    def add(*_: Any) -> None:
        nonlocal count
        count += 1

    hooks = [
        operation.register_forward_hook(add)
        for module in found.network.modules()
        if isinstance(module, EdgeOperations)
        for operation in module.operations
    ]
    found.network(images)
    for hook in hooks:
        hook.remove()
    return count


@pytest.mark.parametrize(
    ("role", "mode", "expected"),
    [
        ("pyramid", "sampled", 16),
        ("pyramid", "pc-darts", 16 * len(PYRAMID_CHOICES)),
        ("context", "sampled", 6 * 3),
        ("context", "darts", 6 * 6 * len(CONTEXT_CHOICES)),
    ],
)
def test_what_a_pass_computes(around: ASFDConfig, role: Role, mode: Mode, expected: int) -> None:
    found = supernet(around, role, mode, nodes=3)
    found.draw(np.random.default_rng(0))
    assert computed(found, torch.zeros(2, 3, 128, 128)) == expected
    cells = [m for m in found.network.modules() if isinstance(m, SearchedContext)]
    assert mode == "sampled" or all(cell.joined() == [1, 2, 3] for cell in cells)  # no leaves
    found.settle()
    assert computed(found, torch.zeros(2, 3, 128, 128)) == (16 if role == "pyramid" else 18)


def kept(mode: Mode, nodes: int) -> int:
    """Bytes that a cell keeps of a pass for its backward pass."""
    own = [Choice(number, len(CONTEXT_CHOICES)) for number in range(1, nodes + 1)]
    share = 1 if mode == "darts" else 4
    cell = SearchedContext([Node(c, CONTEXT_CHOICES, 8, share) for c in own], 8, "leaf")
    named = {str(number): choice for number, choice in enumerate(own)}
    found = Supernet(cell, "context", mode, named, lambda _: TREE_CONTEXT)  # type: ignore[arg-type]
    found.draw(np.random.default_rng(0))
    x = torch.rand(1, 8, 16, 16, requires_grad=True)
    return kept_bytes(lambda: cell(x))


def test_memory_grows_with_nodes_not_with_what_is_chosen_from() -> None:
    sampled = [kept("sampled", nodes) for nodes in (2, 4, 8)]
    mixed = [kept("pc-darts", nodes) for nodes in (2, 4, 8)]
    full = [kept("darts", nodes) for nodes in (2, 4, 8)]
    per_node = (sampled[1] - sampled[0]) / 2, (sampled[2] - sampled[1]) / 4
    assert per_node[1] < 1.7 * per_node[0]  # linear, but for what the paths drawn happen to be
    assert mixed[2] - mixed[1] > 3 * (mixed[1] - mixed[0])  # edges grow by the square of nodes
    assert all(a < b < c for a, b, c in zip(sampled, mixed, full, strict=True))
    assert sampled[2] < mixed[2] / 5 < full[2] / 10


def test_memory_on_the_meta_device_is_that_of_the_cpu() -> None:
    def work(device: str) -> int:
        with torch.device(device):
            layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1))
            x = torch.zeros(2, 3, 9, 9)
        return kept_bytes(lambda: layers(x))

    assert work("cpu") == work("meta") == 4 * 2 * (3 * 9 * 9 + 4 * 7 * 7)


@pytest.mark.parametrize("seed", range(2))
def test_what_is_chosen_is_a_genotype_that_networks_are_built_of(
    around: ASFDConfig, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pyramid, context = random_pyramid(rng, 6), random_context(rng, 6, 5, "all")
    for role, genotype, names in (
        ("pyramid", pyramid, PYRAMID_CHOICES),
        ("context", context, CONTEXT_CHOICES),
    ):
        found = supernet(around, role, nodes=5, concat="all")  # type: ignore[arg-type]
        rows = genotype.nodes if isinstance(genotype, PyramidGenotype) else genotype.levels
        edges = [edge for row in rows for edge in row]
        with torch.no_grad():
            for choice, (name, source) in zip(found.choices.values(), edges, strict=True):
                edge = source if role == "context" else 0
                choice.edges[edge] = 2
                choice.operations[edge, names.index(name)] = 3
        assert found.genotype() == genotype
        assert list(found.edges().values()) == edges
        named = dataclasses.replace(around, **{role: genotypes.to_json(genotype)})
        assert named.build()(torch.zeros(2, 3, 128, 128)).logits.isfinite().all()


def test_leaves_are_joined_as_the_genotype_has_them(around: ASFDConfig) -> None:
    found = supernet(around, "context")
    cells = [m for m in found.network.modules() if isinstance(m, SearchedContext)]
    for seed in range(5):
        with torch.no_grad():
            for parameter in found.parameters():
                parameter.normal_(generator=torch.Generator().manual_seed(seed))
        found.settle()
        genotype = found.genotype()
        assert isinstance(genotype, ContextGenotype)
        for level, cell in enumerate(cells):
            assert cell.joined() == list(genotype.joined(level))


def test_draws_follow_their_generator_and_the_largest_leads(around: ASFDConfig) -> None:
    found = supernet(around, "pyramid")
    choice = next(iter(found.choices.values()))

    def drawn(seed: int, *, uniform: bool) -> list[int]:
        found.draw(np.random.default_rng(seed), uniform=uniform)
        return [taken[0][0] for c in found.choices.values() for _, taken in c.paths.values()]

    assert drawn(1, uniform=False) == drawn(1, uniform=False)
    assert {drawn(seed, uniform=True)[0] for seed in range(40)} == set(range(6))
    with torch.no_grad():
        choice.operations[0, 4] = 0.1  # a hundred times the noise
    assert {drawn(seed, uniform=False)[0] for seed in range(40)} == {4}


def test_repeats_of_a_pyramid_are_one_choice(around: ASFDConfig) -> None:
    found = supernet(dataclasses.replace(around, repeats=2), "pyramid")
    assert len(found.choices) == 16
    nodes = [module for module in found.network.modules() if isinstance(module, Node)]
    assert len(nodes) == 32
    assert {id(node.choice) for node in nodes} == {id(c) for c in found.choices.values()}


def test_modules_of_other_systems_are_searched() -> None:
    base = RETINAFACE["retinaface-mobile"]
    for role, count in (("pyramid", 7), ("context", 18)):
        found = supernet(base, role)  # type: ignore[arg-type]
        found.draw(np.random.default_rng(0))
        found.network(torch.zeros(1, 3, 64, 64))
        assert len(found.choices) == count


def test_a_system_without_named_modules_cannot_be_searched() -> None:
    row = next(iter(SMALLHARDFACE.values()))
    with pytest.raises(DataError, match="a pyramid to search"):
        supernet(row, "pyramid")
