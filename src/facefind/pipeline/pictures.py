"""Picture files written again with their faces hidden: all frames, depth and profile kept."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from facefind import redaction
from facefind.errors import ImageError
from facefind.faces import Faces
from facefind.images import MAX_PIXELS, Found
from facefind.images.depth import over_white
from facefind.images.opening import describe, open_picture, quietly, turn
from facefind.redaction import Redaction

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["WRITERS", "Still", "StoredPicture", "is_animated", "redact_bytes"]

WRITERS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), "JPEG"),
    **dict.fromkeys((".png", ".apng"), "PNG"),
    ".webp": "WEBP",
    ".gif": "GIF",
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".bmp", ".dib"), "BMP"),
    **dict.fromkeys((".ppm", ".pgm", ".pnm"), "PPM"),
    ".jp2": "JPEG2000",
}
"""Suffixes of the pictures that are written, with Pillow's name of the format."""

Still = Literal["JPEG", "PNG", "WEBP"]
"""Formats of single pictures that every browser shows."""

_COLORS = {
    "JPEG": ("L", "RGB", "CMYK"),
    "PNG": ("L", "LA", "RGB", "RGBA", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("L", "RGB", "RGBA"),
    "TIFF": ("L", "LA", "RGB", "RGBA", "CMYK", "I;16"),
    "BMP": ("L", "RGB"),
    "PPM": ("L", "RGB", "I;16"),
    "JPEG2000": ("L", "LA", "RGB", "RGBA", "I;16"),
}
"""Pillow's modes that each format keeps."""
_MOVING = ("GIF", "PNG", "WEBP", "TIFF")
_ALPHA = ("LA", "RGBA")
_ORIENTATION, _EXIF, _MAKER_NOTE = 0x0112, 0x8769, 0x927C
_LONGEST = 4  # frames of an animation, in pictures of the most pixels that are allowed


@dataclass
class StoredPicture:
    """The frames of a picture file, upright, each in a mode that is written again.

    Attributes:
        frames: The picture, the frames of an animation, or the pages of a TIFF file.
        times: Seconds at which each frame of an animation is shown; all 0 of pages.
        save: What its format is saved with, such as durations and profile.
    """

    frames: list[Image.Image]
    times: list[float]
    save: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        file: IO[bytes],
        name: str,
        format: str,
        *,
        max_pixels: int = MAX_PIXELS,
        metadata: bool = False,
    ) -> StoredPicture:
        """The picture in a file, to be written in a format.

        Args:
            file: It, open.
            name: Its name, for errors.
            format: Pillow's name of it, one of `WRITERS`.
            max_pixels: As of `images.read`; an animation may have four times as many in all.
            metadata: Whether EXIF comes along, without thumbnail and maker's note.

        Raises:
            ImageError: it cannot be read, or the format cannot hold it.
        """
        with open_picture(file, name, max_pixels) as picture:
            try:
                return cls._read(picture, name, format, max_pixels, metadata)
            except ImageError:
                raise
            except Exception as error:  # decoders raise anything
                raise ImageError(f"{name} is damaged or truncated: {describe(error)}") from error

    @classmethod
    def _read(
        cls, picture: Image.Image, name: str, format: str, max_pixels: int, metadata: bool
    ) -> StoredPicture:
        count = getattr(picture, "n_frames", 1) if _frames_count(picture) else 1
        if count > 1 and format not in _MOVING:
            raise ImageError(f"{name} has {count} frames, which no {format} file holds")
        if count * picture.width * picture.height > _LONGEST * max_pixels:
            raise ImageError(
                f"{name} has {count} frames of {picture.width} x {picture.height} pixels, in all "
                f"more than {_LONGEST} x max_pixels={max_pixels}; raise max_pixels, or make it a "
                "video"
            )
        made = cls([], [])
        profile = picture.info.get("icc_profile")
        durations: list[float] = []
        for number in range(count):
            if count > 1:
                picture.seek(number)
            with quietly(max_pixels):
                picture.load()
            turned = turn(picture)
            frame = picture if turned is None else picture.transpose(turned)
            kept = _in_mode(frame, format, name)
            if (kept.mode == "CMYK") != (picture.mode == "CMYK"):
                profile = None  # it is of other colors
            made.frames.append(kept)
            made.times.append(sum(durations) / 1000)
            durations.append(float(picture.info.get("duration", 0) or 0))
        if profile:
            made.save["icc_profile"] = profile
        if metadata and (exif := _exif(picture)):
            made.save["exif"] = exif
        if format == "JPEG":
            made.save["quality"] = 95
            if picture.format == "JPEG" and picture.mode == made.frames[0].mode:
                made.save |= _compression(picture)
        elif format == "WEBP":
            made.save["quality"] = 92
        elif format == "TIFF":
            made.save["compression"] = "tiff_deflate"
        if count > 1 and format != "TIFF":
            made.save |= {"duration": durations, "loop": picture.info.get("loop", 0)}
            made.save |= {"disposal": 2} if format == "GIF" else {}
            if not any(durations):
                del made.save["duration"]
        return made

    @property
    def moves(self) -> bool:
        """Whether it is an animation, whose faces go on from frame to frame."""
        return len(self.frames) > 1 and any(self.times)

    def hide(self, frame: int, boxes: NDArray[np.float64], how: Redaction) -> None:
        """Hide boxes (N,4) xyxy, grown already, in a frame."""
        from PIL import Image

        picture = self.frames[frame]
        pixels = np.array(picture)
        colors = pixels.shape[2] - 1 if picture.mode in _ALPHA else None
        whole = how.method in ("fill", "image")
        part = pixels if whole or colors is None else pixels[..., :colors]
        if picture.mode == "LA" and not whole:
            part = pixels[..., 0]
        paint = redaction.painter(how)

        def paint_mode(height: int, width: int) -> NDArray[Any]:
            rgb = Image.fromarray(np.ascontiguousarray(paint(height, width)))
            if picture.mode == "I;16":
                return np.asarray(rgb.convert("L")).astype(np.uint16) * 257
            return np.asarray(rgb.convert(picture.mode))

        redaction.hide(part, boxes, how, paint_mode)
        if colors is not None:  # what nobody sees may be a face
            pixels[pixels[..., -1] == 0] = 0
        self.frames[frame] = Image.frombytes(picture.mode, picture.size, pixels.tobytes())

    def encode(self, format: str) -> bytes:
        """The file's content, with nothing of the original's metadata but what `save` has.

        Raises:
            ImageError: the format does not hold the picture.
        """
        first, *others = self.frames
        several = {"save_all": True, "append_images": others} if others else {}
        file = io.BytesIO()
        try:
            first.save(file, format, **several, **self.save)
        except (OSError, ValueError) as error:
            raise ImageError(f"no {format} file holds this picture: {describe(error)}") from error
        return file.getvalue()


