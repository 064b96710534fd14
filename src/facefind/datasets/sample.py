"""One labeled picture, and the digest of a list of them."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from facefind import images
from facefind.datasets.files import Unreadable, log
from facefind.errors import DataError, ImageError


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture with its labeled faces; pixels are those of the upright original image.

    Attributes:
        name: the picture's name inside its set, unique there, with forward slashes.
        path: the image file.
        boxes: (G, 4) float32, left top right bottom.
        landmarks: (G, 5, 2) float32, left eye, right eye, nose, left and right mouth corner as
            seen in the image; NaN where one is not labeled. Left out: all NaN.
        ignore: (G,) bool; such a box is neither a face to be found nor background.
            Left out: all False.
        group: what the picture shows (the WIDER event), for balanced sampling; "" if unknown.
        image_size: (height, width), or None where the labels do not say.
        attributes: further labels by name, one array of G rows each.

    Raises:
        DataError: on arrays of the wrong shape.
    """

    name: str
    path: Path
    boxes: npt.NDArray[np.float32]
    landmarks: npt.NDArray[np.float32] = None  # type: ignore[assignment]
    ignore: npt.NDArray[np.bool_] = None  # type: ignore[assignment]
    group: str = ""
    image_size: tuple[int, int] | None = None
    attributes: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes, np.float32)
        if boxes.size == 0:
            boxes = boxes.reshape(0, 4)
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise DataError(f"{self.name}: expected boxes of shape (G, 4), got {boxes.shape}")
        count = len(boxes)
        landmarks = (
            np.full((count, 5, 2), np.nan, np.float32)
            if self.landmarks is None
            else np.asarray(self.landmarks, np.float32)
        )
        ignore = np.zeros(count, bool) if self.ignore is None else np.asarray(self.ignore, bool)
        if landmarks.size == 0:
            landmarks = landmarks.reshape(0, 5, 2)
        if landmarks.shape != (count, 5, 2):
            raise DataError(
                f"{self.name}: expected landmarks of shape ({count}, 5, 2), got {landmarks.shape}"
            )
        if ignore.shape != (count,):
            raise DataError(f"{self.name}: expected ignore of shape ({count},), got {ignore.shape}")
        for key, values in self.attributes.items():
            if len(values) != count:
                raise DataError(
                    f"{self.name}: attribute {key!r} has {len(values)} rows for {count} faces"
                )
        object.__setattr__(self, "path", Path(self.path))
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "landmarks", landmarks)
        object.__setattr__(self, "ignore", ignore)

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, keep: npt.NDArray[np.generic] | slice) -> Sample:
        """The same picture with the faces that a mask, slice or index array picks."""
        return replace(
            self,
            boxes=self.boxes[keep],
            landmarks=self.landmarks[keep],
            ignore=self.ignore[keep],
            attributes={key: values[keep] for key, values in self.attributes.items()},
        )


def read_size(path: Path) -> tuple[int, int]:
    """(height, width) of the upright image, from the file's header, however large it is.

    Raises:
        DataError: if the file is missing or no picture.
    """
    try:
        return images.read_size(path, max_pixels=sys.maxsize)
    except ImageError as error:
        raise DataError(f"{path}: no readable picture ({error})") from None


def partial(sample: Sample) -> Sample:
    """The sample of a picture in which unlabeled faces may be.

    One ignored box that covers the whole image is added behind the others, so that nothing
    outside the labeled faces counts as background. Reads the image's header where the labels
    do not give its size.
    """
    height, width = sample.image_size or read_size(sample.path)
    attributes: dict[str, npt.NDArray[np.generic]] = {}
    for key, values in sample.attributes.items():
        blank = np.zeros((1, *values.shape[1:]), values.dtype)
        if values.dtype.kind == "f":
            blank[:] = np.nan
        elif values.dtype.kind == "i":
            blank[:] = -1
        attributes[key] = np.concatenate([values, blank])
    return replace(
        sample,
        boxes=np.concatenate([sample.boxes, np.array([[0, 0, width, height]], np.float32)]),
        landmarks=np.concatenate([sample.landmarks, np.full((1, 5, 2), np.nan, np.float32)]),
        ignore=np.concatenate([sample.ignore, [True]]),
        image_size=(height, width),
        attributes=attributes,
    )


def all_partial(samples: Iterable[Sample], unreadable: Unreadable = "error") -> list[Sample]:
    """The samples of a set in whose pictures unlabeled faces may be, each as of `partial`.

    Args:
        samples: all of the set.
        unreadable: what to do with pictures that cannot be opened, and whose size is not labeled.

    Raises:
        DataError: under unreadable="error", if there is one.
    """
    found = []
    for sample in samples:
        try:
            found.append(partial(sample))
        except DataError as error:
            if unreadable == "error":
                raise
            if unreadable == "skip":
                log.warning("skipped an image: %s", error)
            else:
                found.append(sample)
    return found


def is_partial(sample: Sample) -> bool:
    """Whether unlabeled faces may be in the picture: an ignored box covers all of it."""
    if sample.image_size is None:
        return False
    height, width = sample.image_size
    boxes = sample.boxes[sample.ignore]
    return bool(((boxes[:, :2] <= 0) & (boxes[:, 2:] >= (width, height))).all(1).any())


def digest(samples: Sequence[Sample]) -> str:
    """Hex SHA-256 of the names and labels, whatever the order of the samples.

    Boxes, landmarks and ignore flags count; image files, attributes and groups do not.
    """
    total = hashlib.sha256()
    for sample in sorted(samples, key=lambda sample: sample.name):
        name = sample.name.encode()
        total.update(len(name).to_bytes(4, "little") + name + len(sample).to_bytes(4, "little"))
        landmarks = np.where(np.isnan(sample.landmarks), np.float32(np.nan), sample.landmarks)
        for values in (sample.boxes.astype("<f4"), landmarks.astype("<f4"), sample.ignore):
            total.update(np.ascontiguousarray(values).tobytes())
    return total.hexdigest()
