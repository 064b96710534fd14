"""How far rectangles and ellipses cover each other, by pixels or exactly."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from facefind.datasets.fddb import bounding_boxes
from facefind.errors import DataError, RuntimeUnavailableError

Mode = Literal["official", "exact"]
Floats = npt.NDArray[np.float64]

_CORNERS = 720  # of the polygon that approximates the second of two ellipses
_SHORTEST = 1e-150  # square of an edge's length that has a direction


def overlaps(regions: Floats, others: Floats, size: tuple[int, int], mode: Mode) -> Floats:
    """IoU (N, M) inside a picture of size (height, width).

    A region is a rectangle, four numbers xyxy, or an ellipse, five: major and minor radius,
    angle in radians, center. `official` draws filled OpenCV shapes as FDDB's program does:
    centers and corners rounded, radii truncated, the angle in whole degrees. `exact` takes areas
    in the plane (an ellipse against an ellipse to within 1e-4).

    Raises:
        RuntimeUnavailableError: mode "official" without OpenCV.
    """
    result = np.zeros((len(regions), len(others)))
    if result.size == 0:
        return result
    boxes, other_boxes = _bounds(regions), _bounds(others)
    low = np.maximum(boxes[:, None, :2], other_boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], other_boxes[None, :, 2:])
    near = np.argwhere((low <= high + 2).all(axis=2))
    if mode == "exact":
        for i, j in near:
            result[i, j] = _iou_exact(regions[i], others[j], size)
    else:
        for i, j in near:
            result[i, j] = _iou_pixels(regions[i], others[j], size)
    return result


def _bounds(regions: Floats) -> Floats:
    if regions.ndim != 2 or regions.shape[1] not in (4, 5):
        raise DataError(f"expected regions of shape (N, 4) or (N, 5), got {regions.shape}")
    return regions if regions.shape[1] == 4 else bounding_boxes(regions)


def _iou_pixels(region: Floats, other: Floats, size: tuple[int, int]) -> float:
    try:
        import cv2
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"FDDB's official overlap draws with OpenCV, which cannot be imported ({error}): "
            "pip install 'facefind[cv]', or take mode='exact'"
        ) from error
    bounds = np.stack([_bounds(region[None])[0], _bounds(other[None])[0]])
    x, y = np.maximum(np.floor(bounds[:, :2].min(axis=0)).astype(int) - 2, 0)
    right, bottom = np.ceil(bounds[:, 2:].max(axis=0)).astype(int) + 3
    width, height = min(right, size[1]) - x, min(bottom, size[0]) - y
    if width <= 0 or height <= 0:
        return 0.0
    masks = []
    for shape in (region, other):
        mask = np.zeros((height, width), np.uint8)
        if len(shape) == 4:
            corners = [int(np.floor(v + 0.5)) for v in shape]
            cv2.rectangle(
                mask, (corners[0] - x, corners[1] - y), (corners[2] - x, corners[3] - y), 1, -1
            )
        else:
            center = int(np.floor(shape[3] + 0.5)) - x, int(np.floor(shape[4] + 0.5)) - y
            radii = int(abs(shape[0])), int(abs(shape[1]))
            cv2.ellipse(mask, center, radii, float(np.degrees(shape[2])), 0, 360, 1, -1)
        masks.append(mask > 0)
    union = int(np.count_nonzero(masks[0] | masks[1]))
    return int(np.count_nonzero(masks[0] & masks[1])) / union if union else 0.0


def _iou_exact(region: Floats, other: Floats, size: tuple[int, int]) -> float:
    frame = np.array([0.0, 0.0, size[1], size[0]])
    if len(region) == 4 and len(other) == 4:
        a, b = (np.concatenate([np.maximum(r[:2], 0), np.minimum(r[2:], frame[2:])])
                for r in (region, other))  # fmt: skip
        shared = _rectangle(np.concatenate([np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])]))
        first, second = _rectangle(a), _rectangle(b)
    else:
        if len(region) == 4:
            region, other = other, region
        outline = _clip(_polygon(other), frame)
        shared = _ellipse_and_polygon(region, outline)
        first = _ellipse_and_polygon(region, _polygon(frame))
        second = _ellipse_and_polygon(other, _polygon(frame)) if len(other) == 5 else _area(outline)
    union = first + second - shared
    return min(shared / union, 1.0) if union > 0 else 0.0


def _rectangle(box: Floats) -> float:
    return float(np.prod(np.maximum(box[2:] - box[:2], 0)))


def _polygon(region: Floats) -> Floats:
    """(K, 2) corners, anticlockwise in the mathematical sense."""
    if len(region) == 4:
        x1, y1, x2, y2 = region
        return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
    turn = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    # a little outside, so that the polygon's area is the ellipse's
    grow = np.sqrt(2 * np.pi / (_CORNERS * np.sin(2 * np.pi / _CORNERS)))
    along, across = region[0] * grow * np.cos(turn), region[1] * grow * np.sin(turn)
    cos, sin = np.cos(region[2]), np.sin(region[2])
    return np.stack(
        [region[3] + along * cos - across * sin, region[4] + along * sin + across * cos], axis=1
    )


def _clip(polygon: Floats, frame: Floats) -> Floats:
    """The part of a convex polygon inside a rectangle (Sutherland and Hodgman)."""
    for axis, sign, limit in ((0, 1, frame[0]), (0, -1, -frame[2]),
                              (1, 1, frame[1]), (1, -1, -frame[3])):  # fmt: skip
        if len(polygon) == 0:
            break
        depth = sign * polygon[:, axis] - limit
        following, next_depth = np.roll(polygon, -1, axis=0), np.roll(depth, -1)
        crossing = (depth >= 0) != (next_depth >= 0)
        part = np.divide(depth, depth - next_depth, out=np.zeros_like(depth), where=crossing)
        cut = polygon + part[:, None] * (following - polygon)
        both = np.stack([polygon, cut], axis=1).reshape(-1, 2)
        polygon = both[np.stack([depth >= 0, crossing], axis=1).ravel()]
    return polygon


def _area(polygon: Floats) -> float:
    if len(polygon) < 3:
        return 0.0
    x, y = polygon.T
    return float(abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2)


def _ellipse_and_polygon(ellipse: Floats, polygon: Floats) -> float:
    """Area shared by an ellipse and a simple polygon.

    The plane is mapped so that the ellipse is the unit circle; there each edge (a, b) of
    the polygon adds the signed area shared by the circle and the triangle (0, a, b).
    """
    if len(polygon) < 3 or min(ellipse[:2]) <= 0:
        return 0.0
    cos, sin = np.cos(ellipse[2]), np.sin(ellipse[2])
    shifted = polygon - ellipse[3:5]
    a = np.stack([shifted @ [cos, sin] / ellipse[0], shifted @ [-sin, cos] / ellipse[1]], axis=1)
    b = np.roll(a, -1, axis=0)
    step = b - a
    length = np.sum(step**2, axis=1)
    kept = length > _SHORTEST
    a, b, step, length = a[kept], b[kept], step[kept], length[kept]
    middle = -np.sum(a * step, axis=1) / length
    nearest = np.sum((a + middle[:, None] * step) ** 2, axis=1)
    half = np.sqrt(np.maximum(1 - nearest, 0) / length)
    # where the edge enters and leaves the circle, as parts of the edge; equal if it never does
    enter, leave = np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)
    inside = nearest < 1
    enter, leave = np.where(inside, enter, 0.0), np.where(inside, leave, 0.0)
    p = np.where(enter[:, None] > 0, a + enter[:, None] * step, a)
    q = np.where(leave[:, None] < 1, a + leave[:, None] * step, b)  # b itself, not b rounded
    total = _sector(a, p) + _cross(p, q) / 2 + _sector(q, b)
    return float(abs(np.sum(total)) * ellipse[0] * ellipse[1])


def _sector(p: Floats, q: Floats) -> Floats:
    """Signed areas of the unit circle's sectors from direction p to direction q."""
    return np.asarray(np.arctan2(_cross(p, q), np.sum(p * q, axis=1)) / 2)


def _cross(p: Floats, q: Floats) -> Floats:
    return np.asarray(p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0])
