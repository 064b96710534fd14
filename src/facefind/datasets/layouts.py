"""Which layout a folder or label file has, and reading and writing by its name."""

from __future__ import annotations

import inspect
import os
import shutil
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

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
from facefind.datasets.files import read_text
from facefind.datasets.sample import Sample, is_partial, partial
from facefind.datasets.spec import SetSpec
from facefind.errors import DataError

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


def read(
    root: str | Path,
    *,
    layout: str | None = None,
    category: str | None = None,
    defaults: Mapping[str, Any] = {},
    **options: Any,
) -> list[Sample]:
    """Samples of the data set at `root`, whose layout is detected.

    `root` is a label file, or a folder with label files of one layout: WIDER FACE
    (`*bbx_gt.txt`, landmarks beside it merged), COCO (`*.json`), RetinaFace (`label.txt`),
    SCRFD (`labelv2.txt`), YOLO (`images/` and `labels/`), Ultralytics (`data.yaml`), VOC
    (`*.xml`), FDDB (`*ellipseList*.txt`), AFW and PASCAL faces (the face-eval toolbox's `.mat`),
    AFLW (`aflw.sqlite`), AFLW2000-3D (`image*.mat`).

    A path that begins with `partial:` names a set whose pictures may hold unlabeled faces (LFW
    with one labeled face a picture, say): each sample gets one ignored box over its whole
    image, so that the others are never taken for background. Options may follow the path:
    `labels.json,images=photos,missing=skip` is `read("labels.json", images="photos",
    missing="skip")`; those in the text prevail.

    Args:
        root: the set.
        layout: a key of `READERS`; None: detected.
        category: the only class of object that is a face, by its name or number; None: all are.
        defaults: options that prevail over a reader's own defaults, for readers that know them.
        options: go to the layout's reader, e.g. `images=` or `missing=`.

    Raises:
        DataError: where no layout or more than one fits, an option is unknown to the layout, or a
            label is not as its format demands.
    """
    spec = SetSpec.parse(root)
    if not spec.path.exists():
        hint = "; options follow the path as in SET,images=DIR" if "," in str(spec.path) else ""
        raise DataError(f"{spec.path}: no such file or folder{hint}")
    options = {"layout": layout, "category": category} | options | dict(spec.options)
    name = options.pop("layout") or detect_format(spec.path)
    category = options.pop("category")
    reader = layout_reader(name)
    kinds = typing.get_type_hints(reader)
    known = [key for key in inspect.signature(reader).parameters if key != "root"]
    if unknown := sorted(options.keys() - set(known)):
        raise DataError(
            f"{root}: sets of the layout {name} have no option {unknown[0]!r}, but layout, "
            f"category, {', '.join(known)}"
        )
    options = {key: value for key, value in defaults.items() if key in known} | options
    samples = reader(
        spec.path, **{key: _option(key, value, kinds[key]) for key, value in options.items()}
    )
    if category is not None:
        samples = _of_category(samples, str(category), str(root))
    return [partial(sample) for sample in samples] if spec.partial else samples


def _option(name: str, value: Any, kind: Any) -> Any:
    """The value of a reader's option, which may be text; its type says what is allowed."""
    kinds = typing.get_args(kind) if typing.get_origin(kind) is not Literal else (kind,)
    choices = [word for one in kinds if typing.get_origin(one) is Literal
               for word in typing.get_args(one)]  # fmt: skip
    if bool in kinds and value in ("true", "false"):
        return value == "true"
    if choices and value is not None and value not in choices:
        raise DataError(f"{name}={value}: expected one of {', '.join(choices)}")
    if bool in kinds and str not in kinds and not isinstance(value, bool | None):
        raise DataError(f"{name}={value}: expected true or false")
    return value


def _of_category(samples: Sequence[Sample], category: str, title: str) -> list[Sample]:
    """The samples with the faces of one category; a picture that is partial remains so."""
    there = {str(one) for sample in samples for one in sample.attributes.get("category", ())}
    if category not in there - {""}:
        named = ", ".join(sorted(there - {""})) or "none: it is a set of one category"
        raise DataError(f"{title}: no object is of the category {category!r}; there are {named}")
    chosen = []
    for sample in samples:
        kinds = np.asarray(sample.attributes.get("category", np.zeros(0)), np.str_)
        kept = sample[kinds == category]
        chosen.append(partial(kept) if is_partial(sample) and not is_partial(kept) else kept)
    return chosen


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
    not at all, copied, or linked.

    Raises:
        DataError: on an unknown layout.
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
    root.mkdir(parents=True, exist_ok=True)
    writer(samples, root / labels)
    if images != "none":
        for sample in samples:
            place = (root / pictures / sample.name).with_suffix(sample.path.suffix)
            place.parent.mkdir(parents=True, exist_ok=True)
            if images == "copy":
                shutil.copyfile(sample.path, place)
            elif not place.exists():
                os.symlink(sample.path.resolve(), place)
    return root / labels
