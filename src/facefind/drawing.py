"""Pictures with the faces drawn, blurred or pixelated; the image given is never changed.

All of it is Pillow's work, so that it looks the same on every machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facefind import boxes as box_math
from facefind.errors import ImageError
from facefind.faces import Faces

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

__all__ = ["blur", "draw", "pixelate"]

Color = tuple[int, int, int]

GREEN: Color = (0, 230, 118)
MESH: Color = (150, 205, 255)
# One color a point, so that left and right are told apart at a glance: eyes, nose, mouth corners.
_POINTS: tuple[Color, ...] = (
    (255, 82, 82),
    (64, 156, 255),
    (255, 235, 59),
    (255, 82, 82),
    (64, 156, 255),
)
# Ten colors for the ids of tracked faces.
_TRACKS: tuple[Color, ...] = (
    *((0, 230, 118), (64, 156, 255), (255, 171, 64), (234, 128, 252), (255, 235, 59)),
    *((24, 255, 255), (255, 82, 82), (178, 255, 89), (255, 128, 171), (188, 170, 164)),
)


def draw(
    image: NDArray[np.uint8],
    faces: Faces,
    *,
    labels: bool = True,
    landmarks: bool = True,
    color: Color | None = None,
    line_width: int | None = None,
    triangles: NDArray[np.int64] | None = None,
) -> NDArray[np.uint8]:
    """A copy of the image with boxes, points and scores drawn, (H,W,3) uint8.

    Args:
        image: The upright image in which the faces were found, (H,W,3) uint8 RGB.
        faces: What was found in it.
        labels: Write the score (and the id of a tracked face) at each box that is wide enough.
        landmarks: Draw the points, where known.
        color: RGB of the boxes; None is green, or one color for each id.
        line_width: Pixels; None suits the image's size, and is thinner on small faces.
        triangles: (T,3) of the faces' meshes (`detector.mesh_decoder.mean.triangles`); with them
            each mesh is laid over its face, shaded and half clear.
    """
    from PIL import Image, ImageDraw

    _check(image, faces)
    canvas = Image.fromarray(image)  # a copy
    if triangles is not None and faces.mesh is not None:
        canvas = _with_meshes(canvas, faces.mesh, triangles)
    pen = ImageDraw.Draw(canvas)
    width = line_width or max(1, round(sum(image.shape[:2]) / 500))
    font = _font(max(10, 6 * width + 2)) if labels else None
    for face in reversed(list(faces)):  # the best on top
        side = max(1.0, min(face.width, face.height))
        line = width if line_width else max(1, min(width, round(side / 16)))
        shade = color or (GREEN if face.id is None else _TRACKS[face.id % len(_TRACKS)])
        x1, y1, x2, y2 = _corners(face.box, faces.image_size)
        pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=shade, width=line)
        if landmarks and face.landmarks is not None:
            radius = max(1.0, min(side / 28, 1.5 * width + 1))
            reach = 2 * max(faces.image_size)
            points = face.landmarks.clip(-reach, reach).tolist()
            for (x, y), dot in zip(points, _POINTS, strict=True):
                disc = (x - radius, y - radius, x + radius, y + radius)
                pen.ellipse(disc, fill=dot, outline=(0, 0, 0) if radius >= 3 else None)
        if font is not None:
            text = f"{face.score:.2f}" if face.id is None else f"#{face.id} {face.score:.2f}"
            _label(pen, text, (x1, y1, x2, y2), shade, font, image.shape[1])
    return np.array(canvas)


def blur(
    image: NDArray[np.uint8], faces: Faces, *, margin: float = 0.15, strength: float = 0.15
) -> NDArray[np.uint8]:
    """A copy of the image with an ellipse around each face blurred past recognition.

    Args:
        image: The upright image in which the faces were found, (H,W,3) uint8.
        faces: What was found in it.
        margin: What is added on each side, as a part of the box's width and height.
        strength: Radius of the blur as a part of the face's longer side.
    """
    from PIL import Image, ImageDraw, ImageFilter

    _check(image, faces)
    out = image.copy()
    for x1, y1, x2, y2 in _parts(faces, margin):
        part = image[y1:y2, x1:x2]
        soft = Image.fromarray(part).filter(
            ImageFilter.GaussianBlur(max(1.0, strength * max(part.shape[:2])))
        )
        shape = Image.new("L", (x2 - x1, y2 - y1), 0)
        ImageDraw.Draw(shape).ellipse((0, 0, x2 - x1 - 1, y2 - y1 - 1), fill=255)
        inside = np.asarray(shape)[..., None] > 0
        out[y1:y2, x1:x2] = np.where(inside, np.asarray(soft), out[y1:y2, x1:x2])
    return out


def pixelate(
    image: NDArray[np.uint8], faces: Faces, *, margin: float = 0.1, blocks: int = 8
) -> NDArray[np.uint8]:
    """A copy of the image with each face in coarse blocks of its mean colors.

    Args:
        image: The upright image in which the faces were found, (H,W,3) uint8.
        faces: What was found in it.
        margin: What is added on each side, as a part of the box's width and height.
        blocks: Blocks along the face's longer side.
    """
    from PIL import Image

    if blocks < 1:
        raise ValueError(f"blocks must be at least 1, got {blocks}")
    _check(image, faces)
    out = image.copy()
    for x1, y1, x2, y2 in _parts(faces, margin):
        width, height = x2 - x1, y2 - y1
        step = max(1.0, max(width, height) / blocks)
        coarse = (max(1, round(width / step)), max(1, round(height / step)))
        small = Image.fromarray(image[y1:y2, x1:x2]).resize(coarse, Image.Resampling.BOX)
        large = small.resize((width, height), Image.Resampling.NEAREST)
        out[y1:y2, x1:x2] = np.asarray(large)
    return out


def _with_meshes(
    canvas: Image.Image, meshes: NDArray[np.float32], triangles: NDArray[np.int64]
) -> Image.Image:
    """The image with meshes (N,V,3) laid over it, the nearest triangles last."""
    from PIL import Image, ImageDraw

    clear = 0.6
    lamp = np.array((-0.6, -0.5, -0.62))  # above the viewer's left: the relief shows
    for vertices in meshes[::-1]:
        corners = vertices[triangles].astype(np.float64)
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        length = np.linalg.norm(cross, axis=1)
        seen = cross[:, 2] < -1e-9  # the others are turned away from the viewer
        light = np.clip(cross @ lamp / np.where(length > 0, length, 1), 0, 1)
        order = np.argsort(-corners[..., 2].mean(1))
        low = np.floor(vertices[:, :2].min(0) - 1).clip(0, canvas.size).astype(int)
        high = np.ceil(vertices[:, :2].max(0) + 2).clip(0, canvas.size).astype(int)
        if (high <= low).any():
            continue
        part = canvas.crop((*low.tolist(), *high.tolist()))
        cover = part.copy()
        pen = ImageDraw.Draw(cover)
        for number in order[seen[order]]:
            level = 0.1 + 0.9 * light[number] ** 1.5
            shade = tuple(round(level * channel) for channel in MESH)
            points = [(x, y) for x, y in (corners[number, :, :2] - low).tolist()]
            pen.polygon(points, fill=shade)
        canvas.paste(Image.blend(part, cover, clear), tuple(low.tolist()))
    return canvas


def _check(image: NDArray[Any], faces: Faces) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ImageError(f"image must be (H,W,3) uint8, got {image.shape} {image.dtype}")
    if image.shape[:2] != faces.image_size:
        raise ImageError(
            f"these faces were found in an image of (h, w) = {faces.image_size}, "
            f"got one of {image.shape[:2]}; pass the upright image, as images.read gives it"
        )


def _corners(box: NDArray[np.float32], image_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Whole pixels, at most one image away: Pillow's coordinates do not hold any float."""
    reach = 2 * max(image_size)
    x1, y1, x2, y2 = (round(max(-reach, min(reach, v))) for v in box.tolist())
    return x1, y1, max(x1, x2), max(y1, y2)


