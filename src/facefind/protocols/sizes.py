"""Image sizes as users write them."""

from __future__ import annotations

import re

from facefind.errors import ProtocolError

__all__ = ["parse_size"]

_SIZE = re.compile(r"([1-9][0-9]{0,4})[x×]([1-9][0-9]{0,4})")


def parse_size(text: str) -> tuple[int, int]:
    """The (height, width) of a text WIDTHxHEIGHT, such as "640x480": written as monitors are.

    Raises:
        ProtocolError: the text is no such thing, or a side is not in 1..99999.
    """
    match = _SIZE.fullmatch(text.strip().lower())
    if match is None:
        raise ProtocolError(f"expected a size WIDTHxHEIGHT, such as 640x480, got {text!r}")
    return int(match[2]), int(match[1])
