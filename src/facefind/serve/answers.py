"""What requests are answered with: lines of JSON, and pictures, made of a picture and its faces."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facefind.errors import ImageError
from facefind.pipeline.pictures import Still
from facefind.serve.errors import RequestError

__all__ = ["MEDIA", "accepted", "encode"]

MEDIA: dict[str, Still] = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
"""Kinds of pictures that may be requested, with Pillow's names of their formats."""
_QUALITY = {"JPEG": 92, "WEBP": 90}


def accepted(accept: str, offered: Sequence[str]) -> str:
    """The media type to answer with: the one of `offered` that an Accept header likes best.

    Of those it likes alike it is the first; the first of all where nothing is said.

    Raises:
        RequestError: it likes none.
    """
    if not accept.strip():
        return offered[0]
    likes: dict[str, float] = {}
    for item in accept.split(","):
        kind, *parameters = (word.strip().lower() for word in item.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        likes[kind] = weight

    def liking(kind: str) -> float:
        group = kind.partition("/")[0]
        return next((likes[one] for one in (kind, f"{group}/*", "*/*") if one in likes), 0.0)

    best = max(offered, key=liking)
    if liking(best) <= 0:
        raise RequestError(
            406,
            "not-acceptable",
            f"Accept {accept[:100]!r}: expected one of {', '.join(offered)}",
        )
    return best


def encode(pixels: NDArray[np.uint8], media: str) -> bytes:
    """The file of a picture (H,W,3) uint8 RGB, of one of `MEDIA`, with no metadata.

    Raises:
        ImageError: the format holds no picture of this size.
    """
    from PIL import Image

    form = MEDIA[media]
    file = io.BytesIO()
    options: dict[str, Any] = {"quality": _QUALITY[form]} if form in _QUALITY else {}
    if form == "PNG":
        options["compress_level"] = 3
    try:
        Image.fromarray(pixels).save(file, form, **options)
    except (OSError, ValueError) as error:
        height, width = pixels.shape[:2]
        raise ImageError(f"{media} holds no picture of {width} x {height} pixels") from error
    return file.getvalue()
