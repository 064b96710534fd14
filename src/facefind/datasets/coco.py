"""COCO JSON: boxes, five keypoints, and any plain attribute of an annotation."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facefind import files
from facefind.datasets.files import (
    LARGEST,
    ONE_LABEL,
    Flat,
    Missing,
    Unreadable,
    decode,
    flag,
    image_root,
    locate,
    only_file,
)
from facefind.datasets.sample import Sample, all_partial, read_size
from facefind.errors import DataError

_OWN = {
    "id", "image_id", "category_id", "bbox", "area", "iscrowd", "keypoints", "num_keypoints",
    "segmentation",
}  # fmt: skip


def read(
    root: str | Path,
    *,
    images: str | Path | None = None,
    exhaustive: bool | None = None,
    missing: Missing = "error",
    flat: Flat = "drop",
    unreadable: Unreadable = "error",
) -> list[Sample]:
    """Samples of a COCO JSON file, or of a folder with exactly one.

    `bbox` is x y w h; boxes without area are dropped; `iscrowd` boxes are ignored. Five
    `keypoints` become landmarks, NaN where their visibility is 0. Every other string, number or
    truth value in an annotation (`mask`, say) becomes an attribute of its name
    ("", NaN or -1 where a face has none, or null), and where there is more than one category its
    name becomes the attribute `category`.

    Args:
        root: the JSON file or its folder.
        images: folder that `file_name` is relative to; left out: the JSON's own folder, or
            `images` in it where the names do not lead there themselves.
        exhaustive: whether every face of each picture is labeled. False adds one ignored box
            over the whole image, so that other faces are never background. None: what the
            file's `info.exhaustive` says, True where it says nothing.
        missing: what to do where an image file is absent.
        flat: what to do with boxes without area.
        unreadable: what to do with pictures that cannot be opened, where not every face is labeled
            and the file does not give their size.

    Raises:
        DataError: where the file is no COCO JSON; names the image or annotation at fault.
    """
    source = only_file(Path(root), "*.json")
    pictures, annotations, categories, info = _parse(source)
    faces: dict[Any, list[dict[str, Any]]] = {key: [] for key in pictures}
    for annotation in annotations:
        faces[annotation["image_id"]].append(annotation)
        if len(categories) > 1:
            annotation["category"] = categories.get(annotation.get("category_id"), "")
    names = [picture["file_name"].replace("\\", "/") for picture in pictures.values()]
    folder = image_root(source.parent, images)
    if images is None and names and (folder / "images" / names[0]).parent.is_dir():
        folder = folder / "images"
    found = locate(names, folder, source, missing)
    kinds = _attribute_kinds(annotations)
    samples = [
        _sample(picture, name, found[name], faces[number], kinds, flat)
        for (number, picture), name in zip(pictures.items(), names, strict=True)
        if name in found
    ]
    if exhaustive is None:
        exhaustive = flag(info.get("exhaustive", True)) is not False
    return samples if exhaustive else all_partial(samples, unreadable)


Objects = list[dict[str, Any]]


def _parse(source: Path) -> tuple[dict[Any, dict[str, Any]], Objects, dict[Any, str], Any]:
    """Pictures by id, annotations, categories' names by id, and info; each checked."""
    text = decode(source)
    try:
        content = json.loads(text)
        parts = [content["images"], content["annotations"], content.get("categories") or []]
        if not all(map(_are_objects, parts)):
            raise ValueError("these must be lists of objects")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{source}: expected COCO JSON with 'images' and 'annotations' ({error})"
        ) from None
    pictures: dict[Any, dict[str, Any]] = {}
    for picture in parts[0]:
        with ONE_LABEL:
            _check_picture(picture, pictures, source)
            pictures[picture["id"]] = picture
    named = [picture.get("id") for picture in parts[0]]
    ids = {key for key in named if isinstance(key, int | str)}
    annotations = []
    for annotation in parts[1]:
        with ONE_LABEL:
            _check(annotation, ids, source)
            if annotation["image_id"] in pictures:
                annotations.append(annotation)
    categories = {
        entry["id"]: str(entry.get("name") or "")
        for entry in parts[2]
        if isinstance(entry.get("id"), int | str)
    }
    info = content.get("info")
    return pictures, annotations, categories, info if isinstance(info, dict) else {}


def _are_objects(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, dict) for value in values)


def _check_picture(picture: dict[str, Any], others: Collection[Any], source: Path) -> None:
    key = picture.get("id")
    where = f"{source}, image id {key!r}"
    if not isinstance(key, int | str) or key in others:
        raise DataError(f"{where}: expected a number or a text that no other image has")
    name = picture.get("file_name")
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"{where}: expected a file_name, got {name!r}")
    sides = [picture.get(side) or 0 for side in ("width", "height")]
    if not all(isinstance(side, int | float) and 0 <= side <= LARGEST for side in sides):
        raise DataError(f"{where}: expected width and height in pixels, got {sides}")