def _parts(faces: Faces, margin: float) -> list[tuple[int, int, int, int]]:
    """Whole-pixel parts of the image that hold the faces; those without pixels are left out."""
    grown = box_math.clip(box_math.expand(faces.boxes, margin), faces.image_size)
    low, high = np.floor(grown[:, :2]).astype(int), np.ceil(grown[:, 2:]).astype(int)
    corners = np.concatenate([low, high], axis=1)
    kept = corners[(high > low).all(axis=1)]
    return [(x1, y1, x2, y2) for x1, y1, x2, y2 in kept.tolist()]


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _label(
    pen: ImageDraw.ImageDraw,
    text: str,
    box: tuple[int, int, int, int],
    color: Color,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    image_width: int,
) -> None:
    """Dark text on a plate above the box, or inside its top where there is no room above."""
    left, top, right, bottom = (int(v) for v in pen.textbbox((0, 0), text, font=font))
    pad = 2
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    if box[2] - box[0] < 0.6 * width:
        return  # the plate would hide its neighbors
    x = max(0, min(box[0], image_width - width))
    y = box[1] - height if box[1] >= height else box[1]
    pen.rectangle((x, y, x + width - 1, y + height - 1), fill=color)
    pen.text((x + pad - left, y + pad - top), text, fill=(0, 0, 0), font=font)
