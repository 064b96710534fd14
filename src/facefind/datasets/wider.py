"""WIDER FACE's text labels, with RetinaFace's five landmarks where a file of them lies beside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from facefind import files
from facefind.datasets.files import (
    ONE_LABEL,
    Flat,
    Missing,
    bad_line,
    face_rows,
    image_root,
    locate,
    next_name,
    numbers,
    only_file,
    read_text,
)
from facefind.datasets.sample import Sample
from facefind.errors import DataError

ATTRIBUTES = ("blur", "expression", "illumination", "occlusion", "pose")
_FACE = "10 whole numbers: x y w h blur expression illumination invalid occlusion pose"
_POINTS = "16 numbers: x y w h, five times x y, visible, blur"
_INVALID = 7
Points = dict[tuple[int, int, int, int], list[npt.NDArray[np.float64]]]


def read(
    root: str | Path,
    *,
    images: str | Path | None = None,
    landmarks: str | Path | bool = True,
    missing: Missing = "error",
    flat: Flat = "drop",
) -> list[Sample]:
    """Samples of a WIDER FACE label file or of the folder that holds one.

    Boxes come as x, y, x + w, y + h. Faces marked invalid are ignored, boxes without area are
    dropped, pictures without faces are kept. `group` is the event's folder.

    Args:
        root: `*bbx_gt.txt`, or a folder with exactly one such file.
        images: folder of the event folders; left out: `images` beside the label file
            (or `WIDER_train/images`, `WIDER_val/images`).
        landmarks: RetinaFace's annotation, `# event/name.jpg` and a line of sixteen numbers a face;
            True takes `five_points.txt` beside the label file where there is one, False none.
            They belong to the face whose box is the same; twelve -1 mean none. Adds the
            attributes `landmarks_visible` (the file's 0/1 flag) and `landmarks_blur`, both -1 where
            a face has no landmarks.
        missing: what to do where an image file is absent.
        flat: what to do with boxes without area.

    Raises:
        DataError: with file and line, where a line is not as the format demands.
    """
    source = only_file(Path(root), "*bbx_gt.txt")
    blocks = list(_blocks(source))
    folder = image_root(source.parent, images, "images", "WIDER_train/images", "WIDER_val/images")
    found = locate((name for name, _ in blocks), folder, source, missing)
    beside = source.with_name("five_points.txt")
    five: dict[str, Points] | None = None
    if landmarks is True:
        five = _read_points(beside) if beside.is_file() else None
    elif landmarks is not False:
        five = _read_points(Path(landmarks))
    samples = []
    for name, rows in blocks:
        if name in found:
            samples.append(_sample(name, found[name], rows, five, source, flat))
    return samples


def _blocks(source: Path) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    """Each picture's name and its (G, 10) numbers."""
    lines = read_text(source)
    at = 0
    seen: set[str] = set()
    while at < len(lines):
        name = lines[at].strip()
        at += 1
        if not name:
            continue
        with ONE_LABEL:
            if name in seen or not Path(name).suffix:
                problem = "a name that did not come before" if name in seen else "an image name"
                raise bad_line(source, at, name, problem)
            seen.add(name)
            faces, at = face_rows(source, lines, at, _FACE, (10,), whole=True)
            if not faces and at < len(lines) and lines[at].split() == ["0"] * 10:
                at += 1  # the official files put one line of zeros below a count of zero
            yield name, np.array(list(faces.values()), np.int64).reshape(-1, 10)
            continue
        at = next_name(lines, at)


def _sample(
    name: str,
    path: Path,
    rows: npt.NDArray[np.int64],
    five: dict[str, Points] | None,
    source: Path,
    flat: Flat,
) -> Sample:
    landmarks = np.full((len(rows), 5, 2), np.nan, np.float32)
    flags = np.full((len(rows), 2), -1, np.float32)
    if five is not None:
        todo = {box: list(entries) for box, entries in five.get(name, {}).items()}
        for face, row in enumerate(rows):
            entries = todo.get((int(row[0]), int(row[1]), int(row[2]), int(row[3])))
            if not entries:
                continue
            values = entries.pop(0)
            if np.any(values[:12] != -1):
                landmarks[face] = values[:10].reshape(5, 2)
                flags[face] = values[10:]
        for box in (box for box, entries in todo.items() if entries):
            with ONE_LABEL:
                raise DataError(
                    f"{source}: {name} has landmarks for the box (x y w h) {box}, "
                    "but no such face; both files must be of the same annotation"
                )
    sides = rows[:, 2:4]
    keep = np.all(sides > 0, axis=1) | (flat == "keep")
    boxes = np.concatenate([rows[:, :2], rows[:, :2] + sides], axis=1)[keep]
    columns = (4, 5, 6, 8, 9)
    attributes: dict[str, npt.NDArray[np.generic]] = {
        key: rows[keep, column].astype(np.int8)
        for key, column in zip(ATTRIBUTES, columns, strict=True)
    }
    if five is not None:
        attributes["landmarks_visible"] = flags[keep, 0].astype(np.int8)
        attributes["landmarks_blur"] = flags[keep, 1]
    return Sample(
        name=name,
        path=path,
        boxes=boxes.astype(np.float32),
        landmarks=landmarks[keep],
        ignore=rows[keep, _INVALID] == 1,
        group=name.rpartition("/")[0],
        attributes=attributes,
    )


def _read_points(source: Path) -> dict[str, Points]:
    """Picture -> box (x, y, w, h) -> the twelve numbers behind it, in file order."""
    pictures: dict[str, Points] = {}
    current: Points | None = None
    for number, line in enumerate(read_text(source), 1):
        if line.startswith("#"):
            current = pictures.setdefault(line[1:].strip(), {})
            continue
        if not line.strip():
            continue
        with ONE_LABEL:
            if current is None:
                raise bad_line(source, number, line, "a line '# event/name.jpg' first")
            values = np.array(numbers(line))
            if len(values) != 16 or np.any(values[:4] % 1):
                raise bad_line(source, number, line, _POINTS)
            x, y, w, h = (int(value) for value in values[:4])
            current.setdefault((x, y, w, h), []).append(values[4:])
    return pictures


def write(samples: Sequence[Sample], root: str | Path) -> None:
    """Write `root/wider_face_bbx_gt.txt` and, if any face has landmarks, `root/five_points.txt`.

    The layout knows whole pixels only: corners are rounded, and a box keeps at least one pixel.
    Ignored boxes are marked invalid; attributes of WIDER's names are written, 0 where absent.
    A face with only some of its landmarks has none in `five_points.txt`.
    """
    labels: list[str] = []
    points: list[str] = []
    for sample in samples:
        corners = np.floor(sample.boxes.astype(np.float64) + 0.5).astype(np.int64)
        boxes = np.concatenate(
            [corners[:, :2], np.maximum(corners[:, 2:] - corners[:, :2], 1)], axis=1
        )
        zero = np.zeros(len(sample), np.int64)
        blur, expression, illumination, occlusion, pose = (
            np.maximum(np.asarray(sample.attributes.get(key, zero), np.int64), 0)
            for key in ATTRIBUTES
        )
        rows = np.column_stack(
            [boxes, blur, expression, illumination, sample.ignore, occlusion, pose]
        )
        # The layout recognizes names by their suffix, which FDDB's, for one, do not have.
        name = sample.name + ("" if Path(sample.name).suffix else sample.path.suffix or ".jpg")
        labels += [name, str(len(rows))]
        labels += [" ".join(map(str, row)) for row in rows.tolist()] or [" ".join("0" * 10)]
        points.append(f"# {name}")
        visible = sample.attributes.get("landmarks_visible", zero)
        blurs = sample.attributes.get("landmarks_blur", zero)
        for face, box in enumerate(boxes.tolist()):
            marks = sample.landmarks[face].astype(np.float64).ravel()
            tail = [*marks, float(visible[face]), float(blurs[face])]
            values = [-1.0] * 12 if np.isnan(marks).any() else tail
            points.append(" ".join(f"{value:.9g}" for value in [*box, *values]))
    folder = Path(root)
    text = "\n".join(labels) + "\n"
    files.write_text(folder / "wider_face_bbx_gt.txt", text)
    if any(np.isfinite(sample.landmarks).any() for sample in samples):
        files.write_text(folder / "five_points.txt", "\n".join(points) + "\n")
