"""Folders of copies of images with their faces drawn, and of meshes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facefind.drawing import draw
from facefind.faces import Faces
from facefind.mesh import Decoder, Mesh, write_obj, write_ply
from facefind.pipeline.sources import output_path

__all__ = ["DrawingFolder", "MeshFolder"]

_WRITABLE = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
_QUALITY = 92


class DrawingFolder:
    """A folder of copies of images with their faces drawn, under the images' names.

    Args:
        folder: Made with the first copy.
        mesh_decoder: Whose triangles are drawn, where the faces have meshes.
    """

    def __init__(self, folder: str | Path, mesh_decoder: Decoder | None = None) -> None:
        self._folder = Path(folder)
        self._triangles = None if mesh_decoder is None else mesh_decoder.mean.triangles

    @staticmethod
    def target(name: str) -> Path:
        """Where an image's copy lies below the folder; formats that have no writer become PNG."""
        path = output_path(name)
        return path if path.suffix.lower() in _WRITABLE else path.with_name(path.name + ".png")

    def write(self, name: str, image: NDArray[np.uint8], faces: Faces) -> Path:
        """Write an image's copy; gives its path."""
        from PIL import Image

        path = self._folder / self.target(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = draw(image, faces, triangles=self._triangles)
        Image.fromarray(drawn).save(path, quality=_QUALITY)
        return path


class MeshFolder:
    """A folder of meshes, a file a face: `name.jpg` gives name.jpg-1.obj, the best face first.

    Args:
        folder: Made with the first mesh.
        decoder: The detector's `mesh_decoder`.
        format: Of the files.
    """

    def __init__(
        self, folder: str | Path, decoder: Decoder, format: Literal["obj", "ply"] = "obj"
    ) -> None:
        self._folder, self._decoder, self._format = Path(folder), decoder, format

    def write(self, name: str, image: NDArray[np.uint8], faces: Faces) -> list[Path]:
        """Write the meshes of an image's faces, colored by the image; gives their paths."""
        write = write_obj if self._format == "obj" else write_ply
        place = self._folder / output_path(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        paths = []
        for number, vertices in enumerate([] if faces.mesh is None else faces.mesh, 1):
            path = place.with_name(f"{place.name}-{number}.{self._format}")
            write(Mesh.from_face(vertices, self._decoder.mean.triangles, image), path)
            paths.append(path)
        return paths
