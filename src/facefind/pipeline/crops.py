"""A folder of faces cut out upright by their landmarks, with a manifest that says how."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facefind import landmarks
from facefind.cropping import CropOptions
from facefind.detector import FaceDetector
from facefind.errors import DataError
from facefind.faces import Faces
from facefind.outputs import output_path
from facefind.pipeline.manifests import ListedFolder

__all__ = ["MANIFEST", "CropFolder", "aligned_crops", "check_landmarks"]

MANIFEST = "manifest.jsonl"
_FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}
_log = logging.getLogger(__name__)


class CropFolder(ListedFolder):
    """Aligned crops of faces, recorded image by image, so that a run can be resumed.

    The crops of album/a.jpg are album/a_0.png, album/a_1.png, ... by falling score, or album/a.png
    where only the largest face is cut out. `manifest.jsonl` has a line an image, `settings.json`
    how the crops were made.

    Args:
        folder: Or an address, such as s3://bucket/crops; made where it is not there.
        how: Which faces are cut out, and how.
        per_tar: Images whose crops go into a tar file together, each crop with its entry in the
            manifest as a JSON file beside it, as WebDataset has them; None writes files.
        settings: What else crops depend on, such as model and threshold.
        resume: Whether to add to crops that are there already.

    Attributes:
        names: Images that were done before.

    Raises:
        DataError: there are crops already, and they are not resumed or were made with other
            settings; there are other files; or another process writes there.
    """

    def __init__(
        self,
        folder: str | Path,
        how: CropOptions = CropOptions(),  # noqa: B008
        *,
        per_tar: int | None = None,
        settings: Mapping[str, Any] = {},
        resume: bool = False,
    ) -> None:
        made_with = dict(settings) | asdict(how)
        if how.format == "png":
            del made_with["quality"]
        super().__init__(folder, "crops", MANIFEST, made_with, per_tar=per_tar, resume=resume)
        self._how = how

    def write(self, name: str, image: NDArray[np.uint8], faces: Faces) -> dict[str, Any]:
        """Write the crops of an image; gives its line of the manifest.

        The line has the image's size, and of each crop its file, the face's index, score, box and
        landmarks, and the 2 x 3 transform that takes the image's pixels to the crop's.

        Raises:
            DataError: The faces have no landmarks, or the folder holds other results.
        """
        if faces.landmarks is None:
            raise DataError(f"the faces of {name} have no landmarks: use a model that finds them")
        self.begin()
        height, width = faces.image_size
        cut = list(self._cut(name, image, faces))
        crops = [crop for crop, _ in cut]
        record: dict[str, Any] = {"image": name, "width": width, "height": height, "crops": crops}
        contents = {crop["file"]: content for crop, content in cut}
        beside = {
            Path(crop["file"]).with_suffix(".json").as_posix(): json.dumps(
                {"image": name, **crop}
            ).encode()
            for crop in crops
        }
        self.record(record, contents, beside)
        return record

    def _cut(
        self, name: str, image: NDArray[np.uint8], faces: Faces
    ) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Each crop's entry in the manifest, and its file."""
        stem = output_path(name).with_suffix("")
        for record, crop in aligned_crops(
            image,
            faces,
            size=self._how.size,
            largest=self._how.faces == "largest",
            min_size=self._how.min_size,
            name=name,
        ):
            number = "" if self._how.faces == "largest" else f"_{record['face']}"
            file = stem.with_name(f"{stem.name}{number}.{self._how.format}")
            yield {"file": file.as_posix(), **record}, self._encode(crop)

    def _encode(self, crop: NDArray[np.uint8]) -> bytes:
        from PIL import Image

        file = io.BytesIO()
        image = Image.fromarray(crop)
        image.save(file, _FORMATS[self._how.format], quality=self._how.quality)  # PNG has none
        return file.getvalue()


def check_landmarks(detector: FaceDetector) -> None:
    """Raise DataError where a detector finds no landmarks, by which faces are aligned."""
    if not detector.card.landmarks:
        raise DataError(
            f"{detector.card.name} finds no landmarks to align faces by; facefind models says "
            "which do"
        )


def aligned_crops(
    image: NDArray[np.uint8],
    faces: Faces,
    *,
    size: int = 112,
    largest: bool = False,
    min_size: float = 0.0,
    name: str = "the image",
) -> Iterator[tuple[dict[str, Any], NDArray[np.uint8]]]:
    """Yield what is known of each face that is cut out, and its crop (size,size,3) uint8.

    By falling score: the face's index, score, box and landmarks, and the 2 x 3 transform that takes
    the image's pixels to the crop's. Faces whose landmarks fix no crop are left out.

    Args:
        image: The image (H,W,3) uint8 RGB.
        faces: Its faces, with landmarks.
        size: Side of a crop in pixels.
        largest: Whether only the face with the largest box is cut out.
        min_size: Faces whose box has a shorter side, in the image's pixels, are left out.
        name: The image's, for the log.
    """
    for index in _chosen(faces, largest, min_size):
        face = faces[index]
        assert face.landmarks is not None
        try:
            crop = landmarks.align(image, face.landmarks, size)
            matrix = landmarks.similarity(face.landmarks, landmarks.template(size))
        except ValueError as error:  # landmarks on top of each other fix no crop
            _log.warning("%s, face %d: %s", name, index, error)
            continue
        record = {
            "face": index,
            "score": round(float(face.score), 6),
            "box": [round(float(value), 4) for value in face.box],
            "landmarks": [[round(float(v), 4) for v in point] for point in face.landmarks],
            "transform": [[round(float(v), 8) for v in row] for row in matrix],
        }
        yield record, crop


def _chosen(faces: Faces, largest: bool, min_size: float) -> list[int]:
    """Which of an image's faces are cut out, by falling score."""
    sides = faces.boxes[:, 2:] - faces.boxes[:, :2]
    chosen = np.flatnonzero(sides.min(axis=1) >= min_size)
    if largest and len(chosen):
        chosen = chosen[[np.argmax(sides[chosen].prod(axis=1))]]
    return [int(index) for index in chosen]
