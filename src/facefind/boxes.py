"""Box arithmetic on NumPy arrays.

A box is `x1, y1, x2, y2` in pixels; a pixel column `i` covers `i .. i+1`, so width is `x2 - x1`.
Everything here is vectorized over the leading axes and keeps the floating dtype it is given
(integers become float64). A box with `x2 <= x1` or `y2 <= y1` is empty: it has area 0 and
overlaps nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.floating[Any]]

__all__ = [
    "area",
    "clip",
    "expand",
    "from_cxcywh",
    "intersection",
    "iou",
    "match",
    "to_cxcywh",
    "to_pixels",
    "to_xywh",
]


def area(boxes: ArrayLike, *, plus_one: bool = False) -> FloatArray:
    """Areas of boxes, (...,4) -> (...) in square pixels; empty boxes have area 0.

    Args:
        boxes: Boxes xyxy.
        plus_one: Count `x2` and `y2` as the last pixels inside, as protocols on whole pixels do.
    """
    b = _boxes(boxes)
    size = b[..., 2:] - b[..., :2]
    if plus_one:
        size = size + 1
    size = np.maximum(size, 0)
    return size[..., 0] * size[..., 1]


def intersection(boxes: ArrayLike, others: ArrayLike, *, plus_one: bool = False) -> FloatArray:
    """Areas shared by each pair, (N,4) and (M,4) -> (N,M) in square pixels."""
    a, b = _pair(boxes, others)
    width = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
    height = np.minimum(a[:, None, 3], b[None, :, 3]) - np.maximum(a[:, None, 1], b[None, :, 1])
    if plus_one:
        width += 1
        height += 1
    np.maximum(width, 0, out=width)
    np.maximum(height, 0, out=height)
    width *= height
    return width


def iou(boxes: ArrayLike, others: ArrayLike, *, plus_one: bool = False) -> FloatArray:
    """Intersection over union of each pair, (N,4) and (M,4) -> (N,M) in 0..1.

    A pair whose union is empty has 0, so an empty box has IoU 0 even with itself.

    Args:
        boxes: N boxes xyxy.
        others: M boxes xyxy.
        plus_one: Count `x2` and `y2` as the last pixels inside, as protocols on whole pixels do.
    """
    a, b = _pair(boxes, others)
    shared = intersection(a, b, plus_one=plus_one)
    union = area(a, plus_one=plus_one)[:, None] + area(b, plus_one=plus_one)[None, :]
    union -= shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def match(boxes: ArrayLike, others: ArrayLike, min_iou: float) -> list[tuple[int, int]]:
    """Pairs (row in `boxes`, row in `others`), each row in one pair at most.

    In their order, best first, `boxes` (N,4) take one of `others` (M,4) each: the one of best IoU
    that is still free, if that IoU is above 0 and at least `min_iou`.
    """
    table = np.asarray(iou(boxes, others), np.float64)
    found: list[tuple[int, int]] = []
    for row, overlaps in enumerate(table if table.size else ()):
        best = int(np.argmax(overlaps))
        if overlaps[best] > 0 and overlaps[best] >= min_iou:
            found.append((row, best))
            table[:, best] = -1
    return found


def clip(boxes: ArrayLike, image_size: tuple[int, int]) -> FloatArray:
    """Boxes clipped to the image of size (h, w), (...,4) -> (...,4)."""
    height, width = image_size
    limits = np.array([width, height, width, height])
    b = _boxes(boxes)
    return np.clip(b, 0, limits.astype(b.dtype))


def expand(boxes: ArrayLike, margin: float) -> FloatArray:
    """Boxes grown about their center by `margin` times their sides on every side, (...,4)."""
    b = _boxes(boxes)
    pad = (b[..., 2:] - b[..., :2]) * b.dtype.type(margin)
    return np.concatenate([b[..., :2] - pad, b[..., 2:] + pad], axis=-1)


def to_pixels(boxes: ArrayLike, image_size: tuple[int, int]) -> NDArray[np.int64]:
    """The smallest whole-pixel boxes that hold the boxes clipped to an image (h, w), (...,4).

    Boxes that have no pixel of the image come back empty: `x2 <= x1` or `y2 <= y1`.
    """
    b = clip(boxes, image_size)
    low, high = np.floor(b[..., :2]), np.ceil(b[..., 2:])
    return np.concatenate([low, np.maximum(low, high)], axis=-1).astype(np.int64)


def to_xywh(boxes: ArrayLike) -> FloatArray:
    """Corner boxes as `x1, y1, width, height`, (...,4) -> (...,4)."""
    b = _boxes(boxes)
    return np.concatenate([b[..., :2], b[..., 2:] - b[..., :2]], axis=-1)


def to_cxcywh(boxes: ArrayLike) -> FloatArray:
    """Corner boxes as `center x, center y, width, height`, (...,4) -> (...,4)."""
    b = _boxes(boxes)
    half = b.dtype.type(0.5)
    return np.concatenate([(b[..., :2] + b[..., 2:]) * half, b[..., 2:] - b[..., :2]], axis=-1)


def from_cxcywh(boxes_cxcywh: ArrayLike) -> FloatArray:
    """Corner boxes of `center x, center y, width, height`, (...,4) -> (...,4)."""
    b = _boxes(boxes_cxcywh)
    half = b[..., 2:] * b.dtype.type(0.5)
    return np.concatenate([b[..., :2] - half, b[..., :2] + half], axis=-1)


def _boxes(boxes: ArrayLike) -> FloatArray:
    array = np.asarray(boxes)
    if array.size == 0 and array.ndim == 1:
        array = array.reshape(0, 4)
    if array.ndim == 0 or array.shape[-1] != 4:
        raise ValueError(f"boxes must have shape (..., 4), got {array.shape}")
    if not np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float64)
    return array


def _pair(boxes: ArrayLike, others: ArrayLike) -> tuple[FloatArray, FloatArray]:
    a, b = _boxes(boxes), _boxes(others)
    if a.ndim != 2 or b.ndim != 2:
        raise ValueError(
            f"expected two lists of boxes (N,4) and (M,4), got {a.shape} and {b.shape}"
        )
    kind = np.result_type(a, b)  # areas of both and what they share are rounded alike
    return a.astype(kind, copy=False), b.astype(kind, copy=False)
