"""Labeled sets of any layout, with options in their names or beside them, as samples."""

from __future__ import annotations

import inspect
import logging
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from facefind.datasets.files import Unreadable
from facefind.datasets.layouts import detect_format, layout_reader
from facefind.datasets.sample import Sample, all_partial, is_partial, partial
from facefind.datasets.spec import SetSpec
from facefind.errors import DataError
from facefind.landmarks import FLIP_ORDER

logger = logging.getLogger("facefind.datasets")

Sides = Literal["image", "subject"]
"""Whose left the left eye's is, in the labels of landmarks."""


def read(
    root: str | Path,
    *,
    layout: str | None = None,
    category: str | None = None,
    sides: Sides = "image",
    unreadable: Unreadable = "error",
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
        sides: whether left eye and left mouth corner, in the labels, are those at the left of the
            image, or those at the left of the person, which are exchanged here.
        unreadable: what to do with pictures that cannot be opened, where their size is needed: stop
            with an error, `skip` them with a warning, or `keep` them without what is missing.
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
    given = {"layout": layout, "category": category, "sides": sides, "unreadable": unreadable}
    given |= options | dict(spec.options)
    layout = given.pop("layout") or detect_format(spec.path)
    category, sides = given.pop("category"), _value("sides", given.pop("sides"), Sides)
    unreadable = _value("unreadable", given["unreadable"], Unreadable)
    reader = layout_reader(layout)
    known = [name for name in inspect.signature(reader).parameters if name != "root"]
    if "unreadable" not in known:
        del given["unreadable"]
    if unknown := sorted(given.keys() - set(known)):
        raise DataError(
            f"{root}: sets of the layout {layout} have no option {unknown[0]!r}, but layout, "
            f"category, sides, unreadable, {', '.join(n for n in known if n != 'unreadable')}"
        )
    samples = _read(reader, spec.path, {n: v for n, v in defaults.items() if n in known} | given)
    kinds = _categories(samples)
    if category is not None:
        samples = _of_category(samples, str(category), kinds, str(root))
    elif len(kinds) > 1:
        named = ", ".join(kinds[:5]) + ", ..." * (len(kinds) > 5)
        logger.warning(
            "%s: objects of all categories (%s) are taken for faces; %s,category=NAME takes one",
            *(root, named, root),
        )
    if sides == "subject":
        samples = [replace(one, landmarks=one.landmarks[:, FLIP_ORDER]) for one in samples]
    return all_partial(samples, unreadable) if spec.partial else samples


def _read(
    reader: Callable[..., list[Sample]], path: Path, options: Mapping[str, Any]
) -> list[Sample]:
    kinds = typing.get_type_hints(reader)
    return reader(
        path, **{name: _value(name, value, kinds[name]) for name, value in options.items()}
    )


def _value(name: str, value: Any, kind: Any) -> Any:
    """An option's value, which may be text; its type says what is allowed."""
    kinds = (kind,) if typing.get_origin(kind) is Literal else typing.get_args(kind)
    words = [typing.get_args(one) for one in kinds if typing.get_origin(one) is Literal]
    choices = [choice for some in words for choice in some]
    if bool in kinds and value in ("true", "false"):
        return value == "true"
    if choices and value is not None and value not in choices:
        raise DataError(f"{name}={value}: expected one of {', '.join(choices)}")
    if bool in kinds and str not in kinds and not isinstance(value, bool | None):
        raise DataError(f"{name}={value}: expected true or false")
    return value


def _categories(samples: Sequence[Sample]) -> list[str]:
    """The classes of objects in a set that names more than one, sorted."""
    found = {str(one) for sample in samples for one in sample.attributes.get("category", ())}
    return sorted(found - {""})


def _of_category(
    samples: Sequence[Sample], category: str, there: Sequence[str], title: str
) -> list[Sample]:
    """The samples with the faces of one category; a picture that is partial remains so."""
    if category not in there:
        named = ", ".join(there) or "none: it is a set of one category"
        raise DataError(f"{title}: no object is of the category {category!r}; there are {named}")
    chosen = []
    for sample in samples:
        kinds = np.asarray(sample.attributes.get("category", np.zeros(0)), np.str_)
        kept = sample[kinds == category]
        chosen.append(partial(kept) if is_partial(sample) and not is_partial(kept) else kept)
    return chosen
