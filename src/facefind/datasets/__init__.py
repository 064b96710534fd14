"""Labelled pictures: readers of the usual layouts, splits, digests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from facefind.datasets import coco, wider
from facefind.datasets.files import Missing
from facefind.datasets.sample import Sample, digest, partial, read_size, split
from facefind.errors import DataError

__all__ = ["Missing", "Sample", "coco", "digest", "partial", "read", "read_size", "split", "wider"]


def read(root: str | Path, *, missing: Missing = "error", **options: Any) -> list[Sample]:
    """Samples of the data set at `root`, whose layout is recognised.

    `root` is a label file, or a folder with exactly one label file. Known so far: WIDER FACE
    (`*bbx_gt.txt`, five points beside it merged) and COCO (`*.json`). A path that begins with
    `partial:` names a set whose pictures may hold unlabelled faces (LFW with one labelled face
    a picture, say): each sample gets one ignored box over its whole image, so that the others
    are never taken for background. `options` go to the layout's own reader.

    Raises:
        DataError: where no layout fits, or a label is not as its format demands.
    """
    place = str(root)
    if place.startswith("partial:"):
        whole = read(place.removeprefix("partial:"), missing=missing, **options)
        return [partial(sample) for sample in whole]
    path = Path(place)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_dir():
        labels = sorted(path.glob("*bbx_gt.txt")) or sorted(path.glob("*.json"))
        if len(labels) != 1:
            names = ", ".join(label.name for label in labels) or "none"
            raise DataError(
                f"{path}: wanted one label file (*bbx_gt.txt or *.json), found {names}; "
                "pass the file itself"
            )
        path = labels[0]
    if path.suffix == ".json":
        return coco.read(path, missing=missing, **options)
    return wider.read(path, missing=missing, **options)
