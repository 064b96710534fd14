"""`read`: an upright RGB array of whatever holds a picture, or an `ImageError` that says why not.

`read_reduced` does the same at a half, a quarter or an eighth of the size, where that saves time.

Decoding is Pillow's, because it refuses truncated files where OpenCV fills them with gray.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar, Union

import numpy as np
from numpy.typing import NDArray

from facefind.errors import ImageError
from facefind.images.depth import from_array, from_deep, over_white
from facefind.images.opening import (
    MAX_PIXELS,
    check_pixels,
    describe,
    open_picture,
    quietly,
    turn,
    without_metadata,
)
from facefind.images.tiff import depth

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MAX_PIXELS", "Source", "Truncated", "read", "read_reduced", "read_size", "stored_size"]

Source: TypeAlias = Union[
    str, "os.PathLike[str]", bytes, bytearray, memoryview, IO[bytes], "Image.Image", NDArray[Any]
]
Truncated = Literal["error", "fill"]
"""What becomes of a JPEG file that lacks its end."""

# What follows 0xFF inside the compressed data: a stuffed zero, a restart, nothing at the end.
_IN_SCAN = frozenset([b"", *(bytes([byte]) for byte in (0, 0xFF, *range(0xD0, 0xD8)))])
_QUARTER_TURNS = {"TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"}
T = TypeVar("T")


_Use: TypeAlias = "Callable[[Image.Image, str, _Options], T]"


def read(
    source: Source, *, max_pixels: int = MAX_PIXELS, truncated: Truncated = "error"
) -> NDArray[np.uint8]:
    """The picture as (H,W,3) uint8 RGB, turned upright by its EXIF or XMP orientation.

    - Files may be JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, JPEG 2000, PPM, QOI or ICO, recognized by
      content and not by name; HEIC too where pillow-heif is installed. Of an animation the first
      frame is read.
    - Gray is repeated into three channels, palettes and CMYK become RGB. Deeper samples are scaled
      to 8 bits; of TIFF, the file says whether they have 10, 12, 14 or 16, and what is white.
    - Transparent pixels are laid over white, as a viewer shows them: what lies hidden under full
      transparency is not part of the picture.
    - Arrays may be uint8, uint16 or bool, or floats in 0..1, of shape (H,W), (H,W,1), (H,W,3) RGB
      or (H,W,4) RGBA. A contiguous uint8 RGB array comes back itself, not copied.
    - 32-bit whole numbers (mode I) count as 8 bits where all are at most 255, else as 16 bits.

    Args:
        source: Path, the bytes of a file, a binary file object, a PIL image or an array.
        max_pixels: Larger files and PIL images are refused before they are decoded; arrays, which
            need no decoding, may have any size.
        truncated: What becomes of a JPEG file that lacks its end: "error", or "fill" for its
            missing part in gray, as viewers show it. Other formats are refused either way.

    Raises:
        ImageError: If there is no picture, or it is damaged, truncated or too large.
    """
    return _read(source, _Options(max_pixels, truncated))[0]


def read_reduced(
    source: Source, shrink: int, *, max_pixels: int = MAX_PIXELS, truncated: Truncated = "error"
) -> tuple[NDArray[np.uint8], int]:
    """The picture decoded up to `shrink` times smaller, (H,W,3) uint8 RGB, and how many times.

    Decoding a JPEG at 1/2, 1/4 or 1/8 of its sides takes a fraction of the time. The factor is
    exact and the same on both axes: pixel i covers pixels `factor * i .. factor * (i + 1)` of the
    upright original. H and W are the original's divided by it and rounded up, so that the last
    row and column may reach beyond the original: quotients of the sizes are not the scale.

    Args:
        source: As in `read`.
        shrink: The largest factor that will do.
        max_pixels: As in `read`, of the original.
        truncated: As in `read`.

    Returns:
        The picture and its factor: 1, 2, 4 or 8. It is 1 for what is no JPEG file, and where the
        EXIF orientation would bring a last row or column that is not whole to the front.

    Raises:
        ImageError: As `read` does.
    """
    return _read(source, _Options(max_pixels, truncated, shrink))


def read_size(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) of the upright picture, by its file's header alone.

    A PNG without EXIF before its pixels is decoded: what turns it may stand behind (`stored_size`).

    Args:
        path: The file.
        max_pixels: As in `read`: what `read` refuses by its header is refused here.

    Raises:
        ImageError: If the file is missing, no picture of a known format, or too large.
    """
    return _from_path(path, _Options(max_pixels, "error"), _size_of)


def stored_size(source: str | os.PathLike[str] | bytes) -> tuple[int, int]:
    """(height, width) of the picture as it is stored, of any size; nothing of it is decoded.

    How a PNG is turned may stand behind its pixels, and Pillow decodes them to find out: who has to
    know the size before anything is decoded cannot know what is upright.

    Args:
        source: The file's path, or its bytes.

    Raises:
        ImageError: If the file is missing, or no picture of a known format.
    """
    options = _Options(sys.maxsize, "error")
    if isinstance(source, bytes):
        return _from_bytes(source, options, _stored_size_of)
    return _from_path(source, options, _stored_size_of)


def _stored_size_of(picture: Image.Image, name: str, options: _Options) -> tuple[int, int]:
    return (picture.height, picture.width)


def _size_of(picture: Image.Image, name: str, options: _Options) -> tuple[int, int]:
    width, height = picture.size
    turned = turn(picture)
    quarter = turned is not None and turned.name in _QUARTER_TURNS
    return (width, height) if quarter else (height, width)


