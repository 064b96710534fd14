"""Faces drawn into a copy of their image, and as HTML; the given image is never changed.

Pillow does all of the drawing, so that it looks the same on every machine.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from facefind.faces import Faces, checked
from facefind.images import Source

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

__all__ = ["draw", "to_html"]

Color = tuple[int, int, int]

GREEN: Color = (0, 230, 118)
MESH: Color = (150, 205, 255)
# One color a landmark, so that left differs from right at a glance: eyes, nose, mouth corners.
_LANDMARKS: tuple[Color, ...] = (
    (255, 82, 82),
    (64, 156, 255),
    (255, 235, 59),
    (255, 82, 82),
    (64, 156, 255),
)
# Ten colors for the ids of tracked faces.
_HTML_SIDE = 240  # CSS pixels of the longer side of an outline in a notebook
_HTML_ROWS = 10  # faces that its table lists
_TRACKS: tuple[Color, ...] = (
    *((0, 230, 118), (64, 156, 255), (255, 171, 64), (234, 128, 252), (255, 235, 59)),
    *((24, 255, 255), (255, 82, 82), (178, 255, 89), (255, 128, 171), (188, 170, 164)),
)


def draw(
    image: Source,
    faces: Faces,
    *,
    labels: bool = True,
    landmarks: bool = True,
    box_color: Color | None = None,
    line_width: int | None = None,
    triangles: NDArray[np.int64] | None = None,
) -> NDArray[np.uint8]:
    """A copy of the image with boxes, landmarks and scores drawn, (H,W,3) uint8.

    The channels of an array keep their order: draw into OpenCV's BGR, and BGR comes back.

    Args:
        image: The image in which the faces were found, as `images.read` takes it.
        faces: The faces to draw.
        labels: Write the score (and the id of a tracked face) at each box that is wide enough.
        landmarks: Draw the landmarks, where known.
        box_color: Color of the boxes, in the image's channel order; None is green, or one color
            for each id.
        line_width: Pixels; None suits the image's size, and is thinner on small faces.
        triangles: (T,3) of the faces' meshes (`detector.mesh_decoder.mean.triangles`); with them
            each mesh is laid over its face, shaded and half transparent.

    Raises:
        ImageError: If the image cannot be read, or is not of the faces' `image_size`.
    """
    from PIL import Image, ImageDraw

    pixels = checked(faces).read_image(image)
    canvas = Image.fromarray(pixels)  # a copy
    if triangles is not None and faces.mesh is not None:
        canvas = _with_meshes(canvas, faces.mesh, triangles)
    pen = ImageDraw.Draw(canvas)
    width = line_width or max(1, round(sum(faces.image_size) / 500))
    font = _font(max(10, 6 * width + 2)) if labels else None
    for face in reversed(list(faces)):  # the best on top
        side = max(1.0, min(face.width, face.height))
        line = width if line_width else max(1, min(width, round(side / 16)))
        shade = box_color or (GREEN if face.id is None else _TRACKS[face.id % len(_TRACKS)])
        x1, y1, x2, y2 = _corners(face.box, faces.image_size)
        pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=shade, width=line)
        if landmarks and face.landmarks is not None:
            radius = max(1.0, min(side / 28, 1.5 * width + 1))
            reach = 2 * max(faces.image_size)
            five = face.landmarks.clip(-reach, reach).tolist()
            for (x, y), dot in zip(five, _LANDMARKS, strict=True):
                disc = (x - radius, y - radius, x + radius, y + radius)
                pen.ellipse(disc, fill=dot, outline=(0, 0, 0) if radius >= 3 else None)
        if font is not None:
            text = f"{face.score:.2f}" if face.id is None else f"#{face.id} {face.score:.2f}"
            _label(pen, text, (x1, y1, x2, y2), shade, font, faces.image_size[1])
    return np.array(canvas)


def to_html(faces: Faces) -> str:
    """HTML of the faces, as notebooks show them: an outline of the image to scale, and a table.

    The outline is SVG with each face's box, landmarks and number; it holds no pixel of the image.
    The table lists the ten best faces.
    """
    height, width = faces.image_size
    scale = _HTML_SIDE / max(height, width, 1)
    line = f'fill="none" stroke="rgb{GREEN}" stroke-width="{1.5 / scale:.2f}"'
    marks = []
    for number, face in enumerate(faces):
        x, y = face.box[:2].tolist()
        marks.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.0, face.width):.1f}" '
            f'height="{max(0.0, face.height):.1f}" {line}><title>{number}: {face.score:.3f}'
            "</title></rect>"
        )
        for (left, top), color in zip(
            [] if face.landmarks is None else face.landmarks.tolist(), _LANDMARKS, strict=False
        ):
            radius = max(1 / scale, face.width / 30)
            marks.append(
                f'<circle cx="{left:.1f}" cy="{top:.1f}" r="{radius:.1f}" fill="rgb{color}"/>'
            )
    cells = [
        f"<tr><td>{number}</td><td>{face.score:.3f}</td>"
        + "".join(f"<td>{value:.1f}</td>" for value in face.box.tolist())
        + "</tr>"
        for number, face in enumerate(faces[:_HTML_ROWS])
    ]
    head = "".join(f"<th>{name}</th>" for name in ("", "score", "x1", "y1", "x2", "y2"))
    more = f"<p>and {len(faces) - _HTML_ROWS} more</p>" if len(faces) > _HTML_ROWS else ""
    table = f"<table><tr>{head}</tr>{''.join(cells)}</table>{more}" if len(faces) else ""
    return (
        f"<div><p>{escape(repr(faces))}</p>"
        f'<svg width="{width * scale:.0f}" height="{height * scale:.0f}" '
        f'viewBox="0 0 {width} {height}" style="background:#333">{"".join(marks)}</svg>'
        f"{table}</div>"
    )


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


def _corners(box: NDArray[np.float32], image_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Whole pixels, at most one image away: Pillow's coordinates do not hold any float."""
    reach = 2 * max(image_size)
    x1, y1, x2, y2 = (round(max(-reach, min(reach, v))) for v in box.tolist())
    return x1, y1, max(x1, x2), max(y1, y2)


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
