"""Passes take faces of their size alone, the small pass of `everyday` too, and fragments may go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from reference.seeing_runtimes import Blind, Seeing

from facefind.detector import FaceDetector
from facefind.protocols import Pass, TestProtocol
from facefind.runtimes import Candidates


def test_only_faces_of_the_asked_size_are_taken_from_a_pass() -> None:
    image = np.zeros((256, 256, 3), np.uint8)
    image[10:30, 10:20] = image[100:200, 100:130] = 255
    for step, found in (
        (Pass(), 2),
        (Pass(min_size=20), 1),
        (Pass(min_size=19.5), 2),
        (Pass(min_size=100), 0),
        (Pass(max_size=30), 1),
        (Pass(max_size=30.5), 2),
        (Pass(min_size=20, max_size=30), 0),
    ):
        rules = TestProtocol(name="p", sizes=(step,))
        assert len(FaceDetector(Seeing(), protocol=rules).detect(image)) == found, step
    rules = TestProtocol(name="p", sizes=(Pass(min_size=20),), plus_one=True)
    assert len(FaceDetector(Seeing(), protocol=rules).detect(image)) == 2


@pytest.mark.parametrize(("image_size", "limit"), [((256, 256), 128), ((512, 384), 256)])
def test_a_limit_may_be_in_pixels_of_what_the_model_sees(
    image_size: tuple[int, int], limit: int
) -> None:
    """Of an image shrunk to 64, faces of more than 32 pixels: half of the image's long side."""
    rules = TestProtocol(name="p", sizes=(Pass(size=64, min_input_size=32),))
    for side, found in ((limit - 16, 0), (limit + 16, 1)):
        image = np.zeros((*image_size, 3), np.uint8)
        image[16 : 16 + side, 16:80] = 255
        assert len(FaceDetector(Seeing(), protocol=rules).detect(image)) == found
    both = replace(rules, sizes=(Pass(size=64, min_input_size=32, min_size=300),))
    assert [r.views(image_size)[0].min_size for r in (rules, both)] == [limit, 300]


def test_the_small_pass_of_every_day_adds_large_faces_once_and_no_small_ones() -> None:
    class Fragile(Seeing):
        """Sees patches of up to 300 pixels."""

        def __call__(self, images: NDArray[np.uint8]) -> Candidates:
            found = super().__call__(images)
            found.scores[(found.boxes[..., 2:] - found.boxes[..., :2]).max(-1) > 300] = 0
            return found

    image = np.zeros((640, 480, 3), np.uint8)
    image[40:480, 40:440] = 255  # the small pass alone
    image[500:520, 30:50] = 255  # the large pass; too small for the other
    runtime = Fragile()
    faces = FaceDetector(runtime, protocol="everyday", min_score=0.5).detect(image)
    assert [shape[2:] for shape in runtime.shapes] == [(640, 480), (160, 160)]
    np.testing.assert_allclose(
        sorted(faces.boxes.tolist()), [[30, 500, 50, 520], [40, 40, 440, 480]], atol=0.1
    )
    image[480:, :] = image[:, 290:] = 0  # 250 x 440: both see 250 x 290
    image[330:480] = 0
    faces = FaceDetector(runtime, protocol="everyday", min_score=0.5).detect(image)
    np.testing.assert_allclose(faces.boxes, [[40, 40, 290, 330]], atol=4)


def test_a_square_pass_comes_to_one_shape_and_finds_the_same() -> None:
    for multiple, side in ((32, 160), (64, 192)):
        runtime = Seeing(size_multiple=multiple)
        for image_size in ((300, 200), (40, 160), (160, 160)):
            image = np.zeros((*image_size, 3), np.uint8)
            image[10:38, 20:50] = 255
            found = [
                FaceDetector(runtime, protocol=TestProtocol(name="p", sizes=(step,))).detect(image)
                for step in (Pass(size=160, square=True), Pass(size=160))
            ]
            assert found[0] == found[1]
        assert {shape[2:] for shape in runtime.shapes[::2]} == {(side, side)}
    shifted = TestProtocol(name="p", sizes=(Pass(size=160, square=True),), shifts=((0, 7),))
    view = shifted.views((160, 160))[0]
    assert view.render(np.zeros((160, 160, 3), np.uint8), None, 32)[0].shape == (192, 192, 3)


@pytest.mark.parametrize("voting", [None, 0.4])
def test_a_whole_face_suppresses_its_fragments_where_the_protocol_says_so(voting: Any) -> None:
    class Three(Blind):
        def __call__(self, images: NDArray[np.uint8]) -> Candidates:
            boxes = np.array([[[0, 0, 60, 60], [10, 10, 30, 20], [50, 0, 70, 20]]], np.float32)
            return Candidates(boxes, np.array([[0.9, 0.8, 0.7]], np.float32))

    image = np.zeros((64, 96, 3), np.uint8)
    rules = TestProtocol(name="p", sizes=(None,), voting=voting)
    for containment, found in ((None, 3), (0.8, 2), (0.4, 1)):
        protocol = replace(rules, containment=containment)
        assert len(FaceDetector(Three(), protocol=protocol).detect(image)) == found
    assert len(FaceDetector(Three(), protocol=replace(protocol, containment=0.8, max_faces=1))
               .detect(image)) == 1  # fmt: skip
