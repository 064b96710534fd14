"""COCO JSON: boxes, five keypoints, and any plain attribute of an annotation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facefind import files
from facefind.datasets.files import Flat, Missing, image_root, locate
from facefind.datasets.sample import Sample, partial, read_size
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
) -> list[Sample]:
    """Samples of a COCO JSON file, or of a folder with exactly one.

    `bbox` is x y w h; boxes without area are dropped; `iscrowd` boxes are ignored. Five
    `keypoints` become landmarks, NaN where their visibility is 0. Every other string, number or
    truth value in an annotation (`mask`, say) becomes an attribute of its name
    ("", NaN or -1 where a face has none), and where there is more than one category its name
    becomes the attribute `category`.

    Args:
        root: the JSON file or its folder.
        images: folder that `file_name` is relative to; left out: the JSON's own folder, or
            `images` in it where the names do not lead there themselves.
        exhaustive: whether every face of each picture is labeled. False adds one ignored box
            over the whole image, so that other faces are never background. None: what the
            file's `info.exhaustive` says, True where it says nothing.
        missing: what to do where an image file is absent.
        flat: what to do with boxes without area.

    Raises:
        DataError: where the file is no COCO JSON; names the annotation at fault.
    """
    source = find_labels(Path(root))
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
        pictures, annotations = content["images"], content["annotations"]
        by_id = {picture["id"]: picture for picture in pictures}
        categories = {entry["id"]: entry["name"] for entry in content.get("categories", [])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{source}: expected COCO JSON with 'images' and 'annotations' ({error!r})"
        ) from None
    faces: dict[Any, list[dict[str, Any]]] = {key: [] for key in by_id}
    for annotation in annotations:
        _check(annotation, by_id, source)
        faces[annotation["image_id"]].append(annotation)
    if len(categories) > 1:
        for annotation in annotations:
            annotation["category"] = categories.get(annotation.get("category_id"), "")
    names = [str(picture["file_name"]).replace("\\", "/") for picture in pictures]
    folder = image_root(source.parent, images)
    if images is None and names and (folder / "images" / names[0]).parent.is_dir():
        folder = folder / "images"
    found = locate(names, folder, source, missing)
    kinds = _attribute_kinds(annotations)
    samples = [
        _sample(picture, name, found[name], faces[picture["id"]], kinds, flat)
        for picture, name in zip(pictures, names, strict=True)
        if name in found
    ]
    if exhaustive is None:
        exhaustive = bool((content.get("info") or {}).get("exhaustive", True))
    return samples if exhaustive else [partial(sample) for sample in samples]


def find_labels(root: Path) -> Path:
    """The label file: `root` itself, or the one `*.json` in that folder."""
    if root.is_file():
        return root
    if not root.is_dir():
        raise DataError(f"{root}: no such file or folder")
    candidates = sorted(root.glob("*.json"))
    if len(candidates) != 1:
        names = ", ".join(path.name for path in candidates) or "none"
        raise DataError(f"{root}: expected one file *.json, got {names}; pass the file itself")
    return candidates[0]


def _check(annotation: dict[str, Any], pictures: dict[Any, Any], source: Path) -> None:
    where = f"{source}, annotation id {annotation.get('id')!r}"
    if annotation.get("image_id") not in pictures:
        raise DataError(f"{where}: image_id {annotation.get('image_id')!r} is no image's id")
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not np.all(np.isfinite(box)):
        raise DataError(f"{where}: expected a bbox of four numbers x y w h, got {box!r}")
    points = annotation.get("keypoints")
    if points is not None and len(points) != 15:
        raise DataError(
            f"{where}: expected 15 keypoint numbers, five times x y visibility, got {len(points)}"
        )


def _attribute_kinds(annotations: list[dict[str, Any]]) -> dict[str, type]:
    """Attribute -> the type that holds all its values."""
    kinds: dict[str, type] = {}
    for annotation in annotations:
        for key, value in annotation.items():
            if key in _OWN or not isinstance(value, str | bool | int | float):
                continue
            kind = int if isinstance(value, bool) else type(value)
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
        values = [kind(face.get(key, empty[kind])) for face in faces]
        attributes[key] = np.array(values, dtype=np.str_ if kind is str else kind)
    size = (picture.get("height"), picture.get("width"))
    return Sample(
        name=name,
        path=path,
        boxes=boxes.astype(np.float32),
        landmarks=points[..., :2],
        ignore=np.array([bool(face.get("iscrowd", 0)) for face in faces], bool),
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
