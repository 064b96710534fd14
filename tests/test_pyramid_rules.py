"""The sizes of each protocol's passes are the papers', and protocols say all that they are."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import pyramid_protocol

from facefind import protocols
from facefind.errors import ProtocolError
from facefind.protocols import (
    PROTOCOLS,
    DsfdPyramid,
    Pass,
    Scale,
    ShortSide,
    TestProtocol,
    asfd,
    dsfd,
    named,
)

side = st.integers(20, 6000)


@given(side, side)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dsfd", {}),
        ("dsfd-released", {}),
        ("asfd", {}),
        ("dsfd-demo", {"pixels": 2000 * 2000, "most": None, "finer": False}),
    ],
)
def test_shrink_rules_are_those_of_the_released_code(
    name: str, options: dict[str, Any], height: int, width: int
) -> None:
    got = []
    for step in protocols.get(name).passes((height, width)):
        assert isinstance(step.size, Scale)
        least = -math.inf if step.min_size is None else step.min_size
        most = math.inf if step.max_size is None else step.max_size
        for mirrored in (False, True) if step.flip else (False,):
            got.append((step.size.factor, mirrored, least, most))
    want = pyramid_protocol.dsfd(height, width, **options)
    np.testing.assert_allclose(np.array(sorted(got)), np.array(sorted(want)), rtol=1e-9)


def test_shrink_of_s3fd_has_neither_steps_nor_extra() -> None:
    rule = DsfdPyramid(max_pixels=0x7FFFFFFF / 577, max_scale=None, steps=(), extra=())
    sizes = [step.size for step in rule.passes((768, 1024))]
    assert [size.factor for size in sizes if isinstance(size, Scale)] == pytest.approx(
        [1, 0.5, 2, 2.17534], rel=1e-4
    )


@given(side, side)
@pytest.mark.parametrize("name", ["retinaface", "smallhardface"])
def test_short_sides_are_those_of_paper_and_released_code(
    name: str, height: int, width: int
) -> None:
    for rules, capped in ((PROTOCOLS[name], False), (PROTOCOLS[f"{name}-released"], True)):
        for size, plain in zip(rules.sizes, PROTOCOLS[name].sizes, strict=True):
            assert isinstance(size, ShortSide)
            assert isinstance(plain, ShortSide)
            factor = pyramid_protocol.short_side(height, width, plain.side, capped=capped)
            want = pyramid_protocol.resized(height, width, factor)
            # Where a side comes to half a pixel exactly, the last bit of the factor decides.
            assert np.abs(np.subtract(size.fit((height, width)), want)).max() <= 1
            if not capped:
                assert min(size.fit((height, width))) == plain.side


@pytest.mark.parametrize(
    ("size", "image", "shown"),
    [
        (ShortSide(1600, 2150), (768, 1024), (1600, 2133)),
        (ShortSide(1600, 2150), (683, 1024), (1434, 2150)),
        (ShortSide(1100, 1650), (1024, 683), (1649, 1100)),
        (ShortSide(1100, 1650), (2000, 1000), (1650, 825)),
        (ShortSide(500, 750), (1000, 3000), (250, 750)),
        (Scale(0.25), (3, 1), (1, 1)),
    ],
)
def test_sizes_by_hand(
    size: ShortSide | Scale, image: tuple[int, int], shown: tuple[int, int]
) -> None:
    assert size.fit(image) == shown
    assert TestProtocol(name="p", sizes=(size,)).target(image, size) == shown


def test_a_protocol_is_plain_json_that_tells_protocols_apart() -> None:
    seen = set()
    for name, rules in PROTOCOLS.items():
        said = rules.to_dict()
        assert json.loads(json.dumps(said)) == said
        assert said["name"] == rules.name == name
        assert set(said) == {field.name for field in fields(TestProtocol)}
        seen.add(json.dumps({**said, "name": ""}))
    assert len(seen) == len(PROTOCOLS)
    assert PROTOCOLS["retinaface-released"].to_dict()["sizes"][0] == {
        "kind": "ShortSide",
        "side": 500,
        "max_long_side": 750,
    }
    assert TestProtocol(name="p", sizes=((480, 640), None, 3)).to_dict()["sizes"] == [
        [480, 640],
        None,
        3,
    ]


def test_every_protocol_says_where_it_comes_from() -> None:
    modules = (named, dsfd, asfd)
    tree = [part for module in modules for part in ast.parse(inspect.getsource(module)).body]
    said = {}
    for made, doc in itertools.pairwise(tree):
        if isinstance(made, ast.Assign) and isinstance(doc, ast.Expr):
            (target,) = made.targets
            assert isinstance(target, ast.Name)
            said[target.id] = ast.literal_eval(doc.value)
    for name, rules in PROTOCOLS.items():
        constant = name.upper().replace("-", "_")
        assert any(getattr(module, constant, None) is rules for module in modules)
        assert "\nSource: " in said[constant], name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ShortSide(0), "must be positive"),
        (lambda: ShortSide(5, 0), "must be positive"),
        (lambda: Scale(0), "must be positive"),
        (lambda: Scale(math.inf), "must be positive"),
        (lambda: DsfdPyramid(max_pixels=0), "must be positive"),
        (lambda: DsfdPyramid(steps=(-1,)), "must be positive"),
        (lambda: TestProtocol(name="odd", sizes=(Pass(size=0),)), "'odd'.*must be positive"),
        (lambda: TestProtocol(name="odd", shifts=()), "'odd'.*shifts"),
        (lambda: TestProtocol(name="odd", shifts=((0, -1),)), "'odd'.*shifts"),
        (lambda: TestProtocol(name="odd", pass_candidates=0), "'odd'.*pass_candidates"),
        (lambda: TestProtocol(name="odd", pass_nms_iou=2), "'odd'.*pass_nms_iou"),
        (lambda: TestProtocol(name="odd", singletons="some"), "'odd'.*singletons"),  # type: ignore[arg-type]
        (lambda: TestProtocol(name="odd", rounding="up"), "'odd'.*rounding"),  # type: ignore[arg-type]
    ],
)
def test_settings_that_cannot_be_are_named(make: Any, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        make()
