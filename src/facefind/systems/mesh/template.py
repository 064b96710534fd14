"""The face template: one that the project makes by formulas, or a user's own mesh.

The face's frame: x to the right as seen, y up, z towards the viewer, origin inside the head, 1 is
half the height of a face's box. Eyes, nose and mouth lie where the medians of some 1,600 labeled
faces of WIDER FACE that look into the camera lie in their boxes.

Shapes: V vertices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facefind.errors import DataError
from facefind.mesh import Mesh, read_obj

Array = NDArray[np.float64]

EYE, NOSE, MOUTH = (0.36, 0.267), (0.0, -0.137), (0.30, -0.462)
"""x, y of the right eye as seen, the nose tip and the right mouth corner as seen."""

_COLUMNS = 25
_ROWS = ((-1.0, MOUTH[1], 8), (MOUTH[1], NOSE[1], 6), (NOSE[1], EYE[1], 7), (EYE[1], 1.0, 9))


@dataclass(frozen=True, eq=False)
class Template:
    """A mesh in the face's frame, with what is known of its vertices.

    Attributes:
        mesh: The average face, without colors.
        landmarks: (5,) vertices at the five points, in their order; None where not known.
        mirror: (V,) the vertex on the other side of each; None where the mesh has no such.
    """

    mesh: Mesh
    landmarks: NDArray[np.int64] | None
    mirror: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.mesh)


def face_template() -> Template:
    """The project's own template: 775 vertices, 1,440 triangles, symmetric."""
    u = np.linspace(-1, 1, _COLUMNS)
    u = u - 0.035 * np.sin(np.pi * u)  # denser about the middle
    y = np.concatenate([np.linspace(a, b, n + 1)[: n + (b == 1)] for a, b, n in _ROWS])[::-1]
    grid_x, grid_y = u[None] * _half_width(y)[:, None], np.repeat(y[:, None], _COLUMNS, 1)
    flat = np.stack([grid_x, grid_y], -1).reshape(-1, 2)
    vertices = np.column_stack([flat, depth(flat[:, 0], flat[:, 1])])
    place = np.arange(len(flat)).reshape(len(y), _COLUMNS)
    a, b, c, d = place[:-1, :-1], place[:-1, 1:], place[1:, :-1], place[1:, 1:]
    # Cells are cut along opposite diagonals on the two sides, so that the sides are mirrored.
    left = np.concatenate([np.stack([a, c, d], -1), np.stack([a, d, b], -1)], -1)
    right = np.concatenate([np.stack([a, c, b], -1), np.stack([b, c, d], -1)], -1)
    half = (_COLUMNS - 1) // 2
    triangles = np.concatenate([left[:, :half], right[:, half:]], 1).reshape(-1, 3)
    goals = np.array([(-EYE[0], EYE[1]), EYE, NOSE, (-MOUTH[0], MOUTH[1]), MOUTH])
    landmarks = ((flat[None] - goals[:, None]) ** 2).sum(-1).argmin(1)
    mirror = place[:, ::-1].ravel()
    return Template(Mesh(vertices, triangles), landmarks, mirror)


def own_template(path: str | Path, landmarks: Sequence[int] | None = None) -> Template:
    """A template from a user's OBJ file of a face, brought into the face's frame.

    The file's face must look along +z with y up, as faces in such files mostly do.

    Args:
        path: the file.
        landmarks: indices, from 0, of the vertices at left eye, right eye, nose tip, left and right
            mouth corner, left as seen. With them the mesh is moved, turned and scaled to have its
            points where the project's own template has them; without, its bounds are fitted.

    Raises:
        DataError: If the file is no such mesh or an index is wrong.
    """
    mesh = read_obj(path)
    own = face_template()
    points = mesh.vertices.astype(np.float64)
    if landmarks is None:
        low, high = points.min(0), points.max(0)
        if not high[1] > low[1]:
            raise DataError(f"{path}: the mesh has no height along y")
        goal_low, goal_high = own.mesh.vertices.min(0), own.mesh.vertices.max(0)
        scale = 2 / (high[1] - low[1])
        moved = (points - (low + high) / 2) * scale
        moved[:, 2] += goal_high[2] - moved[:, 2].max()
        moved[:, :2] += (goal_low + goal_high)[:2] / 2
        return Template(Mesh(moved, mesh.triangles), None, None)
    if len(landmarks) != 5 or not all(0 <= i < len(mesh) for i in landmarks):
        raise DataError(
            f"landmarks must be five indices in 0..{len(mesh) - 1}, got {tuple(landmarks)}"
        )
    index = np.array(landmarks, np.int64)
    assert own.landmarks is not None
    moved = _fitted(points, points[index], own.mesh.vertices[own.landmarks].astype(np.float64))
    return Template(Mesh(moved, mesh.triangles), index, None)


