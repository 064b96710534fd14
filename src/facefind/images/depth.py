"""8-bit RGB of arrays of any depth: gray, 16 bits, floats, transparency."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from facefind.errors import ImageError

__all__ = ["from_array", "from_deep", "over_white"]


def from_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    """RGB of an array that a caller gave; a contiguous uint8 RGB one is returned itself.

    Raises:
        ImageError: If its shape, type or values are not those of an image.
    """
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))):
        first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        hint = "; channels come last: use array.transpose(1, 2, 0)" if first else ""
        if array.ndim == 4:
            hint = "; several images are a list of them: list(array)"
        raise ImageError(
            f"an image array has shape (H,W), (H,W,1), (H,W,3) or (H,W,4), got {array.shape}{hint}"
        )
    if 0 in array.shape:
        raise ImageError(f"the array has no pixels: its shape is {array.shape}")
    if array.dtype == np.uint8 and array.shape[2:] == (3,):
        return np.ascontiguousarray(array)
    if array.dtype.kind == "i" or (array.dtype.kind == "u" and array.dtype.itemsize > 2):
        raise ImageError(
            f"an image array is uint8, uint16, bool or float in 0..1, got {array.dtype}; "
            "convert it with array.astype(numpy.uint8) if its values are 0..255"
        )
    return from_deep(array, "the array")


def from_deep(
    array: NDArray[Any], name: str, most: int | None = None, *, inverted: bool = False
) -> NDArray[np.uint8]:
    """RGB of an array whose shape is right, whatever its depth.

    Args:
        array: (H,W) or (H,W,C).
        name: what messages call it.
        most: what whole numbers reach at most; None: 65535, or 255 where numbers of 32 bits are no
            larger.
        inverted: whether 0 is white.

    Raises:
        ImageError: If its type or values are not those of an image.
    """
    kind = array.dtype.kind
    if array.dtype == np.uint8:
        eight = array
    elif kind == "b":
        eight = array.astype(np.uint8) * np.uint8(255)
    elif kind in "iu":
        low, high = int(array.min()), int(array.max())
        limit = 65535 if most is None else most
        if low < 0 or high > limit:
            raise ImageError(
                f"{name} holds whole numbers from {low} to {high}, beyond {limit.bit_length()} "
                "bits; scale it to uint8 before"
            )
        if most is None and array.dtype.itemsize > 2 and high <= 255:
            limit = 255
        eight = ((array.astype(np.uint32) * 255 + limit // 2) // limit).astype(np.uint8)
        if inverted:
            eight = 255 - eight
    elif kind == "f":
        least, greatest = float(array.min()), float(array.max())
        if not (least >= 0 and greatest <= 1):  # NaN ends here too
            raise ImageError(
                f"{name} holds floats from {least:g} to {greatest:g}; floats must lie in 0..1: "
                "convert 0..255 with array.round().clip(0, 255).astype(numpy.uint8)"
            )
        eight = (array * 255 + array.dtype.type(0.5)).astype(np.uint8)
    else:
        raise ImageError(f"{name} is uint8, uint16, bool or float in 0..1, got {array.dtype}")
    if eight.ndim == 2:
        eight = eight[..., None]
    if eight.shape[2] == 1:
        return np.ascontiguousarray(np.broadcast_to(eight, (*eight.shape[:2], 3)))
    return over_white(eight) if eight.shape[2] == 4 else np.ascontiguousarray(eight)


def over_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB of RGBA pixels laid over white."""
    alpha = rgba[..., 3:].astype(np.uint16)
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    mixed = rgba[..., :3] * alpha + 255 * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)
