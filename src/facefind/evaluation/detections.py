"""Detections on disk: WIDER FACE's text folders and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from facefind import files
from facefind.datasets.files import bad_line, number_table, read_text
from facefind.datasets.files import key as key
from facefind.errors import DataError
from facefind.outputs import below, check_distinct

Floats = npt.NDArray[np.floating[Any]]
Pair = tuple[Floats, Floats]


class FacesLike(Protocol):
    """Anything with boxes (N, 4) xyxy and scores (N,)."""

    @property
    def boxes(self) -> Floats: ...  # noqa: D102

    @property
    def scores(self) -> Floats: ...  # noqa: D102


Detections = Mapping[str, FacesLike | Pair]
"""Picture name -> faces, or a pair of boxes (N, 4) xyxy and scores (N,)."""


def known_end(name: str, known: Container[str]) -> str | None:
    """The longest end of a picture's path, without image suffix, that is known; None: none is."""
    whole = key(name)
    if whole in known:
        return whole
    parts = PurePosixPath(whole).parts
    ends = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((end for end in ends if end in known), None)


def pair(name: str, found: FacesLike | Pair) -> tuple[npt.NDArray[np.float64], ...]:
    """Boxes (N, 4) and scores (N,) in float64, sorted by falling score (ties keep their order).

    Raises:
        DataError: on wrong shapes or values that are not finite.
    """
    boxes, scores = checked(name, found)
    order = np.argsort(-scores, kind="stable")
    return boxes[order], scores[order]


def checked(name: str, found: FacesLike | Pair) -> tuple[npt.NDArray[np.float64], ...]:
    """Boxes (N, 4) and scores (N,) in float64, in their order.

    Raises:
        DataError: on wrong shapes or values that are not finite.
    """
    raw = found if isinstance(found, tuple) else (found.boxes, found.scores)
    boxes, scores = np.asarray(raw[0], np.float64), np.asarray(raw[1], np.float64)
    if scores.size == 0 and boxes.size == 0:
        return np.zeros((0, 4)), np.zeros(0)
    if boxes.ndim != 2 or boxes.shape != (scores.size, 4) or scores.ndim != 1:
        raise DataError(
            f"{name}: expected boxes (N, 4) and scores (N,), got {boxes.shape} and {scores.shape}"
        )
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise DataError(f"{name}: boxes or scores hold NaN or infinity")
    return boxes, scores


def read(path: str | Path) -> dict[str, Pair]:
    """Detections of a file or folder, by picture name.

    A folder holds `event/name.txt` files as WIDER FACE's toolbox takes them: the name, the
    number of faces, then `x y w h score` a face. A file holds JSON lines, each
    `{"image": name, "boxes": [[left, top, right, bottom], ...], "scores": [...]}`; other keys
    are passed over.

    Raises:
        DataError: with file and line, where a line is not as its format demands.
    """
    path = Path(path)
    if path.is_dir():
        texts = sorted(path.rglob("*.txt"))
        if not texts:
            raise DataError(f"{path}: expected event/name.txt files below it, got none")
        return {
            file.relative_to(path).with_suffix("").as_posix(): _read_wider(file) for file in texts
        }
    return _read_json_lines(path)


def _read_wider(file: Path) -> Pair:
    lines = read_text(file)
    while lines and not lines[-1].strip():
        lines.pop()
    if len(lines) < 2 or not _is_count(lines[1]):
        raise bad_line(file, 2, lines[1] if len(lines) > 1 else "", "the number of faces")
    count = int(float(lines[1]))
    if len(lines) != count + 2:
        raise DataError(f"{file}: line 2 says {count} faces, {len(lines) - 2} lines follow")
    rows = number_table(file, lines, 2, "5 numbers: x y w h score", 5)
    return np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1), rows[:, 4]


def _is_count(text: str) -> bool:
    try:
        return float(text) >= 0 and float(text) % 1 == 0
    except ValueError:
        return False


def _read_json_lines(path: Path) -> dict[str, Pair]:
    found: dict[str, Pair] = {}
    try:
        for number, record in files.read_json_lines(path):
            try:
                scores = np.array(record["scores"], np.float64)
                boxes = np.array(record["boxes"], np.float64)
                boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
                if scores.ndim != 1 or boxes.shape != (len(scores), 4):
                    raise ValueError
                name = str(record["image"])
            except (ValueError, KeyError, TypeError):
                fields = 'JSON with "image", "boxes" (N x 4) and "scores" (N)'
                raise bad_line(path, number, json.dumps(record), fields) from None
            if name in found:
                raise bad_line(path, number, name, "each image once")
            found[name] = (boxes, scores)
    except DataError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected a file of detections ({error})") from None
    return found


def write_wider(detections: Detections, folder: str | Path) -> None:
    """Write `folder/event/name.txt` files, as WIDER FACE's toolbox and server take them.

    Raises:
        DataError: two images would share a file, or one's name leads out of the folder.
    """
    check_distinct(((name, key(name)) for name in detections), folder, "the detections")
    for name, found in detections.items():
        boxes, scores = pair(name, found)
        file = below(folder, f"{key(name)}.txt")
        sides = boxes[:, 2:] - boxes[:, :2]
        lines = [Path(key(name)).name, str(len(boxes))]
        for (x, y), (w, h), score in zip(boxes[:, :2], sides, scores, strict=True):
            lines.append(f"{x:.7g} {y:.7g} {w:.7g} {h:.7g} {score:.9g}")
        files.write_text(file, "\n".join(lines) + "\n", durable=False)


def write_json_lines(detections: Detections, path: str | Path) -> None:
    """Write one JSON object a picture: image, boxes xyxy, scores."""
    with Path(path).open("w", encoding="utf-8") as file:
        for name, found in detections.items():
            boxes, scores = pair(name, found)
            record = {"image": name, "boxes": boxes.tolist(), "scores": scores.tolist()}
            file.write(json.dumps(record) + "\n")
