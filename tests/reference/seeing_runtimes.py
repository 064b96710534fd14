"""Runtimes that need no model: what they find follows from their canvas by a plain rule."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from facefind.runtimes import Candidates, Card


def heaps(height: int, width: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Boxes in heaps and their scores, which depend on the canvas alone."""
    rng = np.random.default_rng(height * 100_003 + width)
    center = rng.uniform(0, 1, (12, 2))[rng.integers(0, 12, 60)] * (width, height)
    half = np.exp(rng.normal(3, 1, (60, 1))) * (0.5, 0.6)
    center += rng.normal(0, 0.1, (60, 2)) * half
    boxes = np.concatenate([center - half, center + half], 1).astype(np.float32)
    return boxes, rng.uniform(0, 1, 60).astype(np.float32)


class Blind:
    """A runtime that finds the heaps of its canvas, whatever is on it."""

    name, precision, threads, provider = "blind", "fp32", 1, "none"

    def __init__(self, **card: Any) -> None:
        self.card = Card(name="blind", system="test", **card)
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, images: NDArray[np.uint8]) -> Candidates:
        self.shapes.append(images.shape)
        boxes, scores = heaps(*images.shape[2:])
        n = len(images)
        return Candidates(np.tile(boxes, (n, 1, 1)), np.tile(scores, (n, 1)))


class Seeing(Blind):
    """A runtime that finds each white patch that it is shown, and where, exactly."""

    def __call__(self, images: NDArray[np.uint8]) -> Candidates:
        from scipy import ndimage

        self.shapes.append(images.shape)
        found = []
        for image in images:
            labels, _ = ndimage.label(image[0] > 128)
            found.append(
                [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labels)]
            )
        most = max(map(len, found))
        boxes = np.zeros((len(images), most, 4), np.float32)
        scores = np.zeros((len(images), most), np.float32)
        for row, some in enumerate(found):
            boxes[row, : len(some)] = np.array(some, np.float32).reshape(-1, 4)
            scores[row, : len(some)] = 0.9
        return Candidates(boxes, scores)
