"""DSFD's protocols of one pass; its pyramids are tested in test_pyramids.py."""

from __future__ import annotations

import numpy as np

from facefind.detector import FaceDetector
from facefind.faces import Faces
from facefind.runtimes import Candidates, Card


class Model:
    """Finds the same boxes, given in input pixels, in every image."""

    name, precision, threads, provider = "model", "fp32", 1, "none"
    card = Card(name="model", system="dsfd", strides=(4, 8, 16, 32, 64, 128))

    def __init__(self, boxes: np.ndarray, scores: np.ndarray) -> None:
        self.found = Candidates(boxes[None].astype(np.float32), scores[None].astype(np.float32))

    def __call__(self, images: np.ndarray) -> Candidates:
        return self.found


def detect(boxes: np.ndarray, scores: np.ndarray, protocol: str) -> Faces:
    image = np.zeros((960, 960, 3), np.uint8)
    return FaceDetector(Model(boxes, scores), protocol=protocol).detect(image)


def apart(count: int) -> np.ndarray:
    """Boxes of 6.3 x 8.6 pixels that do not touch."""
    place = np.arange(count)
    corner = np.stack([place % 80 * 12 + 0.4, place // 80 * 12 + 0.7], 1)
    return np.concatenate([corner, corner + np.array([6.3, 8.6])], 1)


def test_one_pass_keeps_750_of_the_best_5000_and_rounds_outward():
    scores = np.linspace(0.9, 0.011, 6000)
    found = detect(apart(6000), scores, "dsfd-single")
    assert len(found) == 750
    assert (found.scores == scores[:750].astype(np.float32)).all()
    # The first, at 0.4, 0.7: corners down, 6.3 x 8.6 up to 7 x 9.
    np.testing.assert_allclose(found.boxes[0], [0, 0, 7, 9], atol=1e-4)


def test_only_the_best_5000_suppress_and_are_suppressed():
    """Heaps of 40 boxes, one of which each leaves: of 5,000 boxes 125 heaps, of 500 12.5."""
    heaps = np.repeat(apart(200), 40, 0)
    scores = np.linspace(0.9, 0.05, len(heaps))
    assert len(detect(heaps, scores, "dsfd-single")) == 125
    assert len(detect(heaps, scores, "lightdsfd")) == 13


def test_scores_and_overlaps():
    boxes = np.array(
        [[10, 10, 30, 30], [10, 10, 30, 24], [10, 20, 30, 40], [60, 60, 80, 80]], float
    )
    scores = np.array([0.9, 0.8, 0.7, 0.0099])  # IoU 0.7 and 1/3 with the first, and too low
    assert detect(boxes, scores, "dsfd-single").scores.tolist() == [np.float32(0.9)]
    boxes[2] += [0, 1, 0, 1]  # IoU 0.29
    assert len(detect(boxes, scores, "dsfd-single")) == 2
    kept = detect(boxes, np.array([0.9, 0.04, 0.04, 0.06]), "lightdsfd")
    assert kept.scores.tolist() == [np.float32(0.9), np.float32(0.06)]
    assert len(detect(apart(900), np.full(900, 0.5), "lightdsfd")) == 500


def test_asfd_s_single_pass_keeps_as_many_and_does_not_round():
    scores = np.linspace(0.9, 0.011, 6000)
    found = detect(apart(6000), scores, "asfd-single")
    assert len(found) == 750
    np.testing.assert_allclose(found.boxes[0], [0.4, 0.7, 6.7, 9.3], atol=1e-4)
    heaps = np.repeat(apart(200), 40, 0)  # of 2,000 boxes 50 heaps
    assert len(detect(heaps, np.linspace(0.9, 0.06, len(heaps)), "dsfdv2")) == 50
