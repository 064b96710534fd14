"""TIFF files of sample depths that Pillow does not know: 9 to 16 bits, of either polarity."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facefind.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MIN_IS_WHITE", "depth", "open_deep"]

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_OFFSETS, _ORIENTATION, _SAMPLES, _BYTE_COUNTS, _PLANAR, _FORMAT = 273, 274, 277, 279, 284, 339
MIN_IS_WHITE = 0
_GRAY, _RGB = (MIN_IS_WHITE, 1), 2
_SIGNED = 2


def depth(picture: Image.Image) -> tuple[int, bool] | None:
    """What stands for white in the samples of a deep TIFF, and whether 0 does instead of it.

    None where that is no matter of the file: of other formats, 8 bits and less, floats, 32 bits.
    """
    tags: Any = getattr(picture, "tag_v2", None)
    if picture.format != "TIFF" or tags is None:
        return None
    bits = tags.get(_BITS, (1,))[0]
    kind = tags.get(_FORMAT, (1,))[0]
    if not 8 < bits <= 16 or kind not in (1, _SIGNED):
        return None
    most = (1 << (bits - (kind == _SIGNED))) - 1
    return most, tags.get(_PHOTOMETRIC) == MIN_IS_WHITE


def open_deep(file: IO[bytes], name: str, check: Callable[[tuple[int, int]], None]) -> Image.Image:
    """The picture of an uncompressed TIFF of 9 to 16 bits a sample, gray (16 bits) or RGB (8).

    Args:
        file: at its start.
        name: what messages call it.
        check: raises where a picture of (width, height) is not to be decoded.

    Raises:
        ImageError: If the file is another one or damaged.
    """
    from PIL import Image, TiffImagePlugin

    try:
        tags: Any = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(tags.next)
        tags.load(file)
        width, height = int(tags[_WIDTH]), int(tags[_HEIGHT])
        bits, samples = set(tags[_BITS]), int(tags.get(_SAMPLES, 1))
        photometric = tags.get(_PHOTOMETRIC)
        offsets, counts = tags[_OFFSETS], tags[_BYTE_COUNTS]
    except Exception as error:  # a damaged directory raises anything
        raise ImageError(f"{name} has a damaged header: {error or type(error).__name__}") from error
    deep = len(bits) == 1 and 8 < min(bits) <= 16
    plain = tags.get(_COMPRESSION, 1) == tags.get(_FILL_ORDER, 1) == tags.get(_PLANAR, 1) == 1
    known = (photometric in _GRAY and samples == 1) or (photometric == _RGB and samples == 3)
    if not (deep and plain and known and set(tags.get(_FORMAT, (1,))) == {1}):
        raise ImageError(
            f"{name} is a TIFF of a kind that is not read: {samples} x {sorted(bits)} bits, "
            f"photometric {photometric}, compression {tags.get(_COMPRESSION, 1)}; save it as PNG"
        )
    check((width, height))
    (depth,) = bits
    row = -(-width * samples * depth // 8)
    data = b""
    for offset, count in zip(offsets, counts, strict=True):
        file.seek(offset)
        data += file.read(min(count, row * height))
    if len(data) < row * height:
        raise ImageError(
            f"{name} is damaged or truncated: it has {len(data)} of {row * height} bytes"
        )
    order = "<" if tags.prefix == b"II" else ">"
    rows = np.frombuffer(data, np.uint8, row * height).reshape(height, row)
    values = _unpacked(rows, width * samples, depth, order).reshape(height, width, samples)
    most = (1 << depth) - 1
    wide = (values.astype(np.uint32) * 65535 + most // 2) // most
    if photometric == MIN_IS_WHITE:
        wide = 65535 - wide
    if samples == 1:
        picture = Image.fromarray(wide[..., 0].astype(np.uint16))
    else:
        picture = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    picture.getexif()[_ORIENTATION] = tags.get(_ORIENTATION, 1)
    return picture


def _unpacked(
    rows: NDArray[np.uint8], count: int, depth: int, order: str
) -> NDArray[np.integer[Any]]:
    """(H, count) samples of `depth` bits that fill the rows (H, bytes) without gaps."""
    if depth == 16:
        return rows.view(f"{order}u2")[:, :count]
    bits = np.unpackbits(rows, axis=1, count=count * depth).reshape(len(rows), count, depth)
    weights = (1 << np.arange(depth - 1, -1, -1)).astype(np.uint16)
    return np.asarray(bits @ weights)