def _check(annotation: dict[str, Any], ids: Collection[Any], source: Path) -> None:
    """See that an annotation is as it must be; `iscrowd` becomes a truth value."""
    where = f"{source}, annotation id {annotation.get('id')!r}"
    picture = annotation.get("image_id")
    if not isinstance(picture, int | str) or picture not in ids:
        raise DataError(f"{where}: image_id {picture!r} is no image's id")
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not _are_numbers(box):
        raise DataError(f"{where}: expected a bbox of four numbers x y w h, got {box!r}")
    points = annotation.get("keypoints") or []
    if not _are_numbers(points) or len(points) not in (0, 15):
        raise DataError(
            f"{where}: expected 15 keypoint numbers, five times x y visibility, got {points!r:.80}"
        )
    crowd = flag(annotation.get("iscrowd"))
    if crowd is None:
        raise DataError(f"{where}: expected iscrowd 0 or 1, got {annotation['iscrowd']!r}")
    if not isinstance(annotation.get("category_id"), int | str | None):
        raise DataError(f"{where}: category_id {annotation['category_id']!r} is no category's id")
    annotation["iscrowd"] = crowd


def _are_numbers(values: Any) -> bool:
    """Whether a value is a list of numbers that can be pixels: no texts, truth values or NaN."""
    return isinstance(values, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
        for value in values
    )


def _attribute_kinds(annotations: list[dict[str, Any]]) -> dict[str, type]:
    """Attribute -> the type that holds all its values."""
    kinds: dict[str, type] = {}
    for annotation in annotations:
        for key, value in annotation.items():
            if key in _OWN or not isinstance(value, str | bool | int | float):
                continue
            kind = int if isinstance(value, bool) else type(value)
            if isinstance(value, int) and abs(value) >= 1 << 63:
                kind = str
            former = kinds.get(key, kind)
            if former is not kind:
                kind = str if str in (former, kind) else float
            kinds[key] = kind
    return kinds


def _sample(
    picture: dict[str, Any],
    name: str,
    path: Path,
    faces: list[dict[str, Any]],
    kinds: dict[str, type],
    flat: Flat,
) -> Sample:
    if flat == "drop":
        faces = [face for face in faces if face["bbox"][2] > 0 and face["bbox"][3] > 0]
    boxes = np.array([face["bbox"] for face in faces], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    blank = [0.0] * 15
    points = np.array([face.get("keypoints") or blank for face in faces], np.float32)
    points = points.reshape(-1, 5, 3)
    points[points[..., 2] == 0] = np.nan
    empty = {str: "", int: -1, float: float("nan")}
    attributes: dict[str, npt.NDArray[np.generic]] = {}
    for key, kind in kinds.items():
        given = [face.get(key) for face in faces]
        values = [
            kind(value) if isinstance(value, str | bool | int | float) else empty[kind]
            for value in given
        ]
        attributes[key] = np.array(values, dtype=np.str_ if kind is str else kind)
    size = (picture.get("height"), picture.get("width"))
    return Sample(
        name=name,
        path=path,
        boxes=boxes.astype(np.float32),
        landmarks=points[..., :2],
        ignore=np.array([face["iscrowd"] for face in faces], bool),
        image_size=(int(size[0]), int(size[1])) if size[0] and size[1] else None,
        attributes=attributes,
    )


def write(samples: Sequence[Sample], path: str | Path, *, exhaustive: bool = True) -> None:
    """Write COCO JSON with one category, `face`, and keypoints where a face has landmarks.

    Ignored boxes become `iscrowd`; attributes of one value a face are written along.
    `exhaustive=False` says in the file that pictures may hold unlabeled faces. Reads image
    headers where the size is not known.
    """
    pictures: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, sample in enumerate(samples, 1):
        height, width = sample.image_size or read_size(sample.path)
        pictures.append({"id": number, "file_name": sample.name, "width": width, "height": height})
        for face in range(len(sample)):
            x1, y1, x2, y2 = (float(value) for value in sample.boxes[face])
            annotation: dict[str, Any] = {
                key: value
                for key, values in sample.attributes.items()
                if values.ndim == 1
                and key not in _OWN
                and (value := _plain(values[face])) is not None
            }
            annotation |= {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": int(sample.ignore[face]),
            }
            known = ~np.isnan(sample.landmarks[face, :, 0])
            if known.any():
                points = np.nan_to_num(sample.landmarks[face].astype(np.float64))
                rows = np.concatenate([points, 2.0 * known[:, None]], axis=1)
                annotation["keypoints"] = rows.ravel().tolist()
                annotation["num_keypoints"] = int(known.sum())
            annotations.append(annotation)
    content = {
        "info": {"exhaustive": exhaustive},
        "images": pictures,
        "annotations": annotations,
        "categories": [
            {
                "id": 1,
                "name": "face",
                "keypoints": ["left_eye", "right_eye", "nose", "mouth_left", "mouth_right"],
            }
        ],
    }
    files.write_text(path, json.dumps(content))


def _plain(value: np.generic) -> str | int | float | None:
    """The value in a type that JSON has; None where it is not a number."""
    plain = value.item()
    return None if isinstance(plain, float) and not np.isfinite(plain) else plain
