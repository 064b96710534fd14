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

__all__ = ["TAR", "Make", "making", "options_of"]

Make = Callable[[DetectionResult], dict[str, Any]]
TAR = "00000.tar"
"""The tar file's name in its folder."""


def options_of(work: Mapping[str, Any]) -> CropOptions | RedactOptions:
    """The options of what a job makes of pictures.

    Args:
        work: "do", align or redact; beside it the values of `CropOptions` or `RedactOptions`.

    Raises:
        DataError: the picture that covers faces is not there, or is another one.
    """
    values = {name: value for name, value in work.items() if name != "do"}
    return CropOptions(**values) if work["do"] == "align" else RedactOptions.from_dict(values)


@contextmanager
def making(
    options: CropOptions | RedactOptions, detector: FaceDetector, folder: Path
) -> Iterator[Make]:
    """What makes the crops or copy of a picture and gives its record; the tar file ends with it.

    Args:
        options: How they are made.
        detector: Finds the faces.
        folder: For the tar file, `TAR`; new.

    Raises:
        DataError: of a picture: its files would have the names of another's, or it is a video.
    """
    if isinstance(options, CropOptions):
        once = one_each(stem, "the crops")
        with CropFolder(folder, options, per_tar=sys.maxsize) as crops:

            def cut(result: DetectionResult) -> dict[str, Any]:
                assert result.image is not None
                once(result.source.name)
                return crops.write(result.source.name, result.image, result.faces)

            yield cut
        return
    once = one_each(lambda name: redacted_name(name).as_posix(), "the copies")
    how, kept = options.redaction(), not options.strip_metadata
    with RedactedFolder(folder, detector, how, metadata=kept, per_tar=sys.maxsize) as copies:

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
