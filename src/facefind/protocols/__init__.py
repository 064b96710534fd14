"""How an image is run through a model and how results are merged: the test protocols, by name."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace

from facefind.errors import ProtocolError, did_you_mean
from facefind.protocols.named import PROTOCOLS
from facefind.protocols.rules import (
    DsfdPyramid,
    Pass,
    Scale,
    ShortSide,
    Size,
    TestProtocol,
)
from facefind.protocols.views import View

__all__ = [
    "PROTOCOLS",
    "DsfdPyramid",
    "Pass",
    "Scale",
    "ShortSide",
    "Size",
    "TestProtocol",
    "View",
    "get",
    "parse_size",
]

_SIDE = re.compile(r"[1-9][0-9]{0,4}")
_CONTAINMENT = re.compile(r"containment=([01]|[01]?\.[0-9]+)")
_SIZE = re.compile(r"([1-9][0-9]{0,4})[x×]([1-9][0-9]{0,4})")
_SIDES = re.compile(r"[1-9][0-9]{0,4}(,[1-9][0-9]{0,4})*")


def get(protocol: str | int | TestProtocol) -> TestProtocol:
    """The test protocol of a name, of a size, or the one that was given.

    A size is a long side ("1024", 1024) or width x height to fit inside ("640x480"); it comes with
    the card's threshold and one pass. Either may be varied: "smallhardface:600,1000,1400" has these
    sides in place of its own, "vga:flip" is made mirrored too, "retinaface:no-flip" is not,
    "everyday:turned" also sees the image turned by 90, 180 and 270 degrees, "everyday:1280" has one
    pass at 1280 and its small one, and "everyday:containment=0.6" also suppresses boxes of which
    more than .6 lies inside a better and larger one.

    Raises:
        ProtocolError: for anything else; the message suggests the nearest name.
    """
    if isinstance(protocol, TestProtocol):
        return protocol
    text = str(protocol).strip().lower()
    base, *changes = text.split(":")
    if changes:
        varied = get(base)
        for change in changes:
            varied = _varied(varied, change)
        return replace(varied, name=text)
    if text in PROTOCOLS:
        return PROTOCOLS[text]
    if _SIDE.fullmatch(text):
        return TestProtocol(name=text, sizes=(int(text),))
    with suppress(ProtocolError):
        height, width = parse_size(text)
        return TestProtocol(name=f"{width}x{height}", sizes=((height, width),))
    raise ProtocolError(
        f"no protocol is called {protocol!r}{did_you_mean(text, PROTOCOLS) or '.'} Known: "
        f"{', '.join(PROTOCOLS)}, a long side such as '1024', or a WIDTHxHEIGHT such as '640x480'"
    )


def parse_size(text: str) -> tuple[int, int]:
    """The (height, width) of a text WIDTHxHEIGHT, such as "640x480": written as monitors are.

    Raises:
        ProtocolError: the text is no such thing, or a side is not in 1..99999.
    """
    match = _SIZE.fullmatch(text.strip().lower())
    if match is None:
        raise ProtocolError(f"expected a size WIDTHxHEIGHT, such as 640x480, got {text!r}")
    return int(match[2]), int(match[1])


def _varied(protocol: TestProtocol, change: str) -> TestProtocol:
    """The protocol with a containment, turned passes, other sides (of its own first size's kind) or
    other flips.

    Passes with rules of their own, such as the small one of `everyday`, stay as they are.
    """
    if found := _CONTAINMENT.fullmatch(change):
        return replace(protocol, containment=float(found[1]))
    if change == "turned":
        return replace(protocol, turned=True)
    ruled = tuple(size for size in protocol.sizes if isinstance(size, Pass | DsfdPyramid))
    if len(ruled) == len(protocol.sizes) or any(
        isinstance(size, DsfdPyramid) or size.flip for size in ruled
    ):
        raise ProtocolError(
            f"protocol {protocol.name!r} has rules for each pass and cannot be varied"
        )
    if change in ("flip", "no-flip"):
        return replace(protocol, flip=change == "flip")
    if not _SIDES.fullmatch(change):
        raise ProtocolError(
            f"{change!r} is no change of protocol {protocol.name!r}: expected flip, no-flip, "
            "turned, containment=0.6, or sides in pixels such as 600,1000,1400"
        )
    sides = [int(side) for side in change.split(",")]
    first = protocol.sizes[0]
    if isinstance(first, ShortSide):
        stretch = None if first.max_long_side is None else first.max_long_side / first.side
        shorts = (ShortSide(s, None if stretch is None else int(s * stretch + 0.5)) for s in sides)
        return replace(protocol, sizes=(*shorts, *ruled))
    if isinstance(first, int) or first is None:
        return replace(protocol, sizes=(*sides, *ruled))
    raise ProtocolError(
        f"protocol {protocol.name!r} has no list of sides that others could replace"
    )
