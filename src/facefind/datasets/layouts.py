"""Layouts of labeled sets by name: which one a folder or label file has, its reader and writer."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from facefind.datasets import (
    aflw,
    coco,
    face_eval,
    fddb,
    retinaface,
    ultralytics,
    voc,
    wider,
    yolo,
)
from facefind.datasets.files import key, read_text
from facefind.datasets.sample import Sample
from facefind.errors import DataError
from facefind.files import atomic
from facefind.outputs import below, check_distinct, output_path

READERS: dict[str, Callable[..., list[Sample]]] = {
    "wider": wider.read,
    "coco": coco.read,
    "retinaface": retinaface.read,
    "scrfd": retinaface.read,
    "yolo": yolo.read,
    "ultralytics": ultralytics.read,
    "voc": voc.read,
    "fddb": fddb.read,
    "face-eval": face_eval.read,
    "aflw": aflw.read,
    "aflw2000": aflw.read_2000,
}
Writable = Literal["wider", "coco", "retinaface", "scrfd", "yolo", "voc"]


def layout_reader(layout: str) -> Callable[..., list[Sample]]:
    """The reader of a layout.

    Raises:
        DataError: on an unknown layout.
    """
    if layout not in READERS:
        raise DataError(f"expected a layout of {', '.join(READERS)}, got {layout!r}")
    return READERS[layout]


def detect_format(path: Path) -> str:
    """The layout's name, a key of `READERS`.

    Raises:
        DataError: where none or more than one fits.
    """
    fits = _of_file(path) if path.is_file() else _of_folder(path)
    if len(fits) != 1:
        which = f"could be {' or '.join(fits)}" if fits else "has no label file of a known layout"
        raise DataError(
            f"{path}: {which}; name the label file, or the layout, as in {path},layout=NAME, one "
            f"of {', '.join(READERS)}"
        )
    return fits[0]


def _of_folder(path: Path) -> list[str]:
    def has(*patterns: str) -> bool:
        return any(next(path.glob(pattern), None) is not None for pattern in patterns)

    yolo_folders = (path / "labels").is_dir() and (path / "images").is_dir()
    tests = {
        "wider": has("*bbx_gt.txt"),
        "scrfd": has("labelv2.txt"),
        "retinaface": has("label.txt"),
        "coco": has("*.json"),
        "yolo": yolo_folders,
        "ultralytics": has("*.yaml") and not yolo_folders,  # which it may come with
        "voc": has("*.xml", "Annotations/*.xml", "Annotations/*/*.xml"),
        "fddb": has("*ellipseList*.txt", "FDDB-folds/*ellipseList*.txt"),
        "face-eval": has("*nnotations*.mat"),
        "aflw": has("aflw.sqlite", "data/aflw.sqlite"),
        "aflw2000": has("image*.mat"),
    }
    return [name for name, fits in tests.items() if fits]


def _of_file(path: Path) -> list[str]:
    by_suffix = {".json": "coco", ".sqlite": "aflw", ".mat": "face-eval"}
    by_suffix |= {".yaml": "ultralytics", ".yml": "ultralytics"}
    if path.suffix in by_suffix:
        return [by_suffix[path.suffix]]
    lines = [line.split() for line in read_text(path)[:4] if line.strip()]
    if not lines:
        return []
    if lines[0][0].startswith("#"):
        sized = len(lines[0]) >= 3 and all(part.isdecimal() for part in lines[0][-2:])
        return ["scrfd" if sized else "retinaface"]
    if len(lines) < 2 or len(lines[1]) != 1 or not lines[1][0].isdecimal():
        return []
    if len(lines) == 2:
        return ["wider"]
    return {10: ["wider"], 6: ["fddb"], 1: ["wider"]}.get(len(lines[2]), [])


def write(
    samples: Sequence[Sample],
    root: str | Path,
    layout: Writable,
    *,
    images: Literal["none", "copy", "link"] = "none",
) -> Path:
    """Write the samples' labels below folder `root` in the named layout; gives the label path.

    What a layout cannot hold is left out, as its writer's documentation says (attributes,
    landmarks, ignored boxes). `images` puts the pictures where the layout's reader looks for them:
    not at all, copied, or linked. A picture whose name is an absolute path, or leads upwards, gets
    the last part of it for a name: nothing is written outside `root`, and no sample's own picture
    is ever written.

    Raises:
        DataError: on an unknown layout; where two pictures would share a file, or a name cannot be
            written.
    """
    root = Path(root)
    writers: dict[str, tuple[Callable[[Sequence[Sample], Path], None], str, str]] = {
        "wider": (lambda s, _: wider.write(s, root), "wider_face_bbx_gt.txt", "images"),
        "coco": (coco.write, "labels.json", "images"),
        "retinaface": (retinaface.write, "label.txt", "images"),
        "scrfd": (retinaface.write_v2, "labelv2.txt", "images"),
        "yolo": (lambda s, _: yolo.write(s, root), "labels", "images"),
        "voc": (lambda s, _: voc.write(s, root), "Annotations", "JPEGImages"),
    }
    if layout not in writers:
        raise DataError(f"expected a layout of {', '.join(writers)}, got {layout!r}")
    writer, labels, pictures = writers[layout]
    inside = [_inside(sample) for sample in samples]
    suffix = {"yolo": ".txt", "voc": ".xml"}.get(layout)  # a file a picture
    stems = [key(one.name) for one in inside]
    files = [f"{s}{suffix}" if suffix else one.name for s, one in zip(stems, inside, strict=True)]
    _check_distinct(samples, files, root, "labels")
    if images != "none":
        places = [f"{s}{one.path.suffix}" for s, one in zip(stems, inside, strict=True)]
        _check_distinct(samples, places, root, "pictures")
    root.mkdir(parents=True, exist_ok=True)
    writer(inside, root / labels)
    if images != "none":
        _put_pictures([one.path for one in inside], places, root / pictures, link=images == "link")
    return root / labels


def _check_distinct(
    samples: Sequence[Sample], targets: Sequence[str], root: Path, what: str
) -> None:
    names = (sample.name for sample in samples)
    check_distinct(zip(names, targets, strict=True), root, f"the {what}", "rename one of them")


def _inside(sample: Sample) -> Sample:
    """The sample under a name that leads nowhere else, and that can be written."""
    name = output_path(sample.name).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{name!r} is no UTF-8: rename the picture") from None
    return sample if name == sample.name else replace(sample, name=name)


def _put_pictures(
    pictures: Sequence[Path], places: Sequence[str], folder: Path, *, link: bool
) -> None:
    originals = {os.path.realpath(picture) for picture in pictures}
    for picture, name in zip(pictures, places, strict=True):
        place = below(folder, name)
        if place.exists() and place.samefile(picture) and (link or not place.is_symlink()):
            continue
        if not place.is_symlink() and os.path.realpath(place) in originals:
            raise DataError(f"{place} is a picture of the set itself: give another folder")
        with atomic(place, durable=False) as draft:
            if link:
                os.symlink(picture.resolve(), draft)
            else:
                shutil.copyfile(picture, draft)
