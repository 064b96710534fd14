"""`read`: an upright RGB array of whatever holds a picture, or an `ImageError` that says why not.

`read_reduced` does the same at a half, a quarter or an eighth of the size, where that saves time.

Decoding is Pillow's, because it refuses truncated files where OpenCV fills them with gray.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from facefind import forking
from facefind.errors import ImageError
from facefind.images.depth import from_array, from_deep, over_white

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MAX_PIXELS", "Source", "read", "read_reduced", "read_size"]

Source: TypeAlias = Union[
    str, "os.PathLike[str]", bytes, bytearray, memoryview, IO[bytes], "Image.Image", NDArray[Any]
]

MAX_PIXELS = 178_956_970
"""Most pixels that are decoded unless the caller allows more: half a gigabyte of RGB."""

# Formats that announce themselves in their first bytes and need no outside program.
_FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"),
    *("JPEG2000", "PPM", "QOI", "ICO", "DIB"),
)
_ORIENTATION = 0x0112
_QUARTER_TURNS = {"TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"}
_GUARD = forking.guard()


def read(source: Source, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The picture as (H,W,3) uint8 RGB, turned upright by its EXIF or XMP orientation.

    - Files may be JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, JPEG 2000, PPM, QOI or ICO, recognized by
      content and not by name; HEIC too where pillow-heif has registered itself. Of an animation
      the first frame is read.
    - Gray is repeated into three channels, palettes and CMYK become RGB, 16 bits are scaled to 8.
    - Transparent pixels are laid over white, as a viewer shows them: what lies hidden under full
      transparency is not part of the picture.
    - Arrays may be uint8, uint16 or bool, or floats in 0..1, of shape (H,W), (H,W,1), (H,W,3) RGB
      or (H,W,4) RGBA. A contiguous uint8 RGB array comes back itself, not copied.
    - 32-bit whole numbers (mode I) count as 8 bits where all are at most 255, else as 16 bits.

    Args:
        source: Path, the bytes of a file, a binary file object, a PIL image or an array.
        max_pixels: Larger files and PIL images are refused before they are decoded; arrays, which
            need no decoding, may have any size.

    Raises:
        ImageError: If there is no picture, or it is damaged, truncated or too large.
    """
    return _read(source, max_pixels)[0]


def read_reduced(
    source: Source, shrink: int, *, max_pixels: int = MAX_PIXELS
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

    Returns:
        The picture and its factor: 1, 2, 4 or 8. It is 1 for what is no JPEG file, and where the
        EXIF orientation would bring a last row or column that is not whole to the front.

    Raises:
        ImageError: As `read` does.
    """
    return _read(source, max_pixels, shrink)


def read_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) of the upright picture, by its file's header alone.

    Raises:
        ImageError: If the file is missing or no picture of a known format.
    """
    name = repr(os.fspath(path))
    try:
        with Path(path).open("rb") as file, _open(file, name, MAX_PIXELS) as picture:
            width, height = picture.size
            turn = _turn(picture)
    except OSError as error:
        raise ImageError(f"{name} cannot be opened: {error}") from error
    quarter = turn is not None and turn.name in _QUARTER_TURNS
    return (width, height) if quarter else (height, width)


def _read(source: Source, max_pixels: int, shrink: int = 1) -> tuple[NDArray[np.uint8], int]:
    if isinstance(source, np.ndarray):
        return from_array(source), 1
    from PIL import Image

    if isinstance(source, Image.Image):
        return _from_pil(source, "the PIL image", max_pixels), 1
    if isinstance(source, (str, os.PathLike)):
        return _from_path(source, max_pixels, shrink)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(source), f"the {type(source).__name__}", max_pixels, shrink)
    if hasattr(source, "read"):
        return _from_file(source, max_pixels, shrink)
    raise ImageError(
        "an image is a path, bytes, a binary file object, a PIL image or a NumPy array, "
        f"got {type(source).__module__}.{type(source).__qualname__}"
    )


def _from_path(
    path: str | os.PathLike[str], max_pixels: int, shrink: int
) -> tuple[NDArray[np.uint8], int]:
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
            return _decode(file, name, max_pixels, shrink)
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        raise ImageError(f"{name} cannot be opened: {error}") from error


