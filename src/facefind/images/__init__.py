"""Pictures in: reading, resizing, padding, cutting into tiles, and the way back to the original.

An image is (H,W,3) uint8 RGB, upright. `read` makes one of a path, bytes, file, PIL image or array;
`letterbox` brings it to the size a network wants, and the `Placement` it returns takes boxes and
points back to the original's pixels.
"""

from facefind.images.letterboxing import Placement, fit, letterbox, pyramid, to_nchw
from facefind.images.listing import SUFFIXES, Found, find
from facefind.images.reading import (
    MAX_PIXELS,
    Source,
    Truncated,
    read,
    read_reduced,
    read_size,
    stored_size,
)
from facefind.images.resizing import resize
from facefind.images.tiling import Window, tiles

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "Found",
    "Placement",
    "Source",
    "Truncated",
    "Window",
    "find",
    "fit",
    "letterbox",
    "pyramid",
    "read",
    "read_reduced",
    "read_size",
    "resize",
    "stored_size",
    "tiles",
    "to_nchw",
]
