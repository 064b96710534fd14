"""Faces that the project can generate: shapes and skins for a template to learn from.

Shapes are sums of smooth displacements over the face, skins are layers of color, all formulas of
the place on the face, so they fit any template in the face's frame. No scan or photograph is in
them. Shapes: N faces, V vertices.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facefind.systems.mesh.template import EYE, MOUTH, NOSE, Array, Template, bump

_TONES = np.array([(0.97, 0.81, 0.73), (0.86, 0.66, 0.53), (0.62, 0.43, 0.31), (0.33, 0.21, 0.15)])
_HAIR = np.array([(0.06, 0.05, 0.05), (0.25, 0.16, 0.10), (0.62, 0.47, 0.28), (0.75, 0.73, 0.70)])
_IRIS = np.array([(0.10, 0.07, 0.05), (0.25, 0.16, 0.09), (0.30, 0.42, 0.50)])


def generate(template: Template, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Random faces: vertices in the face's frame and RGB in 0..1, (N,V,6)."""
    points = template.mesh.vertices.astype(np.float64)
    opening = np.maximum(0, rng.normal(-0.1, 0.5, (count, 1)))
    shapes = points + _displaced(points, opening, rng)
    skins = _painted(points, opening, rng)
    return np.concatenate([shapes, skins], -1).astype(np.float32)


def _displaced(points: Array, opening: Array, rng: np.random.Generator) -> Array:
    """Displacements (N,V,3): proportions, parts of the face, expression, and what is left."""
    fields = np.concatenate([_proportions(points), _parts(points), _waves(points)])
    amounts = rng.normal(size=(len(opening), len(fields))).clip(-2.5, 2.5)
    total = np.tensordot(amounts, fields, 1)
    x, y, _ = points.T
    jaw = 1 / (1 + np.exp((y - MOUTH[1] + 0.005) / 0.008))
    drop = np.stack([0 * x, -0.16 * jaw * np.exp(-((x / 0.7) ** 4)), -0.04 * jaw], -1)
    lips = np.stack([-0.05 * x * bump(x, y, 0, MOUTH[1], 0.35, 0.08), 0 * x, 0 * x], -1)
    result: Array = total + opening[..., None] * (drop + lips)
    return result


def _proportions(points: Array) -> Array:
    """What changes the face as a whole, one standard deviation each: (6,V,3)."""
    x, y, z = points.T
    none = np.zeros_like(x)
    jaw, top = 1 / (1 + np.exp((y + 0.25) / 0.1)), 1 / (1 + np.exp((0.5 - y) / 0.1))
    rows = [
        (0.05 * x, none, none),
        (0.09 * x * jaw, none, none),
        (0.06 * x * top, none, none),
        (none, 0.12 * np.minimum(0, y - MOUTH[1]), none),
        (none, 0.10 * np.maximum(0, y - 0.35), none),
        (none, none, 0.10 * z),
    ]
    return np.stack([np.stack(row, -1) for row in rows])