def _from_file(file: Any, max_pixels: int, shrink: int) -> tuple[NDArray[np.uint8], int]:
    name = f"the file object {getattr(file, 'name', type(file).__name__)!r}"
    try:
        data = file.read()
    except Exception as error:  # whatever a foreign object may raise
        raise ImageError(f"{name} cannot be read: {error}") from error
    if not isinstance(data, bytes):
        raise ImageError(f"{name} gives {type(data).__name__}, not bytes: open it in mode 'rb'")
    if not data:
        raise ImageError(f"{name} has no bytes left to read; rewind it with seek(0)")
    return _from_bytes(data, name, max_pixels, shrink)


def _from_bytes(
    data: bytes, name: str, max_pixels: int, shrink: int
) -> tuple[NDArray[np.uint8], int]:
    return _decode(io.BytesIO(data), f"{name} of {len(data)} bytes", max_pixels, shrink)


def _decode(
    file: IO[bytes], name: str, max_pixels: int, shrink: int
) -> tuple[NDArray[np.uint8], int]:
    with _open(file, name, max_pixels) as picture:
        _check_pixels(name, picture.size, max_pixels)
        factor = _reduce(picture, shrink)
        return _from_pil(picture, name, max_pixels), factor


def _open(file: IO[bytes], name: str, max_pixels: int) -> Image.Image:
    """The picture in a file, its header read and nothing decoded."""
    from PIL import Image, UnidentifiedImageError

    try:
        with _header(max_pixels):
            formats = [*_FORMATS, *(["HEIF"] if "HEIF" in Image.OPEN else [])]
            return Image.open(file, formats=formats)
    except UnidentifiedImageError as error:
        start = _start_of(file)
        what = f"starts with {start!r}" if start else "is empty"
        raise ImageError(f"{name} is no picture of a known format: it {what}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name} is too large ({error}); raise max_pixels to read it all the same"
        ) from error
    except Exception as error:  # decoders raise anything: struct.error, OverflowError, MemoryError
        raise ImageError(f"{name} has a damaged header: {_say(error)}") from error


def _reduce(picture: Image.Image, shrink: int) -> int:
    """Has a JPEG decoded smaller, and how many times: at most `shrink`, 1 where it can't be."""
    width, height = picture.size
    if picture.format != "JPEG" or shrink < 2:
        return 1
    whole = _turn(picture) is None
    fitting = (f for f in (8, 4, 2) if f <= min(shrink, width, height))
    factor = next((f for f in fitting if whole or (width % f == 0 and height % f == 0)), 1)
    if factor > 1:
        picture.draft("RGB", (width // factor, height // factor))
        if picture.size != (-(-width // factor), -(-height // factor)):  # it decodes no smaller
            return 1
    return factor


def _from_pil(picture: Image.Image, name: str, max_pixels: int) -> NDArray[np.uint8]:
    _check_pixels(name, picture.size, max_pixels)
    try:
        # TIFF reads tags, and warns of them, as late as this; all other formats decode in parallel.
        with _header(max_pixels) if picture.format == "TIFF" else nullcontext():
            picture.load()
        upright = _upright(picture)
        if upright.mode.startswith("I;16") or upright.mode in ("I", "F"):
            return from_deep(np.asarray(upright), name)
        if upright.has_transparency_data:
            return over_white(np.asarray(upright.convert("RGBA")))
        return np.array(upright.convert("RGB"))
    except ImageError:
        raise
    except Exception as error:  # decoders raise anything, see above
        raise ImageError(f"{name} is damaged or truncated: {_say(error)}") from error


@contextmanager
def _header(max_pixels: int) -> Iterator[None]:
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


def _upright(picture: Image.Image) -> Image.Image:
    turn = _turn(picture)
    return picture if turn is None else picture.transpose(turn)


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """What turns a picture upright by its EXIF or XMP orientation; None where it is upright."""
    from PIL.Image import Transpose

    try:
        with _header(0):
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


def _check_pixels(name: str, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{name} has no pixels: it is {width} wide and {height} high")
    if width * height > max_pixels:
        raise ImageError(
            f"{name} has {width} x {height} pixels, more than max_pixels={max_pixels}; "
            "raise max_pixels to read it all the same"
        )


def _start_of(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(12)


def _say(error: Exception) -> str:
    return str(error) or type(error).__name__