def depth(x: Array, y: Array) -> Array:
    """Z of the average face's surface at x, y: a dome, and the relief of its parts on it."""
    side = np.abs(x)
    dome = 0.85 * np.clip(1 - (side / 0.88) ** 2.3, 0, None) ** 0.55
    dome = dome * (1 - 0.10 * np.clip(y - 0.3, 0, None) ** 2) - 0.22 * np.clip(y - 0.35, 0, None)
    along = np.clip((EYE[1] - y) / (EYE[1] - NOSE[1]), 0, 1)  # 0 at the bridge, 1 at the tip
    below = np.clip((NOSE[1] - 0.02 - y) / 0.1, 0, None)
    ridge = (0.07 + 0.19 * along) * np.exp(-(below**2)) * np.exp(-(((y - 0.3).clip(0) / 0.08) ** 2))
    nose = ridge * np.exp(-((side / (0.075 + 0.045 * along)) ** 2) / 2)
    wings = 0.06 * bump(side, y, 0.10, NOSE[1] - 0.03, 0.05, 0.05)
    sockets = -0.07 * bump(side, y, EYE[0], EYE[1], 0.12, 0.075)
    balls = 0.03 * bump(side, y, EYE[0], EYE[1], 0.06, 0.04)
    brows = 0.035 * bump(side, y, 0.3, 0.42, 0.2, 0.06)
    lips = 0.055 * bump(x, y, 0, MOUTH[1], 0.18, 0.075)
    groove = -0.03 * bump(x, y, 0, MOUTH[1], 0.22, 0.02)
    chin = 0.06 * bump(x, y, 0, -0.84, 0.18, 0.1)
    dip = -0.03 * bump(x, y, 0, -0.64, 0.2, 0.05)
    bones = 0.03 * bump(side, y, 0.46, 0.08, 0.13, 0.1)
    relief = nose + wings + sockets + balls + brows + lips + groove + chin + dip + bones
    surface: Array = dome + relief - 0.45
    return surface


def bump(x: Array, y: Array, at_x: float, at_y: float, wide: float, high: float) -> Array:
    """A Gaussian of height 1 at a place of the face."""
    value: Array = np.exp(-(((x - at_x) / wide) ** 2 + ((y - at_y) / high) ** 2) / 2)
    return value


def _half_width(y: Array) -> Array:
    """Half the width of the face at each height: a broad forehead above a narrower jaw."""
    upper = (1 - (np.clip(y - 0.2, 0, None) / 0.95) ** 2.6) ** (1 / 2.6)
    lower = (1 - (np.clip(0.2 - y, 0, None) / 1.22) ** 2.2) ** (1 / 2.2)
    width: Array = 0.77 * upper * lower
    return width


def _fitted(points: Array, source: Array, goal: Array) -> Array:
    """Points moved, turned and scaled as takes `source` nearest to `goal` (Umeyama, 1991)."""
    from_mean, to_mean = source.mean(0), goal.mean(0)
    a, b = source - from_mean, goal - to_mean
    left, values, right = np.linalg.svd(b.T @ a)
    spread = float((a**2).sum())
    if spread <= 0:
        raise DataError("the five landmarks are all at one point")
    sign = np.ones(3)
    sign[2] = np.sign(np.linalg.det(left @ right))
    turn = left @ np.diag(sign) @ right
    moved: Array = float((values * sign).sum()) / spread * (points - from_mean) @ turn.T + to_mean
    return moved
