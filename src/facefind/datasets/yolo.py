"""YOLO text labels: one file a picture, plain or with five landmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from facefind import files
from facefind.datasets.files import (
    ONE_LABEL,
    Flat,
    Unreadable,
    bad_line,
    key,
    log,
    numbers,
    read_text,
)
from facefind.datasets.sample import Sample, read_size
from facefind.errors import DataError
from facefind.images.listing import SUFFIXES
from facefind.outputs import below

COLUMNS = (5, 15, 20)
"""How many numbers a line may have: a box, with five times x y, with five times x y visibility."""
_FORMS = {
    5: "class cx cy w h as fractions of the image",
    15: "the same and five times x y",
    20: "the same and five times x y visibility",
}


def read(
    root: str | Path,
    *,
    images: str | Path | None = None,
    flat: Flat = "drop",
    unreadable: Unreadable = "error",
) -> list[Sample]:
    """Samples of a folder with `images/` and `labels/` side by side.

    Every picture below `images` counts; one without a label file has no faces. Hidden files, such
    as macOS leaves, are no pictures, and texts without a picture that hold no label, such as
    `classes.txt`, no label files. A line is
    `class cx cy w h` in fractions of the image, which may be followed by five landmarks, x y each
    (negative: not labeled) or x y visibility each (0: not labeled). The class becomes the
    attribute `category`.

    Args:
        root: the folder that holds both.
        images: the picture folder, if it is not `root/images`; a split's, such as
            `root/images/train`, has its labels in the folder of that name in `root/labels`.
        flat: what to do with boxes without area.
        unreadable: what to do with pictures that cannot be opened.

    Raises:
        DataError: with file and line, where a line is not as the format demands; where a label
            file has no picture.
    """
    root = Path(root)
    folder = Path(images) if images is not None else root / "images"
    labels = root / "labels"
    if folder.resolve().is_relative_to((root / "images").resolve()):
        split = labels / folder.resolve().relative_to((root / "images").resolve())
        labels = split if split.is_dir() else labels
    if not folder.is_dir() or not labels.is_dir():
        raise DataError(f"{root}: expected the folders {folder} and {labels}")
    samples = []
    unused = {path.relative_to(labels) for path in labels.rglob("*.txt")}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.suffix.lower() not in SUFFIXES or path.is_dir():
            continue
        if any(part.startswith(".") for part in name.parts):
            continue
        label = name.with_suffix(".txt")
        unused.discard(label)
        sample = read_picture(
            name.as_posix(), path, labels / label, flat=flat, unreadable=unreadable
        )
        samples += [] if sample is None else [sample]
    unused = {path for path in unused if path.name[0] != "." and _is_label(labels / path)}
    for path in sorted(unused):
        with ONE_LABEL:
            raise DataError(
                f"{labels}: {len(unused)} label files have no image in {folder}, such as {path}"
            )
    return samples


def write(samples: Sequence[Sample], root: str | Path) -> None:
    """Write `root/labels/<name>.txt`, with landmarks if any face has some.

    This layout can't hold ignored boxes, which are left out; where a face has no landmarks
    they are -1. Reads image headers where the size is not known.
    """
    pointed = any(np.isfinite(sample.landmarks).any() for sample in samples)
    dropped = 0
    for sample in samples:
        height, width = sample.image_size or read_size(sample.path)
        scale = np.array([width, height], np.float64)
        lines = []
        for face in range(len(sample)):
            if sample.ignore[face]:
                dropped += 1
                continue
            corners = sample.boxes[face].astype(np.float64).reshape(2, 2) / scale
            row = [*corners.mean(axis=0), *(corners[1] - corners[0])]
            if pointed:
                points = sample.landmarks[face].astype(np.float64) / scale
                row += [*np.where(np.isnan(points), -1, points).ravel()]
            lines.append("0 " + " ".join(f"{value:.9g}" for value in row))
        file = below(Path(root) / "labels", f"{key(sample.name)}.txt")
        files.write_text(file, "".join(line + "\n" for line in lines), durable=False)
    if dropped:
        log.warning("%s: %d ignored boxes left out, which this layout can't hold", root, dropped)


def label_path(picture: Path) -> Path:
    """The label file of a picture: `labels` for the last folder `images`, else beside it."""
    parts = list(picture.parent.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts, picture.stem + ".txt")


def read_picture(
    name: str,
    path: Path,
    label: Path,
    *,
    flat: Flat = "drop",
    columns: Sequence[int] = COLUMNS,
    classes: Mapping[int, str] | None = None,
    unreadable: Unreadable = "error",
) -> Sample | None:
    """The sample of a picture and its label file; without such a file it has no faces.

    Args:
        name: the sample's.
        path: the picture.
        label: the label file.
        flat: what to do with boxes without area.
        columns: how many numbers a line may have, of `COLUMNS`.
        classes: names by number, for the attribute `category`; None: the numbers themselves.
        unreadable: what to do with a picture that cannot be opened; None is returned to skip it.

    Raises:
        DataError: with file and line, where a line is not as the format demands.
    """
    try:
        height, width = read_size(path)
    except DataError as error:
        if unreadable == "error":
            raise
        if unreadable == "skip":
            log.warning("skipped an image: %s", error)
            return None
        return Sample(name=name, path=path, boxes=np.zeros((0, 4), np.float32))
    scale = np.array([width, height], np.float64)
    boxes, points, categories = [], [], []
    lines: list[str] = []
    with ONE_LABEL:
        lines = read_text(label) if label.is_file() else []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        with ONE_LABEL:
            values = np.array(numbers(line))
            if len(values) not in columns or values[0] % 1 or values[0] < 0:
                forms = ", or ".join(f"{_FORMS[count]} ({count} numbers)" for count in columns)
                raise bad_line(label, number, line, forms)
            if np.abs(values[1:5]).max() > 2:
                raise bad_line(label, number, line, "fractions of the image, not pixels")
            kind = int(values[0])
            if classes is not None and kind not in classes:
                raise bad_line(label, number, line, f"a class of {', '.join(map(str, classes))}")
            center, side = values[1:3] * scale, values[3:5] * scale
            if flat == "drop" and side.min() <= 0:
                continue
            boxes.append([*(center - side / 2), *(center + side / 2)])
            points.append(_points(values[5:]) * scale)
            categories.append(kind if classes is None else classes[kind])
    return Sample(
        name=name,
        path=path,
        boxes=np.array(boxes, np.float32),
        landmarks=np.array(points, np.float32).reshape(-1, 5, 2),
        image_size=(height, width),
        attributes={"category": np.array(categories, np.int64 if classes is None else np.str_)},
    )


def _is_label(path: Path) -> bool:
    """Whether a text file holds labels, as an empty one does of a picture without faces."""
    try:
        lines = [line for line in read_text(path) if line.strip()]
    except DataError:  # names of classes in another encoding
        return False
    return not lines or any(len(numbers(line)) in COLUMNS for line in lines)


def _points(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(5, 2) fractions, NaN where not labeled."""
    if len(values) == 0:
        return np.full((5, 2), np.nan)
    rows = values.reshape(5, -1)
    absent = np.asarray(rows[:, 2] == 0 if rows.shape[1] == 3 else (rows < 0).any(axis=1))
    return np.where(absent[:, None], np.nan, rows[:, :2])
