"""Mesh parameters to vertices in NumPy, so that a detector needs no torch to give meshes.

The 144 parameters of a face are its code (128 numbers for shape and texture together), its camera
(7) and its light (9). `systems.mesh` trains what is only read here.

The face's own frame: x to the right as seen, y up, z towards the viewer, origin inside the head,
1 is half the height from chin to hairline. The camera's frame: x to the right, y down, z away.

Shapes: N faces, V vertices of the finest level.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facefind import files
from facefind.errors import DataError, WeightsError
from facefind.mesh.sparse import Sparse
from facefind.mesh.surface import Mesh

__all__ = [
    "CAMERA",
    "CODE",
    "LIGHT",
    "PARAMETERS",
    "Decoder",
    "Layer",
    "moved",
    "project",
    "rotation",
]

CODE = slice(0, 128)
"""Where the joint shape and texture code lies among the parameters."""
CAMERA = slice(128, 135)
"""Location x, y (pixels) and z (units of the face), pose (pitch, yaw, roll), focal (pixels)."""
LIGHT = slice(135, 144)
"""Location of the point light, its color, the ambient color."""
PARAMETERS = 144
_VERSION = 1


@dataclass(frozen=True, eq=False)
class Layer:
    """A Chebyshev convolution of order K over one level of the mesh.

    Attributes:
        laplacian: (n,n) scaled Laplacian of the level.
        weight: (K*inputs, outputs), orders outermost.
        bias: (outputs,).
        up: (n, m) matrix that brings a level of m vertices up to this one first, or None.
    """

    laplacian: Sparse
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    up: Sparse | None = None

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """Features (n,N,outputs) of features (m,N,inputs)."""
        n, faces = self.laplacian.shape[0], x.shape[1]
        flat = x.reshape(len(x), -1)
        if self.up is not None:
            flat = self.up @ flat
        order = len(self.weight) // x.shape[2]
        terms = [flat]
        if order > 1:
            terms.append(self.laplacian @ flat)
        for _ in range(order - 2):
            terms.append(2 * (self.laplacian @ terms[-1]) - terms[-2])
        stacked = np.stack([term.reshape(n, faces, -1) for term in terms], axis=2)
        filtered: NDArray[Any] = stacked.reshape(n, faces, -1) @ self.weight + self.bias
        return filtered


@dataclass(frozen=True, eq=False)
class Decoder:
    """A trained mesh decoder, ready to run.

    Attributes:
        mean: The mesh that the outputs are offsets from; with colors.
        scale: (6,) what outputs are multiplied by before they are added to the mean.
        first: (n*C,128) weight and (n*C,) bias of the fully connected layer to the coarsest level.
        layers: Convolutions from the coarsest level to the finest; the last gives xyz and RGB.
        landmarks: (5,) vertices at the five points, or None where unknown.
        mirror: (V,) which vertex each one changes places with when the image is mirrored, or None
            where the mesh has no such symmetry.
    """

    mean: Mesh
    scale: NDArray[np.float32]
    first: tuple[NDArray[np.float32], NDArray[np.float32]]
    layers: tuple[Layer, ...]
    landmarks: NDArray[np.int64] | None = None
    mirror: NDArray[np.int64] | None = None

    def __call__(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """Vertices and RGB of codes (N,128), in the face's frame: (N,V,6).

        Source: RetinaFace, sec. 3.2 (mesh decoder).
        """
        weight, bias = self.first
        coarsest = self.layers[0].up or self.layers[0].laplacian
        x = codes.astype(np.float32) @ weight.T + bias
        x = x.reshape(len(codes), coarsest.shape[1], -1).transpose(1, 0, 2)
        for layer in self.layers[:-1]:
            x = layer(x)
            x = np.where(x > 0, x, np.expm1(np.minimum(x, 0)))  # ELU
        x = self.layers[-1](x).transpose(1, 0, 2)
        colors = np.zeros_like(self.mean.vertices) if self.mean.colors is None else self.mean.colors
        out: NDArray[np.float32] = np.hstack([self.mean.vertices, colors]) + self.scale * x
        return out.astype(np.float32)

    def vertices(
        self, parameters: NDArray[Any], mirrored: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Vertices (N,V,3) in pixels for parameters (N,144) whose camera is in pixels.

        x and y are pixels of the image, z is in pixels too, away from the viewer, 0 at the origin
        of the face.

        Args:
            parameters: (N,144).
            mirrored: (N,) whose code was found in a mirrored image, so that left and right of the
                shape change sides. Only meshes with a known mirror image can do that; the shapes
                of others stay as they are.
        """
        if parameters.ndim != 2 or parameters.shape[1] != PARAMETERS:
            raise ValueError(f"parameters must be (N,{PARAMETERS}), got {parameters.shape}")
        if not len(parameters):
            return np.empty((0, len(self.mean), 3), np.float32)
        points = self._shapes(parameters[:, CODE])
        if mirrored is not None and mirrored.any() and self.mirror is not None:
            points[mirrored] = points[mirrored][:, self.mirror] * np.array([-1, 1, 1], np.float32)
        return project(points, parameters[:, CAMERA])

    def _shapes(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """Vertices (N,V,3) of codes (N,128), few at a time, so that memory stays small."""
        step = max(1, 4_000 // len(self.mean))  # what fits in a cache is fastest
        parts = [self(codes[i : i + step])[..., :3] for i in range(0, len(codes), step)]
        return np.concatenate(parts)

    def save(self, path: str | Path) -> Path:
        """Write the decoder to an .npz file, numbers in half precision; return its path.

        The matrices between the levels keep single precision: they are few.
        """
        arrays: dict[str, NDArray[Any]] = {
            "version": np.array(_VERSION),
            "vertices": self.mean.vertices,
            "triangles": _narrow(self.mean.triangles),
            "scale": self.scale,
            "first.weight": self.first[0].astype(np.float16),
            "first.bias": self.first[1].astype(np.float16),
        }
        for name, optional in (
            ("colors", self.mean.colors),
            ("landmarks", self.landmarks),
            ("mirror", self.mirror),
        ):
            if optional is not None:
                arrays[name] = optional
        for number, layer in enumerate(self.layers):
            arrays[f"{number}.weight"] = layer.weight.astype(np.float16)
            arrays[f"{number}.bias"] = layer.bias.astype(np.float16)
            for name, matrix in (("laplacian", layer.laplacian), ("up", layer.up)):
                if matrix is None:
                    continue
                arrays[f"{number}.{name}.starts"] = _narrow(matrix.starts)
                arrays[f"{number}.{name}.columns"] = _narrow(matrix.columns)
                arrays[f"{number}.{name}.values"] = matrix.values
                arrays[f"{number}.{name}.width"] = np.array(matrix.width)
        with files.atomic(path) as draft, draft.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Decoder:
        """The decoder of an .npz file.

        Raises:
            WeightsError: If the file is missing or holds no such decoder.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
        except FileNotFoundError as error:
            raise WeightsError(f"there is no mesh decoder {path}") from error
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise WeightsError(f"{path} cannot be read as a mesh decoder: {error}") from error
        try:
            version = int(arrays["version"])
            if version != _VERSION:
                raise WeightsError(
                    f"{path} is of version {version}, this facefind reads version {_VERSION}"
                )
            layers: list[Layer] = []
            while f"{len(layers)}.weight" in arrays:
                number = len(layers)
                laplacian = _matrix(arrays, f"{number}.laplacian")
                if laplacian is None:
                    raise KeyError(f"{number}.laplacian")
                layers.append(
                    Layer(
                        laplacian,
                        arrays[f"{number}.weight"].astype(np.float32),
                        arrays[f"{number}.bias"].astype(np.float32),
                        _matrix(arrays, f"{number}.up"),
                    )
                )
            if not layers:
                raise KeyError("0.weight")
            return cls(
                Mesh(arrays["vertices"], arrays["triangles"], arrays.get("colors")),
                arrays["scale"].astype(np.float32),
                (
                    arrays["first.weight"].astype(np.float32),
                    arrays["first.bias"].astype(np.float32),
                ),
                tuple(layers),
                arrays.get("landmarks"),
                arrays.get("mirror"),
            )
        except (KeyError, ValueError, DataError) as error:
            raise WeightsError(f"{path} holds no mesh decoder: {error}") from error


def moved(
    parameters: NDArray[Any],
    points: Callable[[NDArray[Any]], NDArray[Any]],
    scale: float,
    *,
    mirrored: bool = False,
    turns: int = 0,
) -> NDArray[Any]:
    """Parameters (N,144) for another frame of the image; light is not turned.

    Args:
        parameters: as they are.
        points: takes points (N,2) to the other frame.
        scale: pixels of this frame for one of the other.
        mirrored: whether this frame is a mirror image. The code stays as it is; `Decoder.vertices`
            can mirror the shape.
        turns: quarter turns to the left from the other frame to this one, before it is mirrored.
    """
    out = parameters.copy()
    x, y, focal = CAMERA.start, CAMERA.start + 1, CAMERA.stop - 1
    yaw, roll = CAMERA.start + 4, CAMERA.start + 5
    out[:, x : y + 1] = points(parameters[:, x : y + 1])
    out[:, focal] /= scale
    if mirrored:
        out[:, [yaw, roll, LIGHT.start]] *= -1
    out[:, roll] += turns * np.pi / 2
    return out


def rotation(pose: NDArray[Any]) -> NDArray[Any]:
    """Rotation matrices (N,3,3) of poses (N,3): pitch, then yaw, then roll, in radians."""
    (sx, sy, sz), (cx, cy, cz) = np.sin(pose).T, np.cos(pose).T
    rows = (
        (cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
        (sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
        (-sy, cy * sx, cy * cx),
    )
    return np.stack([np.stack(row, -1) for row in rows], -2)


def project(vertices: NDArray[Any], camera: NDArray[Any]) -> NDArray[np.float32]:
    """Vertices (N,V,3) of the face's frame in pixels, by cameras (N,7): (N,V,3).

    The face's origin falls on the camera's x, y; that is also where the optical axis meets the
    image, so that a crop or a shift of the image changes these two numbers alone.
    """
    turned = np.einsum("nij,nvj->nvi", rotation(camera[:, 3:6]), vertices * (1, -1, -1))
    focal, distance = camera[:, None, 6:], camera[:, None, 2:3]
    flat = camera[:, None, :2] + focal * turned[..., :2] / (turned[..., 2:] + distance)
    deep = turned[..., 2:] * focal / distance
    return np.concatenate([flat, deep], -1).astype(np.float32)


def _narrow(indices: NDArray[np.int64]) -> NDArray[Any]:
    """The same whole numbers in the smallest type that holds them."""
    return indices.astype(np.min_scalar_type(int(indices.max())))


def _matrix(arrays: dict[str, NDArray[Any]], name: str) -> Sparse | None:
    if f"{name}.values" not in arrays:
        return None
    starts, columns, values, width = (
        arrays[f"{name}.{part}"] for part in ("starts", "columns", "values", "width")
    )
    return Sparse(starts, columns, values, int(width))