def _parts(points: Array) -> Array:
    """What changes eyes, nose, mouth, chin and cheeks, and moves them in expression: (21,V,3)."""
    x, y, _ = points.T
    none, side, sign = np.zeros_like(x), np.abs(x), np.tanh(x / 0.05)
    eye = bump(side, y, *EYE, 0.15, 0.12)
    mouth = bump(x, y, 0, MOUTH[1], 0.35, 0.13)
    corners = bump(side, y, *MOUTH, 0.12, 0.09)
    tip = bump(x, y, *NOSE, 0.14, 0.12)
    ridge = bump(x, y, 0, 0.02, 0.08, 0.16)
    brow = bump(side, y, 0.34, 0.42, 0.22, 0.08)
    lips = bump(x, y, 0, MOUTH[1], 0.25, 0.07)
    near_eye = bump(side, y, *EYE, 0.12, 0.08)
    rows = [
        (none, -0.05 * tip, none),
        (none, none, 0.05 * (tip + ridge)),
        (0.22 * x * bump(x, y, 0, NOSE[1] - 0.02, 0.14, 0.09), none, none),
        (none, none, 0.03 * bump(x, y, 0, 0.2, 0.09, 0.12)),
        (0.03 * sign * eye, none, none),
        (none, 0.035 * eye, none),
        (0.15 * (x - sign * EYE[0]) * near_eye, 0.25 * (y - EYE[1]) * near_eye, none),
        (none, none, 0.03 * eye),
        (none, 0.04 * mouth, none),
        (0.04 * sign * corners, none, none),
        (none, 0.25 * (y - MOUTH[1]) * lips, 0.02 * lips),
        (none, none, 0.04 * mouth),
        (none, none, 0.05 * bump(x, y, 0, -0.85, 0.25, 0.18)),
        (none, none, 0.035 * bump(side, y, 0.45, 0.05, 0.16, 0.13)),
        (none, none, 0.025 * brow),
        (0.045 * sign * bump(side, y, 0.6, -0.25, 0.18, 0.25), none, none),
        (0.02 * tip, none, none),
        (0.025 * mouth, none, none),
        (0.03 * sign * corners, 0.05 * corners, -0.02 * corners),
        (none, 0.05 * brow, none),
        (none, 0.03 * sign * corners, none),
    ]
    return np.stack([np.stack(row, -1) for row in rows])


def _waves(points: Array) -> Array:
    """Slow waves of depth over the face, symmetric ones and others: (6,V,3)."""
    x, y, _ = points.T
    waves = [
        np.cos(np.pi * a * x + b) * np.cos(np.pi * c * y + d) / (1 + a + c)
        for a, b, c, d in (
            (1, 0, 1, 0),
            (1, 0, 1, 1.57),
            (2, 0, 1, 0.8),
            (1, 0, 2, 0),
            (1, 1.57, 1, 0.5),
            (2, 1.57, 2, 0),
        )
    ]
    return np.stack([np.stack([0 * x, 0 * x, 0.05 * wave], -1) for wave in waves])


