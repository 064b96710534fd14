"""AFW and PASCAL faces, as re-labeled for the face-eval toolbox (Mathias et al., 2014)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from facefind.datasets.files import (
    LARGEST,
    ONE_LABEL,
    Missing,
    image_root,
    locate,
    only_file,
    read_mat,
)
from facefind.datasets.sample import Sample
from facefind.errors import DataError


def read(
    root: str | Path, *, images: str | Path | None = None, missing: Missing = "error"
) -> list[Sample]:
    """Samples of the toolbox's `.mat` label file, AFW's or PASCAL's, or of its folder.

    The file holds `Annotations`, one struct a picture with `imgname` and `objects`; an object is
    `x1 y1 x2 y2`, two further numbers, of which the second marks it to be ignored. PASCAL's
    has four numbers for some objects: those count. Boxes keep their order, also those without
    area, because the protocol counts by them.

    Raises:
        DataError: where the file is not of that kind.
    """
    source = only_file(Path(root), "*Annotations*.mat", "*annotations*.mat")
    try:
        table = read_mat(source)["Annotations"]
        rows = [(str(entry["imgname"][0]), entry["objects"]) for entry in table.ravel()]
    except (DataError, KeyError, ValueError, IndexError, TypeError) as error:
        raise DataError(
            f"{source}: expected a .mat file with Annotations(i).imgname and .objects ({error!r})"
        ) from None
    folder = image_root(source.parent, images, "images", "testimages")
    found = locate((name for name, _ in rows), folder, source, missing)
    return [_sample(name, found[name], objects, source) for name, objects in rows if name in found]


def _sample(name: str, path: Path, objects: Any, source: Path) -> Sample:
    boxes, ignore = [], []
    entries: list[list[float]] = []
    with ONE_LABEL:
        try:
            entries = _rows(objects)
        except (ValueError, TypeError) as error:
            raise DataError(f"{source}, {name}: its objects are no numbers ({error})") from None
    for number, entry in enumerate(entries, 1):
        with ONE_LABEL:
            if len(entry) < 4 or not np.all(np.abs(entry) <= LARGEST):
                raise DataError(
                    f"{source}, {name}, object {number}: expected x1 y1 x2 y2 and maybe two "
                    f"further numbers, got {entry}"
                )
            boxes.append(entry[:4])
            ignore.append(len(entry) >= 6 and entry[5] != 0)
    return Sample(
        name=name, path=path, boxes=np.array(boxes, np.float32), ignore=np.array(ignore, bool)
    )


def _rows(objects: Any) -> list[list[float]]:
    """Each object's numbers; the table is a matrix, or a cell with one vector an object."""
    array = np.asarray(objects)
    if array.dtype == object:
        rows = [np.asarray(cell, np.float64).ravel() for cell in array.ravel()]
    else:
        rows = list(array.reshape(-1, array.shape[-1]).astype(np.float64)) if array.size else []
    return [row.tolist() for row in rows if len(row)]
