"""What training crops teach: faces and positive anchors by scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facefind.plots.figure import new_figure, save

__all__ = ["draw_counts", "draw_matching"]


def draw_counts(
    path: str | Path,
    face_scales: Sequence[str],
    faces: Mapping[str, Sequence[int]],
    anchors: Mapping[str, Mapping[int, int]],
) -> Path:
    """Write counts of one epoch by scale, a bar a name, to an image file; return its path.

    Args:
        path: image file to write.
        face_scales: the bins of faces, in words.
        faces: name -> ground-truth faces in each bin.
        anchors: name -> side of an anchor in pixels -> positive anchors.

    Source: SCRFD, fig. 4.
    """
    figure = new_figure(12, 4)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _bars(left, list(face_scales), faces)
    left.set(title="ground-truth faces", xlabel="longer side, pixels of the network's input")
    sides = list(dict.fromkeys(side for counts in anchors.values() for side in counts))
    rows = {name: [counts.get(side, 0) for side in sides] for name, counts in anchors.items()}
    _bars(right, [str(side) for side in sides], rows)
    right.set(title="positive anchors", xlabel="side of the anchor, pixels")
    return save(figure, path)


def draw_matching(
    path: str | Path,
    face_scales: Sequence[str],
    matched: Mapping[str, Sequence[float]],
    fine_scales: Sequence[float],
    scales: Mapping[str, Sequence[int]],
) -> Path:
    """Write how near faces are to anchors, and anchors a face, to an image file; return its path.

    Args:
        path: image file to write.
        face_scales: the bins of faces, in words.
        matched: name -> anchors a face, in each bin; NaN where there is no face.
        fine_scales: scales of faces in pixels.
        scales: name -> faces nearest to each of them.

    Source: DSFD, fig. 4 and 5.
    """
    figure = new_figure(12, 4)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for name, counts in scales.items():
        left.step(fine_scales, counts, where="mid", label=name)
    left.set_xscale("log", base=2)
    left.xaxis.set_major_formatter("{x:g}")
    left.set(title="ground-truth faces", xlabel="root of the area, pixels of the network's input")
    left.set(ylabel="in one epoch")
    for name, means in matched.items():
        right.plot(np.arange(len(face_scales)), means, marker="o", label=name)
    right.set_xticks(np.arange(len(face_scales)), face_scales, fontsize="x-small")
    right.set(title="anchors a face", xlabel="longer side, pixels of the network's input")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return save(figure, path)


def _bars(axes: Any, labels: Sequence[str], rows: Mapping[str, Sequence[int]]) -> None:
    width = 0.8 / len(rows)
    for number, (name, values) in enumerate(rows.items()):
        shift = (number - (len(rows) - 1) / 2) * width
        axes.bar(np.arange(len(labels)) + shift, values, width, label=name)
    axes.set_xticks(np.arange(len(labels)), labels, fontsize="small")
    axes.set(ylabel="in one epoch")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize="small")
