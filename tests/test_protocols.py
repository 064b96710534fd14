from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facefind import protocols
from facefind.errors import ProtocolError
from facefind.protocols import PROTOCOLS, Pass, ShortSide, TestProtocol

side = st.integers(1, 5000)
sizes = st.none() | st.integers(1, 3000) | st.tuples(st.integers(1, 3000), st.integers(1, 3000))


def test_vga_is_the_protocol_of_scrfds_tables() -> None:
    vga = protocols.get("vga")
    assert (vga.sizes, vga.flip, vga.min_score, vga.nms_iou) == ((640,), False, 0.02, 0.45)
    assert vga.voting is None
    assert protocols.get("original").sizes == (None,)


@pytest.mark.parametrize(
    ("image", "shown"),
    [((480, 640), (480, 640)), ((100, 50), (640, 320)), ((1280, 886), (640, 443))],
)
def test_vga_brings_the_long_side_to_640_up_or_down(
    image: tuple[int, int], shown: tuple[int, int]
) -> None:
    assert protocols.get("vga").target(image, 640) == shown


@pytest.mark.parametrize(
    ("given_name", "name", "expected"),
    [
        ("1024", "1024", (1024,)),
        (320, "320", (320,)),
        ("640x480", "640x480", ((480, 640),)),
        (" 640X480 ", "640x480", ((480, 640),)),
        ("VGA", "vga", (640,)),
        ("Everyday", "everyday", (640, Pass(size=160, square=True, min_input_size=64))),
    ],
)
def test_a_name_or_a_size_gives_a_protocol(given_name: Any, name: str, expected: Any) -> None:
    protocol = protocols.get(given_name)
    assert (protocol.name, protocol.sizes) == (name, expected)
    assert protocols.get(protocol) is protocol


def test_a_box_is_width_by_height_and_the_image_fits_inside() -> None:
    protocol = protocols.get("640x480")
    (size,) = protocol.sizes
    assert protocol.target((1000, 1000), size) == (480, 480)
    assert protocol.target((100, 1000), size) == (64, 640)


@pytest.mark.parametrize("name", ["vgaa", "", "0", "-3", "640x", "x", "640x0", "1e3", "123456"])
def test_an_unknown_name_is_an_error_that_lists_the_known(name: str) -> None:
    with pytest.raises(ProtocolError, match=r"no protocol is called.*vga.*WIDTHxHEIGHT"):
        protocols.get(name)


def test_a_protocol_may_be_varied_by_its_name() -> None:
    released = protocols.get("smallhardface-released")
    fewer = protocols.get("SmallHardFace-Released:600,1000:no-flip")
    assert fewer.name == "smallhardface-released:600,1000:no-flip"
    assert fewer.sizes == (ShortSide(600, 900), ShortSide(1000, 1500))
    assert fewer == replace(released, name=fewer.name, sizes=fewer.sizes, flip=False)
    assert protocols.get("smallhardface:100,300").sizes == (ShortSide(100), ShortSide(300))
    assert protocols.get("vga:320,640:flip").sizes == (320, 640)
    assert protocols.get("640:flip") == TestProtocol(name="640:flip", sizes=(640,), flip=True)
    assert protocols.get("smallhardface:100,300,600,1000,1400").sizes == released_shorts()
    small = Pass(size=160, square=True, min_input_size=64)
    assert protocols.get("everyday:1280,640").sizes == (1280, 640, small)
    assert protocols.get("everyday:flip").sizes == (640, small)
    assert protocols.get("everyday:flip").flip
    assert protocols.get("everyday:containment=.6").containment == 0.6
    assert protocols.get("dsfd:containment=1").containment == 1
    dsfd = protocols.get("dsfd:turned")
    assert len(dsfd.views((480, 640))) == 4 * len(protocols.get("dsfd").views((480, 640)))
    assert not protocols.get("640:turned").is_plain


def released_shorts() -> tuple[ShortSide, ...]:
    """The five short sides, which the released code cuts at 1.5 times themselves."""
    released = protocols.get("smallhardface-released").sizes
    return tuple(ShortSide(size.side) for size in released if isinstance(size, ShortSide))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("vga:flipped", "'flipped' is no change"),
        ("vga:", "expected flip, no-flip, turned, containment=0.6, or sides"),
        ("vga:containment=", "is no change"),
        ("vga:containment=1.2", "containment must lie in 0..1"),
        ("vga:0", "is no change"),
        ("640x480:320", "no list of sides"),
        ("dsfd:no-flip", "rules for each pass"),
        ("dsfd-fddb:no-flip", "rules for each pass"),
        ("smallhardface-released:600:320,x", "'320,x'"),
        ("nonesuch:flip", "no protocol is called 'nonesuch'"),
    ],
)
def test_a_variation_that_makes_no_sense_is_told(text: str, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        protocols.get(text)


def test_a_near_name_is_suggested() -> None:
    with pytest.raises(ProtocolError, match="did you mean 'everyday'"):
        protocols.get("every-day")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sizes": ()}, "no size"),
        ({"sizes": (0,)}, "size must be positive"),
        ({"sizes": ((640, -1),)}, "size must be positive"),
        ({"nms_iou": 1.5}, "nms_iou"),
        ({"containment": -0.5}, "containment"),
        ({"voting": -0.1}, "voting"),
        ({"min_score": 2}, "min_score"),
        ({"max_candidates": 0}, "max_candidates"),
        ({"max_faces": 0}, "max_faces"),
        ({"max_pixels": 0}, "max_pixels"),
    ],
)
def test_settings_that_cannot_be_are_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ProtocolError, match=f"'odd'.*{said}"):
        TestProtocol(name="odd", **fields)


@given(side, side, sizes, st.integers(1, 10**7))
def test_a_pass_never_has_more_pixels_than_allowed_nor_another_shape(
    height: int, width: int, size: Any, most: int
) -> None:
    protocol = TestProtocol(name="p", sizes=(size,), max_pixels=most)
    h, w = protocol.target((height, width), size)
    assert h * w <= most or min(h, w) == 1
    if min(h, w) > 20:  # below, rounding to whole pixels is coarse
        assert math.isclose(h / w, height / width, rel_tol=0.06)


@given(side, side)
def test_the_original_size_stays_within_the_bound(height: int, width: int) -> None:
    shown = PROTOCOLS["original"].target((height, width), None)
    if height * width <= PROTOCOLS["original"].max_pixels:
        assert shown == (height, width)
    else:
        assert shown[0] * shown[1] <= PROTOCOLS["original"].max_pixels


def test_a_size_is_read_as_width_by_height_and_comes_as_height_and_width() -> None:
    assert protocols.parse_size("640x480") == (480, 640)
    assert protocols.parse_size(" 1920X1080 ") == (1080, 1920)
    for text in ("640", "x480", "0x480", "640x480x3", "-1x5", "a x b", ""):
        with pytest.raises(ProtocolError, match="expected a size WIDTHxHEIGHT"):
            protocols.parse_size(text)
