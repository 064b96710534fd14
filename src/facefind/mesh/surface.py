"""A triangle mesh, and its files: Wavefront OBJ read and written, PLY written.

Shapes: V vertices, T triangles.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facefind.errors import DataError

__all__ = ["Mesh", "of_face", "read_obj", "write_obj", "write_ply"]


@dataclass(frozen=True, eq=False, init=False)
class Mesh:
    """Points in space, the triangles between them and, where known, a color a point.

    Raises:
        DataError: If a shape is wrong, a number is not finite, or a triangle names a vertex that
            is not there or names one twice.
    """

    vertices: NDArray[np.float32]
    """(V,3)."""
    triangles: NDArray[np.int64]
    """(T,3) indices of vertices, counter-clockwise as seen from outside."""
    colors: NDArray[np.float32] | None
    """(V,3) RGB in 0..1, or None."""

    def __init__(
        self, vertices: ArrayLike, triangles: ArrayLike, colors: ArrayLike | None = None
    ) -> None:
        """Check and copy the arrays."""
        points = np.array(vertices, np.float32)
        corners = np.array(triangles, np.int64)
        if points.ndim != 2 or points.shape[1] != 3 or not len(points):
            raise DataError(f"vertices must have shape (V,3), got {points.shape}")
        if not np.isfinite(points).all():
            raise DataError(f"{(~np.isfinite(points)).any(1).sum()} vertices are NaN or inf")
        if corners.ndim != 2 or corners.shape[1] != 3 or not len(corners):
            raise DataError(f"triangles must have shape (T,3), got {corners.shape}")
        if corners.min() < 0 or corners.max() >= len(points):
            raise DataError(
                f"triangles name vertices {corners.min()}..{corners.max()}, "
                f"but there are only 0..{len(points) - 1}"
            )
        a, b, c = corners.T
        if twice := int(((a == b) | (b == c) | (c == a)).sum()):
            raise DataError(f"{twice} triangles name a vertex twice")
        paint = None if colors is None else np.array(colors, np.float32)
        if paint is not None and paint.shape != points.shape:
            raise DataError(f"colors must have shape {points.shape}, got {paint.shape}")
        for name, array in (("vertices", points), ("triangles", corners), ("colors", paint)):
            if array is not None:
                array.setflags(write=False)
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.vertices)

    @property
    def edges(self) -> NDArray[np.int64]:
        """(E,2): each pair of vertices that a triangle joins, once, the smaller index first."""
        a, b, c = self.triangles.T
        pairs = np.sort(
            np.concatenate([self.triangles[:, :2], np.stack([b, c], 1), np.stack([c, a], 1)])
        )
        return np.unique(pairs, axis=0)

    def normals(self) -> NDArray[np.float32]:
        """Unit normals of the vertices, (V,3): the mean of their triangles' weighted by area.

        A vertex without any triangle of some area gets (0,0,0).
        """
        corners = self.vertices[self.triangles]
        facets = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        total = np.zeros_like(self.vertices)
        for corner in self.triangles.T:
            np.add.at(total, corner, facets)
        length = np.linalg.norm(total, axis=1, keepdims=True)
        unit: NDArray[np.float32] = (total / np.where(length > 0, length, 1)).astype(np.float32)
        return unit


def of_face(
    vertices: NDArray[Any], triangles: NDArray[np.int64], image: NDArray[np.uint8] | None = None
) -> Mesh:
    """A face of `Faces.mesh` as a mesh that other programs show upright: y up, z to the viewer.

    Args:
        vertices: (V,3), pixels of the image and depth, as `Faces.mesh` has them.
        triangles: (T,3), as the mean mesh of the detector's `mesh_decoder` has them.
        image: (H,W,3) uint8 that the face was found in; each vertex takes the color under it.
    """
    colors = None
    if image is not None:
        height, width = image.shape[:2]
        at = np.floor(vertices[:, :2]).clip(0, (width - 1, height - 1)).astype(int)
        colors = image[at[:, 1], at[:, 0]] / 255
    return Mesh(vertices * (1, -1, -1), triangles, colors)


def read_obj(path: str | Path) -> Mesh:
    """The mesh of a Wavefront OBJ file: vertices, their colors where all have one, triangles.

    Polygons are cut into triangles as a fan. Texture coordinates, normals, groups and materials
    are passed over.

    Raises:
        DataError: If a line cannot be read; it names the line.
        OSError: If the file cannot be opened.
    """
    vertices: list[list[float]] = []
    triangles: list[tuple[int, int, int]] = []
    with Path(path).open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            kind, *words = line.partition("#")[0].split() or [""]
            try:
                if kind == "v":
                    values = [float(word) for word in words]
                    if len(values) not in (3, 4, 6, 7):
                        raise ValueError("a vertex has 3 coordinates and perhaps a color")
                    vertices.append(values)
                elif kind == "f":
                    corners = [_corner(word, len(vertices)) for word in words]
                    if len(corners) < 3:
                        raise ValueError("a face has at least 3 corners")
                    triangles += [(corners[0], b, c) for b, c in pairwise(corners[1:])]
            except ValueError as error:
                text = line.strip()[:60]
                raise DataError(f"{path}, line {number}: {text!r}: {error}") from error
    if not vertices or not triangles:
        raise DataError(
            f"{path} has {len(vertices)} vertices and {len(triangles)} triangles: expected a "
            "Wavefront OBJ file with lines such as 'v 0 0 1' and 'f 1 2 3'"
        )
    painted = all(len(values) >= 6 for values in vertices)
    try:
        return Mesh(
            [values[:3] for values in vertices],
            triangles,
            [values[-3:] for values in vertices] if painted else None,
        )
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _corner(word: str, count: int) -> int:
    """Index from 0 of the vertex in `7`, `7/2`, `7//3` or, counted from the last one, `-1`."""
    index = int(word.split("/")[0])
    if index == 0 or index < -count:
        raise ValueError(f"there is no vertex {index} here")
    return index - 1 if index > 0 else count + index


def write_obj(mesh: Mesh, path: str | Path) -> Path:
    """Write a mesh as a Wavefront OBJ file, colors behind the coordinates; return its path."""
    path = Path(path)
    columns = mesh.vertices if mesh.colors is None else np.hstack([mesh.vertices, mesh.colors])
    lines = ["v " + " ".join(f"{value:.6g}" for value in row) for row in columns.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (mesh.triangles + 1).tolist()]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
    return path


def write_ply(mesh: Mesh, path: str | Path) -> Path:
    """Write a mesh as a binary PLY file, colors as bytes where there are any; return its path."""
    path = Path(path)
    fields: list[tuple[str, str]] = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]
    if mesh.colors is not None:
        fields += [("red", "u1"), ("green", "u1"), ("blue", "u1")]
    points = np.empty(len(mesh), fields)
    for name, column in zip("xyz", mesh.vertices.T, strict=True):
        points[name] = column
    if mesh.colors is not None:
        shades = np.round(mesh.colors.clip(0, 1) * 255)
        for name, column in zip(("red", "green", "blue"), shades.T, strict=True):
            points[name] = column
    corners = np.empty(len(mesh.triangles), [("n", "u1"), ("corners", "<i4", (3,))])
    corners["n"], corners["corners"] = 3, mesh.triangles
    kinds = {"<f4": "float", "u1": "uchar"}
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(mesh)}",
        *(f"property {kinds[kind]} {name}" for name, kind in fields),
        f"element face {len(mesh.triangles)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    path.write_bytes("\n".join(header).encode("ascii") + points.tobytes() + corners.tobytes())
    return path
