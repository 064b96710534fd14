"""RetinaFace's label.txt, and SCRFD's labelv2.txt that grew out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from facefind import files
from facefind.datasets.files import (
    ONE_LABEL,
    Flat,
    Missing,
    bad_line,
    image_root,
    locate,
    log,
    numbers,
    read_text,
)
from facefind.datasets.sample import Sample, read_size
from facefind.errors import DataError

_V1 = "x y w h, or those with five times x y flag and a quality (20 numbers)"
_V2 = "x1 y1 x2 y2, those with an ignore flag (5), or with five times x y flag (19 numbers)"


@dataclass
class _Picture:
    name: str
    size: tuple[int, int] | None
    boxes: list[list[float]] = field(default_factory=list)
    points: list[list[float]] = field(default_factory=list)
    ignore: list[bool] = field(default_factory=list)
    quality: list[float] = field(default_factory=list)


def read(
    root: str | Path,
    *,
    images: str | Path | None = None,
    missing: Missing = "error",
    flat: Flat = "drop",
) -> list[Sample]:
    """Samples of a `label.txt` (RetinaFace) or `labelv2.txt` (SCRFD) file, or of its folder.

    A picture begins with `# event/name.jpg`; in labelv2 width and height follow the name, which
    is how the two differ. Faces follow, one a line: in label.txt `x y w h`, five times
    `x y flag` and a quality, in labelv2 `x1 y1 x2 y2` and five times `x y flag`. Landmarks may be
    left out; one whose three numbers are -1 is not labeled (NaN). A bare fifth number 1 in
    labelv2 marks a box to ignore. Boxes without area are dropped unless `flat` says "keep". Adds
    the attributes `landmarks_flag` (G, 5; 0 visible, 1 occluded, -1 none) and, from label.txt,
    `quality`.

    Images are sought in `images` beside the label file unless `images` is given.

    Raises:
        DataError: with file and line, where a line is not as the format demands.
    """
    source = Path(root)
    if source.is_dir():
        candidates = [source / "labelv2.txt", source / "label.txt"]
        there = [path for path in candidates if path.is_file()]
        if not there:
            raise DataError(f"{source}: expected label.txt or labelv2.txt in it; pass the file")
        source = there[0]
    pictures = _parse(source, flat)
    folder = image_root(source.parent, images, "images")
    found = locate((picture.name for picture in pictures), folder, source, missing)
    return [_sample(picture, found[picture.name]) for picture in pictures if picture.name in found]


def write(samples: Sequence[Sample], path: str | Path) -> None:
    """Write RetinaFace's `label.txt`; ignored boxes, which it can't hold, are left out."""
    lines: list[str] = []
    dropped = 0
    for sample in samples:
        lines.append(f"# {sample.name}")
        quality = sample.attributes.get("quality", np.ones(len(sample)))
        for face in range(len(sample)):
            if sample.ignore[face]:
                dropped += 1
                continue
            x1, y1, x2, y2 = sample.boxes[face].astype(np.float64)
            row = [x1, y1, x2 - x1, y2 - y1, *_points_row(sample, face), float(quality[face])]
            lines.append(" ".join(f"{value:.9g}" for value in row))
    if dropped:
        log.warning("%s: %d ignored boxes left out, which this layout can't hold", path, dropped)
    files.write_text(path, "\n".join(lines) + "\n")


def write_v2(samples: Sequence[Sample], path: str | Path) -> None:
    """Write SCRFD's `labelv2.txt`; reads image headers where the size is not known."""
    lines: list[str] = []
    for sample in samples:
        height, width = sample.image_size or read_size(sample.path)
        lines.append(f"# {sample.name} {width} {height}")
        for face in range(len(sample)):
            row = [*sample.boxes[face]]
            row += [1.0] if sample.ignore[face] else _points_row(sample, face)
            lines.append(" ".join(f"{value:.9g}" for value in row))
    files.write_text(path, "\n".join(lines) + "\n")


def _points_row(sample: Sample, face: int) -> list[float]:
    flags = sample.attributes.get("landmarks_flag", np.zeros((len(sample), 5)))
    row: list[float] = []
    for (x, y), flag in zip(sample.landmarks[face], flags[face], strict=True):
        row += [-1, -1, -1] if np.isnan(x) else [float(x), float(y), max(float(flag), 0)]
    return row


def _parse(source: Path, flat: Flat) -> list[_Picture]:
    pictures: list[_Picture] = []
    seen: set[str] = set()
    wrong = False  # is the last header, whose faces are those of no picture
    for number, line in enumerate(read_text(source), 1):
        if not line.strip():
            continue
        with ONE_LABEL:
            if line.startswith("#"):
                picture = _header(line)
                wrong = picture is None or picture.name in seen
                if picture is None or picture.name in seen:
                    raise bad_line(source, number, line, "'# name' or '# name width height', once")
                seen.add(picture.name)
                pictures.append(picture)
            elif not wrong:
                _add_face(pictures, line, source, number, flat)
    return pictures


def _add_face(
    pictures: Sequence[_Picture], line: str, source: Path, number: int, flat: Flat
) -> None:
    """Add the face of a line to the last picture."""
    if not pictures:
        raise bad_line(source, number, line, "a line '# name' first")
    picture = pictures[-1]
    second = picture.size is not None
    values = numbers(line)
    if len(values) not in ((4, 5, 19) if second else (4, 20)):
        raise bad_line(source, number, line, _V2 if second else _V1)
    box = values[:4] if second else [*values[:2], values[0] + values[2], values[1] + values[3]]
    if flat == "drop" and (box[2] <= box[0] or box[3] <= box[1]):
        return
    picture.boxes.append(box)
    picture.points.append(values[4:19] if len(values) >= 19 else [-1.0] * 15)
    picture.ignore.append(second and len(values) == 5 and values[4] == 1)
    picture.quality.append(values[19] if len(values) == 20 else -1.0)


def _header(line: str) -> _Picture | None:
    text = line[1:].strip()
    parts = text.rsplit(maxsplit=2)
    if len(parts) == 3 and parts[1].isdecimal() and parts[2].isdecimal():
        size = numbers(f"{parts[2]} {parts[1]}", whole=True)
        return _Picture(parts[0], (int(size[0]), int(size[1]))) if size and min(size) > 0 else None
    return _Picture(text, None) if text else None


def _sample(picture: _Picture, path: Path) -> Sample:
    points = np.array(picture.points, np.float32).reshape(-1, 5, 3)
    landmarks = np.where(np.all(points == -1, axis=2)[..., None], np.nan, points[..., :2])
    attributes: dict[str, npt.NDArray[np.generic]] = {
        "landmarks_flag": points[..., 2].astype(np.int8)
    }
    if picture.size is None:
        attributes["quality"] = np.array(picture.quality, np.float32)
    return Sample(
        name=picture.name,
        path=path,
        boxes=np.array(picture.boxes, np.float32),
        landmarks=landmarks,
        ignore=np.array(picture.ignore, bool),
        group=picture.name.rpartition("/")[0],
        image_size=picture.size,
        attributes=attributes,
    )
