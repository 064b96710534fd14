"""A folder of faces cut out upright by their landmarks, with a manifest that says how."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facefind import landmarks
from facefind.errors import DataError
from facefind.faces import Face, Faces
from facefind.files import write_json
from facefind.pipeline.sinks import JsonLines, Sink
from facefind.pipeline.sources import output_path

__all__ = ["MANIFEST", "SETTINGS", "CropFolder"]

MANIFEST = "manifest.jsonl"
SETTINGS = "settings.json"
_JPEG_QUALITY = 95
_log = logging.getLogger(__name__)


class CropFolder(Sink):
    """Aligned crops of faces, recorded image by image, so that a run can be resumed.

    The crops of album/a.jpg are album/a_0.png, album/a_1.png, ... by falling score, or album/a.png
    where only the largest face is cut out. `manifest.jsonl` has a line an image, `settings.json`
    how the crops were made.

    Args:
        folder: Made where it is not there.
        size: Side of a crop in pixels, 1 to 4096.
        largest: Whether only the face with the largest box is cut out.
        min_size: Faces whose box has a shorter side, in the image's pixels, are left out.
        format: png keeps the pixels as they are, jpg is smaller.
        settings: What else crops depend on, such as model and threshold.
        resume: Whether to add to crops that are there already.

    Attributes:
        names: Images that were done before.

    Raises:
        DataError: there are crops already, and they are not resumed or were made with other
            settings.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        size: int = 112,
        largest: bool = False,
        min_size: float = 0.0,
        format: Literal["png", "jpg"] = "png",
        settings: Mapping[str, Any] = {},
        resume: bool = False,
    ) -> None:
        self._folder, self._size, self._largest = Path(folder), size, largest
        self._min_size, self._format = min_size, format
        made_with = dict(settings) | {
            "min_size": min_size,
            "faces": "largest" if largest else "all",
            "size": size,
            "format": format,
        }
        manifest = self._folder / MANIFEST
        if manifest.exists():
            self._check(made_with, resume)
        else:
            write_json(self._folder / SETTINGS, made_with)
        self._manifest = JsonLines(manifest, resume=True)
        self.names = self._manifest.names

    def write(self, name: str, image: NDArray[np.uint8], faces: Faces) -> dict[str, Any]:
        """Write the crops of an image; gives its line of the manifest.

        The line has the image's size, and of each crop its file, the face's index, score, box and
        landmarks, and the 2 x 3 transform that takes the image's pixels to the crop's.
        """
        if faces.landmarks is None:
            raise DataError(f"the faces of {name} have no landmarks: use a model that finds them")
        height, width = faces.image_size
        crops = list(self._cut(name, image, faces))
        record = {"image": name, "width": width, "height": height, "crops": crops}
        self._manifest.write(record)
        return record

    def _check(self, made_with: Mapping[str, Any], resume: bool) -> None:
        if not resume:
            raise DataError(
                f"{self._folder} has crops already: resume them (--resume), or give another"
            )
        note = self._folder / SETTINGS
        try:
            before = json.loads(note.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{note} cannot be read, so nothing is resumed: {error}") from None
        for key, value in made_with.items():
            if before.get(key) != value:
                raise DataError(
                    f"the crops in {self._folder} were made with {key} {before.get(key)}, not "
                    f"{value}; give another folder"
                )

    def _cut(self, name: str, image: NDArray[np.uint8], faces: Faces) -> Iterator[dict[str, Any]]:
        stem = output_path(name).with_suffix("")
        for index in self._chosen(faces):
            face = faces[index]
            suffix = f".{self._format}" if self._largest else f"_{index}.{self._format}"
            file = stem.with_name(stem.name + suffix)
            try:
                matrix = self._write(self._folder / file, image, face)
            except ValueError as error:  # landmarks on top of each other fix no crop
                _log.warning("%s, face %d: %s", name, index, error)
                continue
            assert face.landmarks is not None
            yield {
                "file": file.as_posix(),
                "face": index,
                "score": round(float(face.score), 6),
                "box": [round(float(value), 4) for value in face.box],
                "landmarks": [[round(float(v), 4) for v in point] for point in face.landmarks],
                "transform": [[round(float(v), 8) for v in row] for row in matrix],
            }

    def _write(self, path: Path, image: NDArray[np.uint8], face: Face) -> NDArray[Any]:
        """Write one crop; gives its transform."""
        from PIL import Image

        assert face.landmarks is not None
        crop = landmarks.align(image, face.landmarks, self._size)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(crop).save(path, quality=_JPEG_QUALITY)  # PNG has none
        return landmarks.similarity(face.landmarks, landmarks.template(self._size))

    def _chosen(self, faces: Faces) -> list[int]:
        """Which of an image's faces are cut out, by falling score."""
        sides = faces.boxes[:, 2:] - faces.boxes[:, :2]
        chosen = np.flatnonzero(sides.min(axis=1) >= self._min_size)
        if self._largest and len(chosen):
            chosen = chosen[[np.argmax(sides[chosen].prod(axis=1))]]
        return [int(index) for index in chosen]

    def close(self) -> None:
        """Close the manifest."""
        self._manifest.close()