class _Options(NamedTuple):
    max_pixels: int
    truncated: Truncated
    shrink: int = 1


def _read(source: Source, options: _Options) -> tuple[NDArray[np.uint8], int]:
    if isinstance(source, np.ndarray):
        return from_array(source), 1
    from PIL import Image

    if isinstance(source, Image.Image):
        check_pixels("the PIL image", source.size, options.max_pixels)
        return _from_pil(source, "the PIL image", options.max_pixels), 1
    if isinstance(source, (str, os.PathLike)):
        return _from_path(source, options, _decode)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(source), options, _decode, f"the {type(source).__name__}")
    if hasattr(source, "read"):
        return _from_file(source, options)
    raise ImageError(
        "an image is a path, bytes, a binary file object, a PIL image or a NumPy array, "
        f"got {type(source).__module__}.{type(source).__qualname__}"
    )


def _from_path(path: str | os.PathLike[str], options: _Options, use: _Use[T]) -> T:
    name = repr(os.fspath(path))
    try:
        path = Path(path)
        if path.is_dir():
            raise ImageError(f"{name} is a folder; images.find lists the pictures in it")
        if not path.exists():
            hint = "; download it first" if "://" in name else ""
            raise ImageError(f"{name} does not exist{hint}")
        if not path.is_file():
            raise ImageError(f"{name} is not a regular file")
        with path.open("rb") as file:
            return _opened(file, name, options, use)
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        raise ImageError(f"{name} cannot be opened: {error}") from error


def _from_file(file: Any, options: _Options) -> tuple[NDArray[np.uint8], int]:
    name = f"the file object {getattr(file, 'name', type(file).__name__)!r}"
    try:
        data = file.read()
    except Exception as error:  # whatever a foreign object may raise
        raise ImageError(f"{name} cannot be read: {error}") from error
    if not isinstance(data, bytes):
        raise ImageError(f"{name} gives {type(data).__name__}, not bytes: open it in mode 'rb'")
    if not data:
        raise ImageError(f"{name} has no bytes left to read; rewind it with seek(0)")
    return _from_bytes(data, options, _decode, name)


def _from_bytes(data: bytes, options: _Options, use: _Use[T], name: str = "the bytes") -> T:
    return _opened(io.BytesIO(data), f"{name} of {len(data)} bytes", options, use)


def _opened(file: IO[bytes], name: str, options: _Options, use: _Use[T]) -> T:
    """What `use` makes of the picture in a file, of its mended bytes where that fails."""
    try:
        with open_picture(file, name, options.max_pixels) as picture:
            return use(picture, name, options)
    except ImageError:
        mended = _mended(file, options.truncated)
        if mended is None:
            raise
    with open_picture(io.BytesIO(mended), name, options.max_pixels) as picture:
        return use(picture, name, options)


def _decode(picture: Image.Image, name: str, options: _Options) -> tuple[NDArray[np.uint8], int]:
    factor = _reduce(picture, options.shrink)
    return _from_pil(picture, name, options.max_pixels), factor


def _mended(file: IO[bytes], truncated: Truncated) -> bytes | None:
    """Bytes to try in place of those of a file that could not be decoded; None: there are none."""
    file.seek(0)
    data = file.read()
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return without_metadata(data)
    if data.startswith(b"\xff\xd8") and truncated == "fill":
        return _ended(data)
    return None


def _ended(data: bytes) -> bytes:
    """A JPEG that lacks its end with the marker for it, at which decoders go on with gray."""
    at = len(data) - 1
    while at > 0 and (data[at] != 0xFF or data[at + 1 : at + 2] in _IN_SCAN):
        at = data.rfind(b"\xff", 0, at)
    size = int.from_bytes(data[at + 2 : at + 4], "big")
    whole = at <= 0 or (size >= 2 and at + 2 + size <= len(data))
    return (data if whole else data[:at]) + b"\xff\xd9"


def _reduce(picture: Image.Image, shrink: int) -> int:
    """Has a JPEG decoded smaller, and how many times: at most `shrink`, 1 where it can't be."""
    width, height = picture.size
    if picture.format != "JPEG" or shrink < 2:
        return 1
    whole = turn(picture) is None
    fitting = (f for f in (8, 4, 2) if f <= min(shrink, width, height))
    factor = next((f for f in fitting if whole or (width % f == 0 and height % f == 0)), 1)
    if factor > 1:
        picture.draft("RGB", (width // factor, height // factor))
        if picture.size != (-(-width // factor), -(-height // factor)):  # it decodes no smaller
            return 1
    return factor


def _from_pil(picture: Image.Image, name: str, max_pixels: int) -> NDArray[np.uint8]:
    try:
        # TIFF reads tags, and warns of them, as late as this; all other formats decode in parallel.
        with quietly(max_pixels) if picture.format == "TIFF" else nullcontext():
            picture.load()
            deep = depth(picture)
        turned = turn(picture)
        upright = picture if turned is None else picture.transpose(turned)
        if upright.mode.startswith("I;16") or upright.mode in ("I", "F"):
            most, inverted = deep or (65535 if picture.format == "PPM" else None, False)
            return from_deep(np.asarray(upright), name, most, inverted=inverted)
        if upright.has_transparency_data:
            return over_white(np.asarray(upright.convert("RGBA")))
        return np.array(upright.convert("RGB"))
    except ImageError:
        raise
    except Exception as error:  # decoders raise anything, see `open_picture`
        fill = picture.format == "JPEG" and "truncated" in str(error)
        hint = "; truncated='fill' reads what there is" if fill else ""
        raise ImageError(f"{name} is damaged or truncated: {describe(error)}{hint}") from error