def _painted(points: Array, opening: Array, rng: np.random.Generator) -> Array:
    """Albedo (N,V,3): skin, and on it layer by layer what is painted on faces."""
    count = len(opening)
    x, y, _ = points.T
    side = np.abs(x)
    skin = _between(_TONES, rng.random(count)) + rng.normal(0, 0.012, (count, 3))
    paint = np.repeat((skin * rng.uniform(0.85, 1.1, (count, 1)))[:, None], len(points), 1)
    hair = _between(_HAIR, rng.random(count) ** 1.5)

    def amount(chance: float, low: float, high: float) -> Array:
        """(N,): a strength for some of the faces, 0 for the others."""
        strength: Array = rng.uniform(low, high, count) * (rng.random(count) < chance)
        return strength

    def layer(mask: Array, color: Array, strength: Array) -> None:
        nonlocal paint
        alpha = (mask * strength[:, None]).clip(0, 1)[..., None]
        paint = paint * (1 - alpha) + alpha * color[:, None]

    def shade(mask: Array, strength: Array) -> None:
        nonlocal paint
        paint = paint * (1 - (mask * strength[:, None]).clip(0, 1)[..., None])

    shade(bump(side, y, 0.33, EYE[1] + 0.02, 0.17, 0.09), amount(1, 0.0, 0.45))
    red = skin * (1.05, 0.78, 0.76)
    layer(bump(side, y, 0.42, -0.12, 0.16, 0.14), red, amount(0.7, 0.0, 0.7))
    layer(bump(x, y, 0, NOSE[1], 0.1, 0.09), red, amount(0.5, 0.0, 0.5))
    shade(bump(x, y, 0, NOSE[1] - 0.1, 0.13, 0.035), amount(1, 0.0, 0.5))
    shade(bump(side, y, 0.07, NOSE[1] - 0.065, 0.03, 0.025), amount(1, 0.1, 0.7))
    fold = np.exp(-(((side - 0.22 - 0.35 * (NOSE[1] - y)) / 0.035) ** 2)) * bump(
        x, y, 0, -0.28, 1, 0.1
    )
    shade(fold, amount(0.7, 0.0, 0.35))

    lips = np.exp(-((x / 0.27) ** 4) - ((y - MOUTH[1]) / 0.07) ** 4)
    tint = skin * rng.uniform((0.85, 0.45, 0.45), (1.05, 0.75, 0.75), (count, 3))
    layer(lips, tint, amount(1, 0.3, 1.0))
    gap = np.exp(-((x / 0.26) ** 6) - ((y - MOUTH[1]) / 0.03) ** 2)
    teeth = rng.random(count) < 0.4
    inner = np.where(teeth[:, None], (0.85, 0.82, 0.78), (0.15, 0.06, 0.06))
    layer(gap, inner, np.where(opening[:, 0] > 0.1, 0.9, amount(1, 0.1, 0.6)))

    awake = rng.random(count) < 0.9
    white = np.exp(-(((side - EYE[0]) / 0.12) ** 4) - ((y - EYE[1]) / 0.05) ** 4)
    sclera = np.repeat(np.array([(0.85, 0.83, 0.82)]), count, 0) * rng.uniform(0.7, 1, (count, 1))
    layer(white, sclera, awake * amount(1, 0.1, 0.9))
    iris = _between(_IRIS, rng.random(count))
    layer(bump(side, y, *EYE, 0.045, 0.04), iris, awake * amount(1, 0.6, 1.0))
    lashes = np.exp(
        -(((side - EYE[0]) / 0.14) ** 4)
        - ((y - EYE[1] - 0.055 + 2 * (side - EYE[0]) ** 2) / 0.03) ** 2
    )
    layer(lashes, hair * 0.5, amount(1, 0.2, 0.9))
    arch = EYE[1] + 0.15 - 0.9 * (side - EYE[0]) ** 2
    brows = np.exp(-(((side - EYE[0]) / 0.2) ** 4) - ((y - arch) / 0.04) ** 2)
    layer(brows, hair, amount(1, 0.2, 0.95))

    jaw = 1 / (1 + np.exp((y + 0.28 + 0.3 * (0.6 - side)) / 0.06))
    chin = 1 / (1 + np.exp((y + 0.6) / 0.05)) * np.exp(-((x / 0.35) ** 4))
    lip_hair = np.exp(-((x / 0.28) ** 4) - ((y - MOUTH[1] - 0.11) / 0.045) ** 2)
    beard = np.maximum(np.maximum(jaw, chin), lip_hair) * (1 - lips)
    layer(beard, hair * 0.9, amount(0.2, 0.1, 0.9))
    layer(lip_hair * (1 - lips), hair, amount(0.12, 0.2, 0.9))
    hairline = rng.uniform(0.6, 1.2, (count, 1)) - 0.3 * side**2
    fringe = 1 / (1 + np.exp((hairline - y) / 0.05))
    layer(fringe, hair, amount(0.7, 0.5, 1.0))
    temples = 1 / (1 + np.exp((0.66 - 0.1 * y**2 - side) / 0.03))
    layer(temples, hair, amount(0.35, 0.3, 1.0))

    ring = np.hypot(side - EYE[0] + 0.01, 1.15 * (y - EYE[1] + 0.03))
    frame = np.exp(-(((ring - 0.19) / 0.03) ** 2)) + bump(x, y, 0, EYE[1], 0.08, 0.03)
    dark = np.repeat(np.array([(0.08, 0.07, 0.07)]), count, 0)
    layer(frame.clip(0, 1), dark, amount(0.15, 0.3, 0.9))
    layer((ring < 0.19) * 1.0, dark, amount(0.04, 0.6, 0.95))  # sunglasses
    return paint.clip(0, 1)


def _between(colors: Array, place: Array) -> Array:
    """Colors (N,3) at places 0..1 along a row of them."""
    at = place * (len(colors) - 1)
    low = np.minimum(at.astype(int), len(colors) - 2)
    part = (at - low)[:, None]
    mixed: Array = colors[low] * (1 - part) + colors[low + 1] * part
    return mixed
