"""Images with the faces hidden: blurred, pixelated, filled or covered by a picture.

The given image is never changed. `hide` works on pixels of any kind, in place: RGB, gray, CMYK,
planes of a video, 8 or 16 bits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facefind import boxes as box_math
from facefind.errors import DataError
from facefind.faces import Faces, checked
from facefind.files import sha256
from facefind.images import Source, read, resize

__all__ = [
    "CAREFUL",
    "Careful",
    "Method",
    "RedactOptions",
    "Redaction",
    "Shape",
    "blur",
    "fill",
    "grown",
    "hide",
    "painter",
    "pixelate",
    "redact",
]

Method = Literal["blur", "pixelate", "fill", "image"]
Shape = Literal["ellipse", "box"]
Paint = Callable[[int, int], NDArray[Any]]
"""Pixels (h,w,...) to put in place of a face, of the height and width of its whole box."""

_CELLS = 32  # along the longer side of a face that is blurred: a blur has no finer detail


@dataclass(frozen=True, kw_only=True, eq=False)
class Redaction:
    """How faces are hidden.

    Raises:
        ValueError: a setting is out of its range.
    """

    method: Method = "blur"
    """"blur" and "pixelate" leave an impression of the face; "fill" and "image" (a picture over it)
    leave nothing of it."""
    shape: Shape = "ellipse"
    """What is hidden of the box: all of it, or the ellipse that touches its sides."""
    grow: float = 1.2
    """How many times wider and higher than the face's box."""
    strength: float = 0.15
    """Radius of the blur, as a fraction of the longer side."""
    blocks: int = 8
    """Blocks of "pixelate" along the longer side."""
    color: tuple[int, int, int] = (0, 0, 0)
    """Of "fill": 0..255, in the image's channel order."""
    picture: NDArray[np.uint8] | None = None
    """Of "image": (H,W,3) uint8, stretched over the face."""

    def __post_init__(self) -> None:
        for name, kind, value in (("method", Method, self.method), ("shape", Shape, self.shape)):
            if value not in get_args(kind):
                raise ValueError(f"{name} must be one of {get_args(kind)}, got {value!r}")
        if not 0 < self.grow <= 10:
            raise ValueError(f"grow must be above 0 and at most 10, got {self.grow}")
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength must be above 0 and at most 1, got {self.strength}")
        if self.blocks < 1:
            raise ValueError(f"blocks must be at least 1, got {self.blocks}")
        if np.shape(self.color) != (3,) or not all(0 <= value <= 255 for value in self.color):
            raise ValueError(f"color must be three numbers from 0 to 255, got {self.color!r}")
        if (self.method == "image") != (self.picture is not None):
            raise ValueError("method 'image' needs a picture, and no other method takes one")


@dataclass(frozen=True)
class Careful:
    """Settings that find more faces, in several times the time; see docs/guides/redact.md."""

    protocol: str = "everyday:640,1280:flip"
    min_score: float = 0.35
    grow: float = 1.5


CAREFUL = Careful()


@dataclass(frozen=True, kw_only=True)
class RedactOptions:
    """How copies of many pictures are made in which faces are hidden.

    Raises:
        DataError: a number is out of its range, or there is no picture for "image".
    """

    method: Method = "blur"
    """How faces are hidden. blur and pixelate leave an impression of a face; fill (one color) and
    image (--picture over it) leave nothing of it."""
    picture: Path | None = None
    """With image, the picture that covers faces."""
    color: tuple[int, int, int] = (0, 0, 0)
    """With fill, red, green and blue from 0 to 255."""
    shape: Shape = "ellipse"
    """What is hidden of a face's box: the ellipse in it, or all of it."""
    grow: float | None = None
    """How many times wider and higher than the face's box; 1.2, with --careful 1.5."""
    careful: bool = False
    """Find more faces, in several times the time: at two sizes and mirrored, from lower scores;
    more that is no face is hidden, too."""
    strip_metadata: bool = True
    """Leave out EXIF (place, camera), texts, and previews, which show the face; the color profile
    stays, and orientation is applied. With --no-strip-metadata EXIF stays, without previews."""

    def __post_init__(self) -> None:
        if self.grow is not None and not 1 <= self.grow <= 10:
            raise DataError(f"grow {self.grow}: expected 1 to 10")
        for value in self.color:
            if not 0 <= value <= 255:
                raise DataError(f"color {value}: expected 0 to 255")
        if (self.method == "image") != (self.picture is not None):
            raise DataError("image covers faces with a picture (--picture): name both, or neither")

    def redaction(self) -> Redaction:
        """How faces are hidden; the picture is read.

        Raises:
            ImageError: The picture cannot be read.
        """
        return Redaction(
            method=self.method,
            shape=self.shape,
            grow=self.grow or (CAREFUL.grow if self.careful else 1.2),
            color=self.color,
            picture=None if self.picture is None else read(self.picture),
        )

    def finding(
        self, protocol: str | None, min_score: float | None
    ) -> tuple[str | None, float | None]:
        """The test protocol and threshold to find faces with, given those that a user names."""
        if not self.careful:
            return protocol, min_score
        return protocol or CAREFUL.protocol, CAREFUL.min_score if min_score is None else min_score

    def to_dict(self) -> dict[str, Any]:
        """Plain values, from which another process makes the same.

        Raises:
            DataError: the picture is not there.
        """
        values = asdict(self) | {"color": list(self.color)}
        if self.picture is not None:
            if not self.picture.is_file():
                raise DataError(f"{self.picture} does not exist: name the picture to cover faces")
            values |= {"picture": os.path.abspath(self.picture)}
            values |= {"picture_sha256": sha256(self.picture)}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RedactOptions:
        """The options of these values, as of `to_dict`.

        Raises:
            DataError: the picture is not there, or is another one.
        """
        given = dict(values) | {"color": tuple(values["color"])}
        digest = given.pop("picture_sha256", None)
        if digest is not None:
            given["picture"] = path = Path(given["picture"])
            if not path.is_file() or sha256(path) != digest:
                raise DataError(f"{path} is not the picture that was named first: bring it back")
        return cls(**given)


