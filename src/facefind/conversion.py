"""Faces as other programs read them: COCO results, supervision, pandas, JSON and CSV files."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, Literal

import numpy as np

from facefind import boxes as box_math
from facefind import files
from facefind.arrays import plain
from facefind.faces import Faces
from facefind.landmarks import NAMES

__all__ = ["FormatName", "columns", "save", "to_coco", "to_pandas", "to_supervision"]

FormatName = Literal["jsonl", "csv", "parquet", "coco", "yolo", "fiftyone", "labelstudio"]
"""Formats of the faces of many images; `pipeline.open_results` writes them."""


def to_coco(faces: Faces, image_id: int | str, category_id: int = 1) -> list[dict[str, Any]]:
    """One COCO result a face: bbox xywh, score and, where known, keypoints x, y, 2."""
    results: list[dict[str, Any]] = []
    for xywh, face in zip(box_math.to_xywh(faces.boxes).tolist(), faces, strict=True):
        result = {
            "image_id": image_id,
            "category_id": category_id,
            "bbox": xywh,
            "score": face.score,
        }
        if face.landmarks is not None:
            result["keypoints"] = [v for x, y in face.landmarks.tolist() for v in (x, y, 2)]
            result["num_keypoints"] = len(face.landmarks)
        results.append(result)
    return results


def to_supervision(faces: Faces) -> Any:
    """`supervision.Detections` of class 0, ids as tracker ids, landmarks in its data.

    Raises:
        ImportError: If the package `supervision` is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise ImportError(
            "Faces.to_supervision needs the package supervision: pip install supervision"
        ) from error
    return supervision.Detections(
        xyxy=faces.boxes.copy(),
        confidence=faces.scores.copy(),
        class_id=np.zeros(len(faces), int),
        tracker_id=None if faces.ids is None else faces.ids.copy(),
        data={} if faces.landmarks is None else {"landmarks": faces.landmarks.copy()},
    )


def to_pandas(faces: Faces) -> Any:
    """`pandas.DataFrame` of `columns`, a row a face.

    Raises:
        ImportError: If the package `pandas` is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("Faces.to_pandas needs the package pandas: pip install pandas") from error
    return pandas.DataFrame(columns(faces))


def save(faces: Faces, path: str | Path, digits: int | None = None) -> None:
    """Write the faces to a .json file (`Faces.to_dict`) or a .csv file (`columns`).

    The file is written whole or not at all; missing folders are made.

    Args:
        faces: The faces to write.
        path: The file; its suffix names the format.
        digits: Decimals to which coordinates are rounded (scores keep two more); None rounds
            nothing.

    Raises:
        ValueError: If the suffix is neither .json nor .csv.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".json":
        files.write_text(path, faces.to_json(digits) + "\n")
    elif suffix == ".csv":
        table = columns(faces, digits)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
        files.write_text(path, text.getvalue())
    else:
        raise ValueError(f"expected a file name that ends in .json or .csv, got {str(path)!r}")


def columns(faces: Faces, digits: int | None = None) -> dict[str, list[Any]]:
    """The faces as columns of a table: x1, y1, x2, y2, score, x and y of landmarks, id.

    Landmarks and ids have columns where these faces have them; meshes have none.
    """
    table = dict(zip(("x1", "y1", "x2", "y2"), plain(faces.boxes.T, digits), strict=True))
    table["score"] = plain(faces.scores, digits, 2)
    if faces.landmarks is not None:
        names = [f"{name}_{axis}" for name in NAMES for axis in "xy"]
        flat = plain(faces.landmarks.reshape(len(faces), 10).T, digits)
        table |= dict(zip(names, flat, strict=True))
    if faces.ids is not None:
        table["id"] = faces.ids.tolist()
    return table
