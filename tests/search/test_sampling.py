"""Samples lie in the band and the ranges, and the paper's are uniform."""

from __future__ import annotations

import dataclasses
from itertools import combinations_with_replacement, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facefind.errors import DataError
from facefind.search import sampling
from facefind.search.cost import BACKBONE, STRIDES, Population, cost
from facefind.search.space import (
    SPACES,
    Goal,
    PaperSpace,
    Range,
    ReleasedSpace,
    goal,
    groups,
)
from facefind.systems.scrfd import SCRFDConfig

PAPER = dataclasses.replace(SPACES["paper"], width=Range(8, 96, 8, "a test"))
assert isinstance(PAPER, PaperSpace)


def total(config: SCRFDConfig) -> int:
    return sum(cost(config).multiply_adds.values())


def check(config: SCRFDConfig, aim: Goal) -> None:
    low, high = aim.band
    assert low <= total(config) <= high
    numbers = (*config.widths, *config.stem, config.neck, config.head)
    assert all(n % 8 == 0 and n > 0 for n in numbers)
    assert min(config.depths) >= 1
    assert list(config.widths) == sorted(config.widths)
    if config.block == "depthwise":
        first, second = config.stem
        assert first <= second <= config.widths[0]
    else:
        assert config.stem == config.widths[:1]
    with_groups = config.head_groups or 1
    assert config.head % with_groups == 0


def build(config: SCRFDConfig) -> None:
    """Fails where the parts of a network do not fit together."""
    with torch.device("meta"):
        config.build()


@settings(max_examples=12)
@given(
    st.floats(0.6, 3),
    st.sampled_from([0.02, 0.005, 0.1]),
    st.sampled_from(["depthwise", "basic", "bottleneck", "either"]),
    st.integers(0, 1000),
)
def test_paper_backbones(gflops: float, tolerance: float, block: str, seed: int) -> None:
    aim = Goal(gflops=gflops, block=block, neck=16, head=32, tolerance=tolerance)
    found = sampling.backbones(PAPER, aim, 6, seed)
    assert len(set(found)) == 6
    assert found == sampling.backbones(PAPER, aim, 6, seed)
    build(found[seed % 6])
    for config in found:
        check(config, aim)
        assert (config.neck, config.head, config.head_depth) == (16, 32, 2)
        assert all(d in PAPER.depth for d in config.depths)
        assert all(w in PAPER.width for w in config.widths)


@settings(max_examples=8)
@given(st.floats(0.6, 3), st.sampled_from(["depthwise", "basic", "bottleneck"]), st.integers(0, 99))
def test_paper_detectors(gflops: float, block: str, seed: int) -> None:
    aim = goal(gflops, block=block)
    middle = {"depthwise": (0.15, 0.2, 0.2, 0.2, 0.25)}.get(block, (0.1, 0.3, 0.25, 0.2, 0.15))
    shares = {part: (0.5 * m, 1.5 * m) for part, m in zip(BACKBONE, middle, strict=True)}
    found = sampling.detectors(PAPER, aim, 5, seed, shares=shares)
    build(found[seed % 5])
    for config in found:
        check(config, aim)
        assert config.neck in PAPER.neck
        assert config.head in PAPER.head
        assert config.head_depth in PAPER.head_depth
        costs = cost(config)
        for part, (low, high) in shares.items():
            assert low <= costs.share(part, of=BACKBONE) <= high


@settings(max_examples=3)
@given(st.floats(1, 30), st.integers(0, 99))
def test_released_space(gflops: float, seed: int) -> None:
    space, aim = SPACES["released"], goal(gflops, "released", neck=24, head=32)
    assert isinstance(space, ReleasedSpace)
    found = sampling.backbones(space, aim, 8, seed)
    build(found[seed % 8])
    for config in found:
        check(config, aim)
        assert all(d in space.depth for d in config.depths)
        assert 8 <= config.widths[0] <= 64
        for before, after in zip(config.widths, config.widths[1:], strict=False):
            assert before <= after <= 4 * before
    template = found[0]
    was = cost(template).multiply_adds
    scaled = sampling.detectors(space, aim, 3, seed, template=template)
    build(scaled[seed % 3])
    for config in scaled:
        check(config, aim)
        assert config.block == template.block
        assert 8 <= config.neck <= 128
        assert 8 <= config.head <= 256
        now = cost(config).multiply_adds
        for part in BACKBONE[1:]:
            ratio = (was[part] / was["stem"]) / (now[part] / now["stem"])
            assert abs(ratio - 1) <= 0.1 + 1e-9