def redact(
    image: Source,
    faces: Faces,
    method: Method = "blur",
    *,
    shape: Shape = "ellipse",
    grow: float = 1.2,
    strength: float = 0.15,
    blocks: int = 8,
    color: tuple[int, int, int] = (0, 0, 0),
    picture: Source | None = None,
) -> NDArray[np.uint8]:
    """A copy of the image with the faces hidden, (H,W,3) uint8 RGB.

    >>> facefind.redact("people.jpg", facefind.detect("people.jpg"), "fill", shape="box")

    Args:
        image: The image in which the faces were found, as `images.read` takes it.
        faces: The faces to hide.
        method: "blur", "pixelate", "fill" or "image"; of the last two nothing is left of a face.
        shape: "ellipse" or "box".
        grow: How many times wider and higher than a face's box.
        strength: Radius of the blur, as a fraction of the longer side.
        blocks: Blocks of "pixelate" along the longer side.
        color: Of "fill", 0..255, in the image's channel order.
        picture: Of "image", stretched over each face.

    Raises:
        ImageError: If an image cannot be read, or is not of the faces' `image_size`.
        ValueError: If a setting is out of its range.
    """
    how = Redaction(
        method=method,
        shape=shape,
        grow=grow,
        strength=strength,
        blocks=blocks,
        color=color,
        picture=None if picture is None else read(picture),
    )
    out = checked(faces).read_image(image).copy()
    hide(out, grown(faces, how), how)
    return out


def blur(
    image: Source, faces: Faces, *, margin: float = 0.15, strength: float = 0.15
) -> NDArray[np.uint8]:
    """A copy of the image with an ellipse around each face blurred past recognition.

    Args:
        image: The image in which the faces were found, as `images.read` takes it.
        faces: The faces to hide.
        margin: Added on each side, as a fraction of the box's width and height.
        strength: Radius of the blur as a fraction of the face's longer side.

    Raises:
        ImageError: If the image cannot be read, or is not of the faces' `image_size`.
        ValueError: `margin` or `strength` is out of its range.
    """
    return redact(image, faces, "blur", grow=_grow(margin), strength=strength)


def pixelate(
    image: Source, faces: Faces, *, margin: float = 0.1, blocks: int = 8
) -> NDArray[np.uint8]:
    """A copy of the image with each face in coarse blocks of its mean colors.

    Args:
        image: The image in which the faces were found, as `images.read` takes it.
        faces: The faces to hide.
        margin: Added on each side, as a fraction of the box's width and height.
        blocks: Blocks along the face's longer side.

    Raises:
        ImageError: If the image cannot be read, or is not of the faces' `image_size`.
        ValueError: `margin` or `blocks` is out of its range.
    """
    return redact(image, faces, "pixelate", shape="box", grow=_grow(margin), blocks=blocks)


def fill(
    image: Source,
    faces: Faces,
    *,
    margin: float = 0.1,
    color: tuple[int, int, int] = (0, 0, 0),
) -> NDArray[np.uint8]:
    """A copy of the image with a rectangle of one color over each face: nothing of it is left.

    Args:
        image: The image in which the faces were found, as `images.read` takes it.
        faces: The faces to hide.
        margin: Added on each side, as a fraction of the box's width and height.
        color: The three channels of the rectangles, 0..255, in the image's channel order.

    Raises:
        ImageError: If the image cannot be read, or is not of the faces' `image_size`.
        ValueError: `margin` or `color` is out of its range.
    """
    return redact(image, faces, "fill", shape="box", grow=_grow(margin), color=color)


def _grow(margin: float) -> float:
    if not 0 <= margin <= 4.5:
        raise ValueError(f"margin must be from 0 to 4.5, got {margin}")
    return 1 + 2 * margin


def grown(faces: Faces, how: Redaction) -> NDArray[np.float64]:
    """What of the image is hidden: the faces' boxes (N,4) xyxy, grown; not cut at its edges."""
    return np.asarray(box_math.expand(faces.boxes.astype(np.float64), (how.grow - 1) / 2))


