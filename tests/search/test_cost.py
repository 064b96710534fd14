"""Cost by arithmetic is the cost that a pass through the network counts."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facefind.errors import DataError
from facefind.nn.cost import measure
from facefind.search.cost import BACKBONE, PARTS, Population, cost, multiply_adds, parameters
from facefind.systems import scrfd
from facefind.systems.scrfd import FAMILY, SCRFDConfig

ROWS = getattr(scrfd, "ROWS", FAMILY)


def same_as_measured(config: SCRFDConfig, height: int, width: int) -> None:
    found = cost(config, height, width)
    with torch.device("meta"):
        measured = measure(config.build(), height, width)
    for kind in ("multiply_adds", "parameters"):
        mine = getattr(found, kind)
        assert sum(mine[part] for part in BACKBONE) == measured.parts["backbone"][kind]
        assert mine["neck"] == measured.parts["neck"][kind]
        assert mine["head"] == measured.parts["head"][kind]
        assert sum(mine.values()) == getattr(measured, kind)


@pytest.mark.parametrize("row", ROWS)
def test_every_row_of_the_family(row: str) -> None:
    same_as_measured(ROWS[row], 96, 64)


def test_the_rows_at_vga_cost_what_their_names_say() -> None:
    for row, giga in (("scrfd-500m", 0.478), ("scrfd-2.5g", 2.498)):
        found = cost(FAMILY[row])
        assert sum(found.multiply_adds.values()) / 1e9 == pytest.approx(giga, abs=1e-3)
        assert found.share(*PARTS) == found.share(*BACKBONE, of=BACKBONE) == 1


eights = st.integers(1, 5).map(lambda n: 8 * n)
fours = st.tuples(eights, eights, eights, eights)
configs = st.builds(
    SCRFDConfig,
    block=st.sampled_from(["depthwise", "basic", "bottleneck"]),
    depths=st.tuples(*[st.integers(1, 3)] * 4),
    widths=fours,
    stem=st.tuples(eights, eights),
    neck=eights,
    head=eights,
    head_depth=st.integers(1, 3),
    head_groups=st.sampled_from([8, None]),
    shared_head=st.booleans(),
    scales=st.booleans(),
    landmarks=st.booleans(),
)


@settings(max_examples=20)
@given(configs, st.sampled_from([(64, 64), (64, 96), (96, 64)]))
def test_any_configuration(config: SCRFDConfig, size: tuple[int, int]) -> None:
    same_as_measured(config, *size)


def test_stage_by_stage() -> None:
    config = FAMILY["scrfd-2.5g"]
    found = cost(config)
    with torch.device("meta"):
        measured = measure(config.build().backbone, 480, 640).parts
    for part, name in zip(BACKBONE, ("stem", "layer1", "layer2", "layer3", "layer4"), strict=True):
        assert found.multiply_adds[part] == measured[name]["multiply_adds"]
        assert found.parameters[part] == measured[name]["parameters"]


def test_many_at_once_are_those_one_by_one_and_fast() -> None:
    rng = np.random.default_rng(0)
    base = FAMILY["scrfd-34g"]
    some = [
        dataclasses.replace(base, widths=tuple(8 * rng.integers(1, 64, 4)), neck=8 * n)
        for n in range(1, 20)
    ]
    population = Population.from_configs(some)
    assert len(population) == 19
    table, numbers = multiply_adds(population), parameters(population)
    for row, config in enumerate(some):
        assert table[row].tolist() == list(cost(config).multiply_adds.values())
        assert numbers[row].tolist() == list(cost(config).parameters.values())
    many = population.take(np.zeros(20_000, np.int64))
    began = time.perf_counter()
    multiply_adds(many)
    assert 20_000 / (time.perf_counter() - began) > 5_000  # in truth a hundred times that


def test_what_cannot_be_counted_is_an_error() -> None:
    with pytest.raises(DataError, match="multiples of 32"):
        cost(FAMILY["scrfd-2.5g"], 100, 100)
    with pytest.raises(DataError, match="one kind"):
        Population.from_configs(list(FAMILY.values()))
