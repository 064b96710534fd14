"""PASCAL VOC XML: one file a picture."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from facefind import files
from facefind.datasets.files import ONE_LABEL, Flat, Missing, flag, image_root, key, locate, numbers
from facefind.datasets.sample import Sample, read_size
from facefind.errors import DataError
from facefind.outputs import below

_ENCODING = re.compile(rb"""<\?xml[^>]*?encoding=["']([\w.-]+)["'][^>]*\?>""")


def read(
    root: str | Path,
    *,
    images: str | Path | None = None,
    missing: Missing = "error",
    flat: Flat = "drop",
) -> list[Sample]:
    """Samples of a folder of VOC XML files, or of one with `Annotations/` and `JPEGImages/`.

    `bndbox` corners are taken as they are (xmin, ymin, xmax, ymax). An object marked
    difficult is ignored; an object's name becomes the attribute `category`. The picture's name is
    the XML file's `filename`, or the XML's own name where that is empty. No landmarks: VOC knows
    none.

    Args:
        root: the folder.
        images: the picture folder; left out: `JPEGImages` or `images` beside.
        missing: what to do where an image file is absent.
        flat: what to do with boxes without area.

    Raises:
        DataError: where a file is no VOC annotation; names the object at fault.
    """
    root = Path(root)
    folder = root / "Annotations" if (root / "Annotations").is_dir() else root
    files = sorted(folder.rglob("*.xml"))
    if not files:
        raise DataError(f"{root}: expected *.xml files in it or in its Annotations folder")
    pictures = image_root(root, images, "JPEGImages", "images")
    parsed = []
    for file in files:
        if not file.name.startswith("."):
            with ONE_LABEL:
                parsed.append(_parse(file, file.relative_to(folder).parent, flat))
    found = locate((sample.name for sample in parsed), pictures, folder, missing)
    return [replace(one, path=found[one.name]) for one in parsed if one.name in found]


def write(samples: Sequence[Sample], root: str | Path) -> None:
    """Write `root/Annotations/<name>.xml`; this layout can't hold landmarks.

    Reads image headers where the size is not known.

    Raises:
        DataError: a name leads out of the folder.
    """
    for sample in samples:
        height, width = sample.image_size or read_size(sample.path)
        top = ElementTree.Element("annotation")
        ElementTree.SubElement(top, "filename").text = Path(sample.name).name
        size = ElementTree.SubElement(top, "size")
        for side, value in (("width", width), ("height", height), ("depth", 3)):
            ElementTree.SubElement(size, side).text = str(value)
        for box, ignore in zip(sample.boxes, sample.ignore, strict=True):
            entry = ElementTree.SubElement(top, "object")
            ElementTree.SubElement(entry, "name").text = "face"
            ElementTree.SubElement(entry, "difficult").text = str(int(ignore))
            corners = ElementTree.SubElement(entry, "bndbox")
            for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
                ElementTree.SubElement(corners, side).text = f"{value:.9g}"
        ElementTree.indent(top)
        file = below(Path(root) / "Annotations", f"{key(sample.name)}.xml")
        files.write_bytes(file, ElementTree.tostring(top, encoding="utf-8"), durable=False)


def _tree(file: Path) -> ElementTree.Element:
    """The top element of an XML file, in any encoding that Python knows."""
    try:
        content = file.read_bytes()
        declared = _ENCODING.match(content)
        try:
            return ElementTree.fromstring(content)
        except ValueError:  # the parser knows few encodings of more than one byte
            if declared is None:
                raise
        return ElementTree.fromstring(content[declared.end() :].decode(declared[1].decode()))
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        raise DataError(f"{file}: no XML ({error})") from None


def _parse(file: Path, folder: Path, flat: Flat) -> Sample:
    top = _tree(file)
    if top.tag != "annotation":
        raise DataError(f"{file}: expected <annotation> as the top element, got <{top.tag}>")
    boxes, ignore, categories = [], [], []
    for number, entry in enumerate(top.iter("object"), 1):
        sides = ("xmin", "ymin", "xmax", "ymax")
        given = [entry.findtext(f"bndbox/{side}", "").strip() for side in sides]
        where = f"{file}, object {number}"
        with ONE_LABEL:
            corners = numbers(" ".join(given))
            if len(corners) != 4 or not all(given):
                raise DataError(
                    f"{where}: expected bndbox with xmin, ymin, xmax, ymax, got {given}"
                )
            difficult = flag(entry.findtext("difficult"))
            if difficult is None:
                raise DataError(f"{where}: expected difficult to be 0 or 1")
            if flat == "drop" and (corners[2] <= corners[0] or corners[3] <= corners[1]):
                continue
            boxes.append(corners)
            ignore.append(difficult)
            categories.append(entry.findtext("name", "").strip())
    named = top.findtext("filename", "").strip() or file.stem
    # Tools leave 0, nothing or a question mark where they did not look at the picture.
    size = numbers(f"{top.findtext('size/height', '')} {top.findtext('size/width', '')}")
    height, width = (int(side) for side in size) if len(size) == 2 else (0, 0)
    return Sample(
        name=(folder / named).as_posix(),
        path=file,
        boxes=np.array(boxes, np.float32),
        ignore=np.array(ignore, bool),
        image_size=(height, width) if height > 0 and width > 0 else None,
        attributes={"category": np.array(categories, np.str_)},
    )
