"""HDR videos say for which display they were made: their side data as encoders take it."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["mastering_options", "not_kept"]

_ENCODERS = {
    "libx264": ("x264-params", "mastering-display", "cll"),
    "libx265": ("x265-params", "master-display", "max-cll"),
}
_STATIC = {
    "MASTERING_DISPLAY_METADATA": "the mastering display",
    "CONTENT_LIGHT_LEVEL": "the light level",
}
_DYNAMIC = {
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DOVI_RPU_BUFFER": "Dolby Vision",
    "DOVI_METADATA": "Dolby Vision",
    "DYNAMIC_HDR_VIVID": "HDR Vivid",
}


def mastering_options(raw: Any, codec: str) -> dict[str, str]:
    """The encoder's option that gives a video the mastering display and light level of a frame.

    Empty where the frame (PyAV's) has none, or the encoder takes none.
    """
    if codec not in _ENCODERS:
        return {}
    option, display_name, light_name = _ENCODERS[codec]
    found = {entry.type.name: bytes(entry) for entry in raw.side_data}
    parts = []
    if display := _display(found.get("MASTERING_DISPLAY_METADATA", b"")):
        parts.append(f"{display_name}={display}")
    light = found.get("CONTENT_LIGHT_LEVEL", b"")
    if len(light) >= 8:
        most, average = np.frombuffer(light[:8], np.uint32).tolist()
        parts.append(f"{light_name}={most},{average}")
    return {option: ":".join(parts)} if parts else {}


def not_kept(raw: Any, codec: str) -> list[str]:
    """What of a frame's HDR data a video by this encoder does not hold, in words."""
    lost = _DYNAMIC if codec in _ENCODERS else _STATIC | _DYNAMIC
    names = {entry.type.name for entry in raw.side_data}
    return sorted({words for name, words in lost.items() if name in names})


def _display(data: bytes) -> str:
    """FFmpeg's AVMasteringDisplayMetadata in the words of x265; empty where it is not whole."""
    if len(data) < 88:
        return ""
    numbers = np.frombuffer(data[:88], np.int32)
    if not numbers[20:22].all() or not numbers[1:20:2].all():
        return ""  # primaries or luminances are not known
    values = numbers[:20:2] / numbers[1:20:2]
    red, green, blue, white = np.rint(values[:8] * 50_000).astype(int).reshape(4, 2).tolist()
    least, most = np.rint(values[8:] * 10_000).astype(int).tolist()
    points = "".join(
        f"{name}({x},{y})"
        for name, (x, y) in {"G": green, "B": blue, "R": red, "WP": white}.items()
    )
    return f"{points}L({most},{least})"
