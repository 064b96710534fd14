"""What labels lose on their way into another layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facefind.datasets import yolo
from facefind.datasets.files import key
from facefind.datasets.sample import Sample
from facefind.datasets.selection import read_labels
from facefind.outputs import output_path

__all__ = ["contents", "losses", "read_written"]


def contents(samples: Sequence[Sample]) -> dict[str, int]:
    """What is counted of labels: images, faces, ignored boxes, landmarks."""
    known = [np.asarray(np.isfinite(sample.landmarks).all(axis=2)) for sample in samples]
    return {
        "images": len(samples),
        "faces": sum(int((~sample.ignore).sum()) for sample in samples),
        "ignored boxes": sum(int(sample.ignore.sum()) for sample in samples),
        "faces with landmarks": sum(int(points.all(axis=1).sum()) for points in known),
        "landmarks": sum(int(points.sum()) for points in known),
    }


def losses(before: Sequence[Sample], after: Sequence[Sample]) -> dict[str, int | float | list[str]]:
    """What the labels `after` no longer hold of those `before`, by name; empty where all is there.

    Beside the counts of `contents` these are `attributes`, a list of names, and `pixels`, by which
    the corner of a box moved at most (layouts of whole pixels round), where it is over 0.01.
    """
    had, has = contents(before), contents(after)
    gone: dict[str, int | float | list[str]] = {
        name: number - has[name] for name, number in had.items() if number > has[name]
    }
    if names := sorted(_attributes(before) - _attributes(after)):
        gone["attributes"] = names
    boxes = {key(sample.name): sample.boxes[~sample.ignore] for sample in after}
    moved = 0.0
    for sample in before:
        name = key(output_path(sample.name).as_posix())
        ours, theirs = sample.boxes[~sample.ignore], boxes.get(name)
        if theirs is not None and len(ours) and ours.shape == theirs.shape:
            moved = max(moved, float(np.abs(ours - theirs).max()))
    if moved > 0.01:
        gone["pixels"] = round(moved, 3)
    return gone


def read_written(samples: Sequence[Sample], place: Path, layout: str) -> list[Sample]:
    """The labels that `write` wrote of the samples in a layout, read again from where it says.

    YOLO's labels mean nothing without the size of a picture, and may lie there without pictures:
    the samples' own give it.

    Raises:
        DataError: if they cannot be read.
    """
    if layout != "yolo":
        return read_labels(place if place.is_file() else place.parent, layout=layout)
    names = (output_path(sample.name).as_posix() for sample in samples)
    written = (
        yolo.read_picture(name, sample.path, place / f"{key(name)}.txt")
        for name, sample in zip(names, samples, strict=True)
    )
    return [sample for sample in written if sample is not None]


def _attributes(samples: Sequence[Sample]) -> set[str]:
    return {name for sample in samples for name in sample.attributes}
