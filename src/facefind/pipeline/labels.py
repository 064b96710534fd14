"""Records of images as labels that other programs read: COCO, YOLO, FiftyOne, Label Studio."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from facefind.errors import DataError
from facefind.faces import Faces
from facefind.files import write_text
from facefind.landmarks import NAMES
from facefind.outputs import below, output_path
from facefind.pipeline.tables import printed

__all__ = ["stem", "write_coco", "write_fiftyone", "write_label_studio", "write_yolo"]

Record = Mapping[str, Any]


def write_coco(records: Iterable[Record], path: Path, settings: Any = None) -> None:
    """Write a COCO data set: images, annotations with scores and keypoints, the category face.

    `records` is gone through twice.
    """
    info = {"description": "faces found by facefind", "settings": settings}
    face = {"id": 1, "name": "face", "supercategory": "person", "keypoints": list(NAMES)}
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{{"info": {json.dumps(info)}, "categories": {json.dumps([face])}')
        images = (
            {"id": n, "file_name": one["image"], "width": one["width"], "height": one["height"]}
            for n, one in enumerate(records, 1)
        )
        _write_list(file, "images", images)
        _write_list(file, "annotations", _annotations(records))
        file.write("}\n")


def _annotations(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    number = 0
    for image, record in enumerate(records, 1):
        for found in Faces.from_dict(record).to_coco(image):
            number += 1
            x, y, width, height = (round(value, 4) for value in found["bbox"])
            found |= {"bbox": [x, y, width, height], "score": round(found["score"], 6)}
            if "keypoints" in found:
                found["keypoints"] = [round(value, 4) for value in found["keypoints"]]
            yield {"id": number, **found, "area": round(width * height, 4), "iscrowd": 0}


def write_yolo(records: Iterable[Record], path: Path, settings: Any = None) -> None:
    """Write a folder of YOLO labels: labels/NAME.txt an image, and data.yaml.

    A line is `0 cx cy w h` in fractions of the image and, where the model gives landmarks, five
    times `x y 2`. The layout has no scores.
    """
    pointed = False
    for record in records:
        faces = Faces.from_dict(record)
        height, width = faces.image_size
        lines = []
        for face in faces:
            left, top, right, bottom = (float(value) for value in face.box)
            numbers = [(left + right) / 2 / width, (top + bottom) / 2 / height]
            numbers += [(right - left) / width, (bottom - top) / height]
            if face.landmarks is not None:
                pointed = True
                for x, y in face.landmarks.tolist():
                    numbers += [x / width, y / height, 2]
            lines.append("0 " + " ".join(f"{number:.6g}" for number in numbers) + "\n")
        file = below(path / "labels", f"{stem(record['image'])}.txt")
        write_text(file, "".join(lines), durable=False)
    points = "kpt_shape: [5, 3]\nflip_idx: [1, 0, 2, 4, 3]\n" if pointed else ""
    path.mkdir(parents=True, exist_ok=True)
    write_text(path / "data.yaml", f"names:\n  0: face\n{points}")


def write_fiftyone(records: Iterable[Record], path: Path, settings: Any = None) -> None:
    """Write the labels.json of a FiftyOneImageDetectionDataset, whose data are the images' folder.

    Boxes are x y w h in fractions of the image; images go by their names without suffix.
    """
    with path.open("w", encoding="utf-8") as file:
        file.write('{"classes": ["face"], "labels": {')
        for number, record in enumerate(records):
            found = [
                {"label": "face", "bounding_box": box, "confidence": round(score, 6)}
                for box, score in _fractions(record)
            ]
            file.write(",\n" * (number > 0))
            file.write(f"{json.dumps(stem(record['image']))}: {json.dumps(found)}")
        file.write("}}\n")


def write_label_studio(records: Iterable[Record], path: Path, settings: Any = None) -> None:
    """Write a JSON list of Label Studio's tasks with the faces as predictions.

    The labels are rectangles of a control `label` on an image `image`. Images by address keep it;
    files are those of a local storage, /data/local-files/?d=NAME, with what an address has no
    letters for as %20 and the like.
    """
    version = f"facefind {(settings or {}).get('model', '')}".strip()

    def task(record: Record) -> dict[str, Any]:
        size = {"original_width": record["width"], "original_height": record["height"]}
        result = [
            {
                "id": f"face{number}",
                "type": "rectanglelabels",
                "from_name": "label",
                "to_name": "image",
                "image_rotation": 0,
                "score": round(score, 6),
                **size,
                "value": {
                    **dict(zip(("x", "y", "width", "height"), _percent(box), strict=True)),
                    "rotation": 0,
                    "rectanglelabels": ["face"],
                },
            }
            for number, (box, score) in enumerate(_fractions(record))
        ]
        name = printed(record["image"])
        place = name if "://" in name else f"/data/local-files/?d={quote(name)}"
        best = max((one["score"] for one in result), default=0.0)
        prediction = {"model_version": version, "score": best, "result": result}
        return {"data": {"image": place}, "predictions": [prediction]}

    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for number, record in enumerate(records):
            file.write(",\n" * (number > 0) + json.dumps(task(record)))
        file.write("]\n")


def stem(name: str) -> str:
    """What an image is called where suffixes do not count: its name without, kept inside."""
    return output_path(name).with_suffix("").as_posix()


def one_each(target: Callable[[str], str], what: str = "the labels") -> Callable[[str], None]:
    """A check that no two images are called alike: raises DataError for the second."""
    known: dict[str, str] = {}

    def check(name: str) -> None:
        other = known.setdefault(target(name), name)
        if other != name:
            raise DataError(f"{what} of {other} and {name} would both be {target(name)}")

    return check


def _fractions(record: Record) -> Iterator[tuple[list[float], float]]:
    """X y w h of each face in fractions of the image, and its score."""
    width, height = record["width"], record["height"]
    for (left, top, right, bottom), score in zip(record["boxes"], record["scores"], strict=True):
        box = [left / width, top / height, (right - left) / width, (bottom - top) / height]
        yield [round(value, 6) for value in box], score


def _percent(box: list[float]) -> list[float]:
    return [round(100 * value, 4) for value in box]


def _write_list(file: IO[str], name: str, items: Iterable[Any]) -> None:
    file.write(f', "{name}": [')
    for number, item in enumerate(items):
        file.write(",\n" * (number > 0) + json.dumps(item))
    file.write("]")
