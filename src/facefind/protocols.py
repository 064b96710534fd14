"""How an image is shown to a model and how what it finds is merged: the test protocols, by name."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import ClassVar

from facefind.errors import ProtocolError
from facefind.images import fit

Size = int | tuple[int, int] | None
"""A long side in pixels, a (height, width) to fit inside, or None for the image's own size."""


@dataclass(frozen=True, kw_only=True)
class TestProtocol:
    """The settings that turn the same model into different numbers, kept together.

    Attributes:
        name: What results made with it are filed under.
        sizes: One pass a size; the image keeps its proportions and grows where it is smaller.
        flip: Whether each pass is made a second time on the mirrored image.
        min_score: Scores below are left out; None takes the threshold on the model's card.
        nms_iou: IoU above which the lesser of two boxes is suppressed.
        voting: IoU from which boxes are averaged, weighted by score, in place of suppression;
            None suppresses.
        max_candidates: Only the best so many of all passes reach suppression.
        max_faces: Only the best so many faces are given; None gives all.
        max_pixels: A pass that would have more is shrunk to it, so that memory is bounded.
    """

    __test__: ClassVar[bool] = False  # the name begins with Test, yet pytest has nothing to collect

    name: str
    sizes: tuple[Size, ...] = (640,)
    flip: bool = False
    min_score: float | None = None
    nms_iou: float = 0.45
    voting: float | None = None
    max_candidates: int = 5000
    max_faces: int | None = None
    max_pixels: int = 4096 * 4096

    def __post_init__(self) -> None:
        if not self.sizes:
            raise ProtocolError(f"protocol {self.name!r} has no size: name at least one")
        for size in self.sizes:
            sides = (size,) if isinstance(size, int) else (() if size is None else size)
            if any(side < 1 for side in sides):
                raise ProtocolError(f"protocol {self.name!r}: a size must be positive, got {size}")
        rates = {"nms_iou": self.nms_iou, "voting": self.voting, "min_score": self.min_score}
        for key, rate in rates.items():
            if rate is not None and not 0 <= rate <= 1:
                raise ProtocolError(f"protocol {self.name!r}: {key} must lie in 0..1, got {rate}")
        counts = {
            "max_candidates": self.max_candidates,
            "max_faces": self.max_faces,
            "max_pixels": self.max_pixels,
        }
        for key, count in counts.items():
            if count is not None and count < 1:
                raise ProtocolError(f"protocol {self.name!r}: {key} must be positive, got {count}")

    def target(self, image_size: tuple[int, int], size: Size) -> tuple[int, int]:
        """Return the (height, width) at which an image is shown in the pass of one size."""
        height, width = fit(image_size, size)
        if height * width <= self.max_pixels:
            return height, width
        shrink = math.sqrt(self.max_pixels / (height * width))
        return fit(image_size, (max(1, int(height * shrink)), max(1, int(width * shrink))))


_MEASURED = TestProtocol(name="vga", min_score=0.02)
PROTOCOLS: Mapping[str, TestProtocol] = MappingProxyType(
    {
        "vga": _MEASURED,
        "original": replace(_MEASURED, name="original", sizes=(None,)),
        "full": TestProtocol(name="full", sizes=(None,)),
        "close-up": TestProtocol(name="close-up", sizes=(640, 160)),
    }
)
"""Named protocols.

`vga` and `original` are those of SCRFD's tables (WIDER FACE at a long side of 640, and unscaled):
one pass, all scores from 0.02, NMS at 0.45. `full` is `original` with the card's threshold, to use
rather than to measure. `close-up` adds a small pass, which finds faces that fill the image.

Source: SCRFD, sec. 5.1; score floor and NMS threshold as in the authors' configurations.
"""

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
