"""The one door to picture files: which formats are opened, within which limits, and how upright.

Whoever needs an image's pixels, its size or its header goes through `open_picture`.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO, TYPE_CHECKING

from facefind import forking
from facefind.errors import ImageError
from facefind.images.tiff import open_deep

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "MAX_PIXELS",
    "check_pixels",
    "describe",
    "open_picture",
    "quietly",
    "turn",
    "without_metadata",
]

MAX_PIXELS = 178_956_970
"""Most pixels that are decoded unless the caller allows more: half a gigabyte of RGB."""

# Formats that announce themselves in their first bytes and need no outside program.
_FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"),
    *("JPEG2000", "PPM", "QOI", "ICO", "DIB"),
)
_HEIF_BRANDS = frozenset(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
)
_ORIENTATION = 0x0112
_GUARD = forking.guard()


def open_picture(file: IO[bytes], name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture in a file, its header read and nothing decoded.

    Args:
        file: at its start, and seekable.
        name: what messages call it.
        max_pixels: what it may have at most.

    Raises:
        ImageError: If it is no picture of a known format, damaged, or too large.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with quietly(max_pixels):
            picture: Image.Image = Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError as error:
        picture = _seldom(file, name, max_pixels, error)
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name} is too large ({error}); raise max_pixels to read it all the same"
        ) from error
    except Exception as error:  # decoders raise anything: struct.error, OverflowError, MemoryError
        raise ImageError(f"{name} has a damaged header: {describe(error)}") from error
    check_pixels(name, picture.size, max_pixels)
    return picture


def _seldom(file: IO[bytes], name: str, max_pixels: int, error: Exception) -> Image.Image:
    """A picture that Pillow alone does not open."""
    file.seek(0)
    start = file.read(12)
    file.seek(0)
    if start[4:8] == b"ftyp" and start[8:] in _HEIF_BRANDS:
        return _open_heif(file, name)
    if start[:4] in (b"II*\0", b"MM\0*"):
        with quietly(max_pixels):
            return open_deep(file, name, partial(check_pixels, name, max_pixels=max_pixels))
    what = f"starts with {start!r}" if start else "is empty"
    raise ImageError(f"{name} is no picture of a known format: it {what}") from error


def _open_heif(file: IO[bytes], name: str) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise ImageError(
            f"{name} is a HEIC picture, which pillow-heif reads: pip install pillow-heif"
        ) from error
    try:
        picture: Image.Image = HeifImageFile(file)
    except Exception as error:  # as with Pillow's own decoders
        raise ImageError(f"{name} has a damaged header: {describe(error)}") from error
    return picture


def check_pixels(name: str, size: tuple[int, int], max_pixels: int) -> None:
    """Raise ImageError where a picture of (width, height) has no pixels, or too many."""
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{name} has no pixels: it is {width} wide and {height} high")
    if width * height > max_pixels:
        raise ImageError(
            f"{name} has {width} x {height} pixels, more than max_pixels={max_pixels}; "
            "raise max_pixels to read it all the same"
        )


@contextmanager
def quietly(max_pixels: int) -> Iterator[None]:
    """Keeps Pillow quiet about what it finds in headers, and its own pixel limit out of the way.

    Both are state of the whole process: one thread at a time, and only for the header.
    """
    from PIL import Image

    with _GUARD, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit = Image.MAX_IMAGE_PIXELS
        lift = limit is not None and max_pixels > 2 * limit
        if lift:
            Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            if lift:
                Image.MAX_IMAGE_PIXELS = limit


def turn(picture: Image.Image) -> Image.Transpose | None:
    """What turns a picture upright by its EXIF or XMP orientation; None where it is upright.

    Numbers that are no orientation, as EXIF knows them from 1 to 8, leave it as it is stored.
    """
    from PIL.Image import Transpose

    try:
        with quietly(0):
            value = picture.getexif().get(_ORIENTATION)
    except Exception:  # a damaged EXIF block leaves a good picture as it is stored
        return None
    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return turns.get(value) if isinstance(value, int) else None


def without_metadata(data: bytes) -> bytes | None:
    """A PNG without its color profile and texts, whose size Pillow limits; None: it has none.

    XMP and EXIF, which say how the picture is turned, stay.
    """
    kept, dropped, at = [data[:8]], False, 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        keyword = data[at + 8 : at + 40].partition(b"\0")[0]
        turned = keyword in (b"XML:com.adobe.xmp", b"Raw profile type exif")
        if kind == b"iCCP" or (kind in (b"tEXt", b"zTXt", b"iTXt") and not turned):
            dropped = True
        else:
            kept.append(data[at:end])
        at = end
    return b"".join(kept) if dropped else None


def describe(error: Exception) -> str:
    """What an error says; its kind where it says nothing."""
    return str(error) or type(error).__name__
