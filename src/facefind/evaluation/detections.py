"""Detections on disk: WIDER FACE's text folders and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from facefind import files
from facefind.datasets.files import bad_line, number_table, read_text
from facefind.datasets.files import key as key
from facefind.errors import DataError
from facefind.faces import Faces
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


@dataclass(frozen=True, eq=False)
class ExactFaces:
    """Faces of one image, by falling score: boxes (N, 4), scores (N,), landmarks or None.

    The numbers are those that are in a kept file, so that a result does not depend on whether
    they went through it.
    """

    boxes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    landmarks: npt.NDArray[np.float64] | None = None

    @classmethod
    def from_faces(cls, faces: Faces) -> ExactFaces:
        """Found faces, each number the shortest decimal of its float32."""
        landmarks = None if faces.landmarks is None else _decimal(faces.landmarks)
        return cls(_decimal(faces.boxes), _decimal(faces.scores), landmarks)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ExactFaces:
        """The faces of a line.

        Raises:
            KeyError, TypeError, ValueError: the line holds no faces.
        """
        scores = np.array(record["scores"], np.float64).reshape(-1)
        boxes = np.array(record["boxes"], np.float64)
        boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
        if boxes.shape != (len(scores), 4):
            raise ValueError("as many boxes of four numbers as scores")
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ValueError("not finite")
        order = np.argsort(-scores, kind="stable")
        given = record.get("landmarks")
        landmarks = None
        if given is not None:
            landmarks = np.array(given, np.float64).reshape(len(boxes), 5, 2)[order]
        return cls(boxes[order], scores[order], landmarks)

    def to_record(self, name: str, **more: Any) -> dict[str, Any]:
        """Name and faces as plain values; `more` goes beside them."""
        record: dict[str, Any] = {"image": name, "boxes": self.boxes.tolist()}
        record["scores"] = self.scores.tolist()
        if self.landmarks is not None:
            record["landmarks"] = self.landmarks.tolist()
        return record | more


def listed(result: Any, *curves: str) -> dict[str, Any]:
    """The fields of a result but its curves, in plain types, ready for JSON."""
    plain = {name: value for name, value in vars(result).items() if name not in curves}
    plain["images_without_detections"] = list(plain.pop("missing"))
    return plain


def known_end(name: str, known: Container[str]) -> str | None:
    """The longest end of a picture's path, without image suffix, that is known; None: none is."""
    whole = key(name)
    if whole in known:
        return whole
    parts = PurePosixPath(whole).parts
    ends = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((end for end in ends if end in known), None)


def pair(
    name: str, found: FacesLike | Pair, columns: Sequence[int] = (4,)
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """What `checked` gives, sorted by falling score (ties keep their order)."""
    boxes, scores = checked(name, found, columns)
    order = np.argsort(-scores, kind="stable")
    return boxes[order], scores[order]


def checked(
    name: str, found: FacesLike | Pair, columns: Sequence[int] = (4,)
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Boxes (N, 4) and scores (N,) in float64, in their order.

    Args:
        name: of the picture, for messages.
        found: its faces.
        columns: how many numbers regions may have, where they are no boxes.

    Raises:
        DataError: on wrong shapes or values that are not finite.
    """
    raw = found if isinstance(found, tuple) else (found.boxes, found.scores)
    boxes, scores = np.asarray(raw[0], np.float64), np.asarray(raw[1], np.float64)
    if scores.size == 0 and boxes.size == 0:
        return np.zeros((0, 4)), np.zeros(0)
    fits = boxes.ndim == 2 and boxes.shape[1] in columns and scores.shape == (len(boxes),)
    if not fits:
        shapes = " or ".join(f"(N, {count})" for count in columns)
        raise DataError(
            f"{name}: expected boxes {shapes} and scores (N,), got {boxes.shape} and {scores.shape}"
        )
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise DataError(f"{name}: boxes or scores hold NaN or infinity")
    return boxes, scores


def read(path: str | Path) -> dict[str, FacesLike | Pair]:
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
        names = [file.relative_to(path).with_suffix("").as_posix() for file in texts]
        return {name: _read_wider(file) for name, file in zip(names, texts, strict=True)}
    return dict(read_lines(path))


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


def read_lines(path: Path) -> dict[str, ExactFaces]:
    """Faces by picture name of a file of JSON lines.

    Raises:
        DataError: a line is not as it should be, or names an image a second time.
    """
    found: dict[str, ExactFaces] = {}
    expected = 'JSON with "image", "boxes" (N x 4), "scores" (N) and maybe "landmarks"'
    try:
        for number, record in files.read_json_lines(path):
            try:
                name, faces = str(record["image"]), ExactFaces.from_record(record)
            except (ValueError, KeyError, TypeError):
                raise bad_line(path, number, json.dumps(record), expected) from None
            if name in found:
                raise bad_line(path, number, json.dumps(record), "each image once")
            found[name] = faces
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


def _decimal(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return values.astype(np.str_).astype(np.float64)
