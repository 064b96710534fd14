"""The planes of a stored frame as arrays, so that what is not touched keeps its samples.

A frame here is PyAV's. Its planes are luma and color in YUV, of 8 to 16 bits; faces are hidden in
each of them, and no pixel beside them is converted.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facefind import redaction
from facefind.redaction import Redaction
from facefind.video.opening import library

__all__ = ["encodable", "from_image", "hide_faces", "planes"]

# libavutil's numbers of YUV matrices, as swscale names them; what else there is is BT.601.
_MATRICES = {1: "ITU709", 7: "SMPTE240M", 9: "BT2020"}
_RGB, _LIMITED, _FULL = 0, 1, 2  # a matrix that is none, and the two ranges
_LEAST = 16  # pixels of a side that swscale always takes


def planes(raw: Any) -> list[tuple[NDArray[Any], float, float]]:
    """Writable arrays (h,w) of a planar frame, each with its width and height over the frame's."""
    raw.make_writable()  # others may look at the same memory, the decoder among them
    found = []
    for plane, component in zip(raw.planes, raw.format.components, strict=True):
        kind = np.dtype(np.uint8 if component.bits == 8 else "<u2")
        rows = np.frombuffer(plane, kind).reshape(plane.height, -1)
        array = rows[:, : plane.width]
        found.append((array, _ratio(plane.width, raw.width), _ratio(plane.height, raw.height)))
    return found


def _ratio(part: int, whole: int) -> float:
    """1, or 1/2 or 1/4 where a plane is subsampled; the last sample may stand for less."""
    return 2.0 ** round(math.log2(part / whole))


def hide_faces(raw: Any, boxes: NDArray[np.float64], how: Redaction) -> None:
    """Hide boxes (N,4) xyxy, grown already, in a planar YUV frame as it is stored, in place."""
    if not len(boxes):
        return
    paint = redaction.painter(how)
    for number, (plane, x, y) in enumerate(planes(raw)):

        def paint_plane(height: int, width: int, number: int = number) -> NDArray[Any]:
            size = (max(height, _LEAST), max(width, _LEAST))
            deep = raw.format.components[0].bits
            full = "yuv444p" if deep == 8 else f"yuv444p{deep}le"
            return planes(_in_colors_of(raw, paint(*size), full))[number][0]

        redaction.hide(plane, boxes * (x, y, x, y), how, paint_plane)


def from_image(stored: NDArray[np.uint8], raw: Any) -> Any:
    """A frame of an RGB image (H,W,3), in 8 bits, with the length and the colors of another."""
    made = _in_colors_of(raw, stored, "yuv420p")
    made.duration = raw.duration
    for name in ("color_trc", "color_primaries"):
        setattr(made, name, getattr(raw, name))
    return made


def encodable(raw: Any, *, deep: bool) -> Any:
    """The frame as encoders take it: 4:2:0, of 8 bits or of 10, with even sides.

    The colors' matrix and range stay; RGB becomes BT.709. A last column or row is repeated where a
    side is odd. The writer sets its time, which some decoders give last frames without.
    """
    target = "yuv420p10le" if deep else "yuv420p"
    if raw.format.name != target:
        options: dict[str, Any] = {}
        if raw.format.is_rgb or raw.colorspace == _RGB or raw.format.name == "pal8":
            options = {"dst_colorspace": "ITU709", "dst_color_range": _LIMITED}
        elif raw.format.name.startswith("yuvj"):
            options = {"src_color_range": _FULL, "dst_color_range": _FULL}
        duration = raw.duration
        raw = raw.reformat(format=target, **options)
        raw.duration = duration
    return _even(raw)


def _even(raw: Any) -> Any:
    width, height = raw.width + raw.width % 2, raw.height + raw.height % 2
    if (width, height) == (raw.width, raw.height):
        return raw
    out = library().VideoFrame(width, height, raw.format.name)
    for (new, _, _), (old, _, _) in zip(planes(out), planes(raw), strict=True):
        rows, columns = old.shape
        new[:rows, :columns] = old
        new[:, columns:] = new[:, columns - 1 : columns]
        new[rows:] = new[rows - 1 : rows]
    out.duration = raw.duration
    for name in ("colorspace", "color_range", "color_trc", "color_primaries"):
        setattr(out, name, getattr(raw, name))
    return out


def _in_colors_of(raw: Any, image: NDArray[np.uint8], form: str) -> Any:
    """An RGB image as a frame of a YUV format, by the matrix and range of another frame."""
    rgb = library().VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    full = raw.color_range == _FULL
    return rgb.reformat(
        format=form,
        dst_colorspace=_MATRICES.get(raw.colorspace, "ITU601"),
        src_color_range=_FULL,
        dst_color_range=_FULL if full else _LIMITED,
    )