def is_animated(file: Found, max_pixels: int = MAX_PIXELS) -> bool:
    """Whether a picture file has several frames or pages; False where it cannot be read."""
    try:
        with file.open() as opened, open_picture(opened, file.name, max_pixels) as picture:
            return _frames_count(picture) > 1
    except (ImageError, OSError):
        return False


def redact_bytes(
    data: bytes,
    faces: Faces,
    how: Redaction,
    format: Still | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
) -> tuple[bytes, str]:
    """The bytes of a picture's file with its faces hidden and without metadata, and their format.

    Depth and color profile are kept as in `RedactedFolder`.

    Args:
        data: The file's bytes.
        faces: The faces to hide.
        how: How they are hidden.
        format: The format to write; None is the file's own where it is one of these, else PNG.
        max_pixels: As of `images.read`.

    Raises:
        ImageError: the picture cannot be read, has several frames, or is too large for the format.
    """
    name = f"the picture of {len(data)} bytes"
    with open_picture(io.BytesIO(data), name, max_pixels) as header:
        own = header.format or ""
        if _frames_count(header) > 1:
            raise ImageError(
                "the picture has several frames, and here one is redacted: the command facefind "
                "redact hides the faces in all of them"
            )
    form = format or (own if own in get_args(Still) else "PNG")
    picture = StoredPicture.open(io.BytesIO(data), name, form, max_pixels=max_pixels)
    if faces.image_size != picture.frames[0].size[::-1]:
        raise ImageError("the faces belong to a picture of another size")
    picture.hide(0, redaction.grown(faces, how), how)
    return picture.encode(form), form


def _frames_count(picture: Image.Image) -> int:
    """How many frames count as the picture: not the previews and depth maps of a JPEG file."""
    if picture.format not in ("GIF", "PNG", "WEBP", "TIFF", "AVIF"):
        return 1
    try:
        return int(getattr(picture, "n_frames", 1))
    except Exception as error:  # as with decoding
        raise ImageError(f"its frames cannot be counted: {describe(error)}") from error


def _in_mode(picture: Image.Image, format: str, name: str) -> Image.Image:
    """The picture in the mode nearest to its own that a format keeps."""
    from PIL import Image

    if picture.mode == "F":
        raise ImageError(f"{name} holds floats, which are not written: save it with 8 or 16 bits")
    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(f"{name} holds numbers of more than 16 bits, which are not written")
        picture = Image.fromarray(values.astype(np.uint16))
    elif picture.mode == "1":
        picture = picture.convert("L")
    elif picture.has_transparency_data and picture.mode != "LA":
        picture = picture.convert("RGBA")
    elif picture.mode not in ("L", "LA", "RGB", "CMYK"):
        picture = picture.convert("RGB")
    if picture.mode in _COLORS[format]:
        return picture.copy()
    if picture.mode in _ALPHA and "RGBA" not in _COLORS[format]:
        return Image.fromarray(over_white(np.asarray(picture.convert("RGBA"))))
    if picture.mode == "I;16":
        return Image.fromarray(((np.asarray(picture).astype(np.uint32) + 128) // 257).astype("u1"))
    return picture.convert("RGBA" if picture.mode in _ALPHA else "RGB")


def _exif(picture: Image.Image) -> bytes | None:
    """EXIF without orientation, which is applied, and without what shows the picture in small."""
    exif = picture.getexif()
    for tag in (_ORIENTATION, _MAKER_NOTE):
        exif.pop(tag, None)
    exif.get_ifd(_EXIF).pop(_MAKER_NOTE, None)
    return exif.tobytes() if len(exif) else None


def _compression(picture: Any) -> dict[str, Any]:
    """How a JPEG file was compressed: once more like that loses little."""
    from PIL import JpegImagePlugin

    sampling = JpegImagePlugin.get_sampling(picture)
    tables = getattr(picture, "quantization", None)
    if not tables or len(tables) > 4:
        return {}
    found: dict[str, Any] = {"qtables": tables, "quality": 100}  # percent of these tables
    return found | ({"subsampling": sampling} if sampling >= 0 else {})
