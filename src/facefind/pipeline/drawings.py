"""Folders of copies of images with their faces drawn, and of meshes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facefind.drawing import draw
from facefind.faces import Faces
from facefind.files import atomic
from facefind.mesh import Decoder, Mesh, write_obj, write_ply
from facefind.outputs import below, output_path
from facefind.pipeline.resuming import SETTINGS, Note, check_folder
from facefind.pipeline.sinks import Sink

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
        self._folder = Path(folder)
        self._note = Note(self._folder / SETTINGS, {**settings, "holds": holds})
        check_folder(self._folder, self._note, holds, resume=resume, overwrite=overwrite)
        self._begun = False

    def begin(self) -> None:
        """Make the folder, and put the note there."""
        if not self._begun:
            self._note.write()
            self._begun = True


class DrawingFolder(_ImageFolder):
    """A folder of copies of images with their faces drawn, under the images' names.

    Args:
        folder: Made with the first copy.
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
        """Write an image's copy; gives its path."""
        from PIL import Image

        self.begin()
        path = below(self._folder, self.target(name))
        drawn = draw(image, faces, triangles=self._triangles)
        with atomic(path, durable=False) as draft:
            Image.fromarray(drawn).save(draft, _WRITABLE[path.suffix.lower()], quality=_QUALITY)
        return path


class MeshFolder(_ImageFolder):
    """A folder of meshes, a file a face: `name.jpg` gives name.jpg-1.obj, the best face first.

    Args:
        folder: Made with the first mesh.
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
        """Write the meshes of an image's faces, colored by the image; gives their paths."""
        self.begin()
        write = write_obj if self._format == "obj" else write_ply
        place = below(self._folder, self.target(name))
        paths = []
        for number, vertices in enumerate([] if faces.mesh is None else faces.mesh, 1):
            path = place.with_name(f"{place.name}-{number}.{self._format}")
            mesh = Mesh.from_face(vertices, self._decoder.mean.triangles, image)
            with atomic(path, durable=False) as draft:
                write(mesh, draft)
            paths.append(path)
        return paths