def hide(
    pixels: NDArray[Any], boxes: ArrayLike, how: Redaction, paint: Paint | None = None
) -> None:
    """Hide what lies in boxes, in place.

    Args:
        pixels: (H,W) or (H,W,C) of whole numbers.
        boxes: (N,4) xyxy in these pixels, grown already; they may reach beyond the edges.
        how: How it is hidden; of its `grow` nothing is used.
        paint: Makes what "fill" and "image" put there; None makes it of RGB as `how` says.
    """
    height, width = pixels.shape[:2]
    most = max(height, width)  # of what lies beyond an edge, so that what is painted stays small
    every = np.asarray(boxes, np.float64).reshape(-1, 4)
    every = np.clip(every, -most, np.array([width, height, width, height]) + most)
    parts = box_math.to_pixels(every, (height, width))
    for box, (x1, y1, x2, y2) in zip(every, parts.tolist(), strict=True):
        if x2 <= x1 or y2 <= y1:
            continue
        region = pixels[y1:y2, x1:x2]
        if how.method in ("fill", "image"):
            left, top = np.floor(box[:2]).astype(int)
            right, bottom = np.ceil(box[2:]).astype(int)
            whole = (paint or painter(how))(int(bottom - top), int(right - left))
            new = whole[y1 - top : y2 - top, x1 - left : x2 - left].astype(pixels.dtype)
        else:
            new = _coarse(region, how)
        if how.shape == "box":
            region[...] = new
        else:
            inside = _ellipse(box, (x1, y1), (region.shape[0], region.shape[1]))
            region[inside] = new[inside]


def painter(how: Redaction) -> Paint:
    """Makes the RGB pixels (h,w,3) uint8 that "fill" and "image" put over a face."""

    def paint(height: int, width: int) -> NDArray[Any]:
        if how.picture is not None:
            return resize(how.picture, (height, width))
        return np.broadcast_to(np.array(how.color, np.uint8), (height, width, 3))

    return paint


def _ellipse(
    box: NDArray[np.float64], corner: tuple[int, int], size: tuple[int, int]
) -> NDArray[np.bool_]:
    """Which pixels of a region (h,w), from its upper left corner on, the ellipse of a box holds."""
    center, radius = (box[:2] + box[2:]) / 2, np.maximum((box[2:] - box[:2]) / 2, 0.5)
    x = (corner[0] + np.arange(size[1]) + 0.5 - center[0]) / radius[0]
    y = (corner[1] + np.arange(size[0]) + 0.5 - center[1]) / radius[1]
    return np.asarray(x**2 + y[:, None] ** 2 <= 1)


def _coarse(region: NDArray[Any], how: Redaction) -> NDArray[Any]:
    """A region's pixels blurred or pixelated: means of a coarse grid, laid out again."""
    height, width = region.shape[:2]
    longest = max(height, width)
    most = min(_CELLS if how.method == "blur" else how.blocks, longest)
    rows, columns = (max(1, round(most * side / longest)) for side in (height, width))
    flat = region.reshape(height, width, -1).astype(np.float32)
    small = np.einsum("rh,hwc->rwc", _means(rows, height), flat, optimize=True)
    small = np.einsum("kw,rwc->rkc", _means(columns, width), small, optimize=True)
    if how.method == "pixelate":
        ys, xs = np.arange(height) * rows // height, np.arange(width) * columns // width
        large = small[ys[:, None], xs]
    else:
        radius = max(how.strength * most, most / longest)
        down = _blurred(rows, radius) if rows > 1 else np.ones((1, 1), np.float32)
        across = _blurred(columns, radius) if columns > 1 else np.ones((1, 1), np.float32)
        down, across = _between(rows, height) @ down, _between(columns, width) @ across
        large = np.einsum("hr,rkc->hkc", down, small, optimize=True)
        large = np.einsum("wk,hkc->hwc", across, large, optimize=True)
    most = np.iinfo(region.dtype).max
    whole = np.clip(np.rint(large), 0, most).astype(region.dtype)
    return np.asarray(whole.reshape(region.shape))


def _means(cells: int, length: int) -> NDArray[np.float32]:
    """(cells, length): takes pixels to the means of equal parts of their row."""
    edges = np.linspace(0, length, cells + 1)
    pixel = np.arange(length)
    shared = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    weights = np.clip(shared, 0, None)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def _blurred(cells: int, radius: float) -> NDArray[np.float32]:
    """(cells, cells): a Gaussian of this standard deviation; at the ends what is there counts."""
    apart = np.arange(cells)[:, None] - np.arange(cells)
    weights = np.exp(-0.5 * (apart / radius) ** 2)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def _between(cells: int, length: int) -> NDArray[np.float32]:
    """(length, cells): takes the cells' values to pixels, on lines between their centers."""
    at = np.clip((np.arange(length) + 0.5) * cells / length - 0.5, 0, cells - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(at[:, None] - np.arange(cells))), np.float32)
