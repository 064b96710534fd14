"""Folders of copies of images with their faces drawn, and of meshes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facefind.drawing import draw
from facefind.faces import Faces
from facefind.mesh import Decoder, Mesh, write_obj, write_ply
from facefind.outputs import output_path
from facefind.pipeline.resuming import SETTINGS, Note, check_folder
from facefind.pipeline.sinks import Sink
from facefind.pipeline.stores import open_store

__all__ = ["DrawingFolder", "MeshFolder"]

_WRITABLE = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP"}
_QUALITY = 92


class _ImageFolder(Sink):
    """A folder with a file or several of each image, and a note of what made them."""

    def __init__(
        self,
        folder: str | Path,
        holds: str,
        settings: Mapping[str, Any],
        *,
        resume: bool,
        overwrite: bool,
    ) -> None:
        self._store = open_store(folder)
        self._note = Note(self._store, SETTINGS, {**settings, "holds": holds})
        check_folder(self._store, self._note, holds, resume=resume, overwrite=overwrite)
        self._begun = False

    def begin(self) -> None:
        """Make the folder, and put the note there."""
        if not self._begun:
            self._note.write()
            self._begun = True


class DrawingFolder(_ImageFolder):
    """A folder of copies of images with their faces drawn, under the images' names.

    Args:
        folder: Or an address, such as s3://bucket/drawn; made with the first copy.
        mesh_decoder: Whose triangles are drawn, where the faces have meshes.
        settings: What the faces are found with; kept in `settings.json`.
        resume: Whether to add to copies that the same settings made.
        overwrite: Whether to replace those that any settings made.

    Raises:
        DataError: the folder holds other files, or copies that are neither resumed nor replaced.
    """

    def __init__(
        self,
        folder: str | Path,
        mesh_decoder: Decoder | None = None,
        *,
        settings: Mapping[str, Any] = {},
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        super().__init__(folder, "drawn copies", settings, resume=resume, overwrite=overwrite)
        self._triangles = None if mesh_decoder is None else mesh_decoder.mean.triangles

    @staticmethod
    def target(name: str) -> Path:
        """Where an image's copy lies below the folder; formats that have no writer become PNG."""
        path = output_path(name)
        return path if path.suffix.lower() in _WRITABLE else path.with_name(path.name + ".png")

    def write(self, name: str, image: NDArray[np.uint8], faces: Faces) -> Path:
        """Write an image's copy; gives its path below the folder."""
        from PIL import Image

        self.begin()
        path, file = self.target(name), io.BytesIO()
        drawn = Image.fromarray(draw(image, faces, triangles=self._triangles))
        drawn.save(file, _WRITABLE[path.suffix.lower()], quality=_QUALITY)
        self._store.put(path.as_posix(), file.getvalue())
        return path


class MeshFolder(_ImageFolder):
    """A folder of meshes, a file a face: `name.jpg` gives name.jpg-1.obj, the best face first.

    Args:
        folder: Or an address; made with the first mesh.
        decoder: The detector's `mesh_decoder`.
        format: Of the files.
        settings: What the faces are found with; kept in `settings.json`.
        resume: Whether to add to meshes that the same settings made.
        overwrite: Whether to replace those that any settings made.

    Raises:
        DataError: the folder holds other files, or meshes that are neither resumed nor replaced.
    """

    def __init__(
        self,
        folder: str | Path,
        decoder: Decoder,
        format: Literal["obj", "ply"] = "obj",
        *,
        settings: Mapping[str, Any] = {},
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        kept = {**settings, "format": format}
        super().__init__(folder, "meshes", kept, resume=resume, overwrite=overwrite)
        self._decoder, self._format = decoder, format

    @staticmethod
    def target(name: str) -> Path:
        """What the files of an image's meshes are called below the folder, but for their ends."""
        return output_path(name)

    def write(self, name: str, image: NDArray[np.uint8], faces: Faces) -> list[Path]:
        """Write the meshes of an image's faces, colored by it; gives their paths in the folder."""
        self.begin()
        write = write_obj if self._format == "obj" else write_ply
        place = self.target(name)
        paths = []
        for number, vertices in enumerate([] if faces.mesh is None else faces.mesh, 1):
            path = place.with_name(f"{place.name}-{number}.{self._format}")
            mesh = Mesh.from_face(vertices, self._decoder.mean.triangles, image)
            with self._store.draft(path.as_posix(), durable=False) as draft:
                write(mesh, draft)
            paths.append(path)
        return paths
