"""Crops and redacted copies of a shard's pictures, in one tar file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facefind.cropping import CropOptions
from facefind.detector import DetectionResult, FaceDetector
from facefind.errors import DataError
from facefind.pipeline import CropFolder, RedactedFolder
from facefind.pipeline.labels import one_each, stem
from facefind.pipeline.redacting import kind_of, redacted_name
from facefind.redaction import RedactOptions

__all__ = ["TAR", "Make", "making"]

Make = Callable[[DetectionResult], dict[str, Any]]
TAR = "00000.tar"
"""The tar file's name in its folder."""


@contextmanager
def making(work: Mapping[str, Any], detector: FaceDetector, folder: Path) -> Iterator[Make]:
    """What makes the crops or copy of a picture and gives its record; the tar file ends with it.

    Args:
        work: "do", align or redact; beside it the values of `CropOptions` or `RedactOptions`.
        detector: Finds the faces.
        folder: For the tar file, `TAR`; new.

    Raises:
        DataError: of a picture: its files would have the names of another's, or it is a video.
    """
    options = {name: value for name, value in work.items() if name != "do"}
    if work["do"] == "align":
        once = one_each(stem, "the crops")
        with CropFolder(folder, CropOptions(**options), per_tar=sys.maxsize) as crops:

            def cut(result: DetectionResult) -> dict[str, Any]:
                assert result.image is not None
                once(result.source.name)
                return crops.write(result.source.name, result.image, result.faces)

            yield cut
        return
    once = one_each(lambda name: redacted_name(name).as_posix(), "the copies")
    given = RedactOptions.from_dict(options)
    kept = not given.strip_metadata
    with RedactedFolder(
        folder, detector, given.redaction(), per_tar=sys.maxsize, metadata=kept
    ) as copies:

        def hide(result: DetectionResult) -> dict[str, Any]:
            file = result.source
            kind = kind_of(file)
            if kind == "video":
                raise DataError(f"{file.name} is a video: facefind redact takes it, jobs do not")
            once(file.name)
            if kind == "animation":
                return copies.write_animation(file)
            return copies.write_picture(file, result.faces)

        yield hide
