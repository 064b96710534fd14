"""How an image is shown to a model and how what it finds is merged: the test protocols, by name."""

from __future__ import annotations

import re
from difflib import get_close_matches

from facefind.errors import ProtocolError
from facefind.protocols.named import PROTOCOLS
from facefind.protocols.rules import Pass, Scale, Short, Shrink, Size, TestProtocol, View

__all__ = [
    "PROTOCOLS",
    "Pass",
    "Scale",
    "Short",
    "Shrink",
    "Size",
    "TestProtocol",
    "View",
    "get",
]

_SIDE = re.compile(r"[1-9][0-9]{0,4}")
_BOX = re.compile(r"([1-9][0-9]{0,4})[x×]([1-9][0-9]{0,4})")


def get(protocol: str | int | TestProtocol) -> TestProtocol:
    """Return the test protocol of a name, of a size, or the one that was given.

    A size is a long side ("1024", 1024) or width x height to fit inside ("640x480"); it comes with
    the card's threshold and one pass. Anything else raises ProtocolError.
    """
    if isinstance(protocol, TestProtocol):
        return protocol
    text = str(protocol).strip().lower()
    if text in PROTOCOLS:
        return PROTOCOLS[text]
    if _SIDE.fullmatch(text):
        return TestProtocol(name=text, sizes=(int(text),))
    if box := _BOX.fullmatch(text):
        width, height = int(box[1]), int(box[2])
        return TestProtocol(name=f"{width}x{height}", sizes=((height, width),))
    near = get_close_matches(text, PROTOCOLS, 1)
    raise ProtocolError(
        f"no protocol is called {protocol!r}"
        + (f", did you mean {near[0]!r}?" if near else "")
        + f" Known: {', '.join(PROTOCOLS)}, a long side such as '1024', or a WIDTHxHEIGHT"
        " such as '640x480'"
    )