def brute_force(space: PaperSpace, aim: Goal, rest: list[tuple[int, int, int]]) -> set[SCRFDConfig]:
    found = set()
    backbones = product(
        combinations_with_replacement(space.width.values(), 4),
        product(space.depth.values(), repeat=4),
    )
    for widths, depths in backbones:
        stems = [(widths[0],)]
        if aim.block == "depthwise":
            stems = list(combinations_with_replacement(range(8, widths[0] + 1, 8), 2))
        for stem, (neck, head, depth) in product(stems, rest):
            config = SCRFDConfig(
                block=aim.block, depths=depths, widths=widths, stem=stem, neck=neck, head=head,
                head_depth=depth, head_groups=8,
            )  # fmt: skip
            found.add(config)
    everything = list(found)
    keep = sampling.on_goal(Population.from_configs(everything), aim)
    return {config for config, kept in zip(everything, keep, strict=True) if kept}


TINY = PaperSpace(
    depth=Range(1, 3, 1, "a test"), width=Range(8, 32, 8, "a test"), neck=Range(8, 16, 8, "a test"),
    head=Range(8, 8, 8, "a test"), head_depth=Range(1, 2, 1, "a test"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("block", "gflops"), [("basic", 0.4), ("bottleneck", 0.3), ("depthwise", 0.08)]
)
def test_paper_backbones_are_all_of_them_equally_often(block: str, gflops: float) -> None:
    aim = Goal(gflops=gflops, block=block, neck=8, head=8, tolerance=0.05)
    wanted = brute_force(TINY, aim, [(8, 8, 2)])
    assert len(wanted) > 20
    fixed = np.array([[8, 8, 2]], np.int64)
    draw = sampling._paper(TINY, aim, np.random.default_rng(0), fixed, None)
    tally: dict[SCRFDConfig, int] = dict.fromkeys(wanted, 0)
    while sum(tally.values()) < 60 * len(wanted):
        proposals = draw()
        kept = proposals.take(sampling.on_goal(proposals, aim))
        rows = np.hstack([kept.depths, kept.widths, kept.stem])
        _, first, times = np.unique(rows, axis=0, return_index=True, return_counts=True)
        for config, count in zip(sampling._configs(kept.take(first), TINY), times, strict=True):
            tally[dataclasses.replace(config, head_groups=8)] += count  # KeyError: not on the goal
    counts = np.array(list(tally.values()))
    mean = counts.mean()
    chi = float(((counts - mean) ** 2 / mean).sum())
    spread = np.sqrt(2 * len(counts))
    assert abs(chi - len(counts)) < 5 * spread


SHARES = {"stem": (0.05, 0.6), "c2": (0.1, 0.6), "c4": (0.05, 0.5)}


@pytest.mark.parametrize(
    ("block", "gflops", "shares"),
    [("basic", 0.4, SHARES), ("depthwise", 0.08, SHARES), ("basic", 0.4, {})],
)
def test_paper_detectors_miss_none(block: str, gflops: float, shares: sampling.Shares) -> None:
    aim = Goal(gflops=gflops, block=block, neck=8, head=8, tolerance=0.05)
    rest = list(product((8, 16), (8,), (1, 2)))

    def within(config: SCRFDConfig) -> bool:
        found = cost(config)
        return all(a <= found.share(p, of=BACKBONE) <= b for p, (a, b) in shares.items())

    wanted = {config for config in brute_force(TINY, aim, rest) if within(config)}
    found = sampling.detectors(TINY, aim, len(wanted), shares=shares)
    assert {dataclasses.replace(config, head_groups=8) for config in found} == wanted


def test_what_cannot_be_drawn_is_an_error() -> None:
    with pytest.raises(DataError, match=r"0\.01 GF"):
        sampling.backbones(SPACES["paper"], goal(0.01), 1)
    with pytest.raises(DataError, match="template"):
        sampling.detectors(SPACES["released"], goal(2.5, "released"), 1)
    with pytest.raises(DataError, match="shares"):
        sampling.detectors(SPACES["paper"], goal(2.5), 1)
    for wrong in ({"neck": 12}, {"head_depth": -1}, {"tolerance": 0.0}):
        with pytest.raises(DataError, match="expected"):
            goal(2.5, **wrong)
    with pytest.raises(DataError, match="residual"):
        goal(0.5, "released", block="depthwise")
    with pytest.raises(DataError, match="positive"):
        goal(0)


def test_every_limit_names_its_source() -> None:
    for space in SPACES.values():
        for value in vars(space).values():
            if not isinstance(value, int | float | str):
                assert "SCRFD" in value.source or "insightface" in value.source
    assert goal(2.5).neck == 32
    assert goal(2.5, "released").neck == 48
    assert goal(30).block == "bottleneck"
    assert STRIDES == (8, 16, 32)


def test_groups() -> None:
    assert [groups("released", h) for h in (8, 64, 80, 96, 256)] == [8, 64, 16, 32, 64]
    assert [groups("paper", h) for h in (8, 64, 80, 96, 120, 256)] == [8, 16, 16, 16, 8, 16]
    assert groups("paper", 64, 24) == 8
