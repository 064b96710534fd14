"""Faces are the same in mirrored and turned images, and with Pillow in place of OpenCV."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facefind import images, protocols
from facefind.detector import FaceDetector
from facefind.faces import Faces
from facefind.images import letterboxing, resizing
from facefind.landmarks import FLIP_ORDER
from facefind.protocols import TestProtocol, View

sys.path.insert(0, str(Path(__file__).resolve().parent / "reference"))
import block_model

SIZES = (511, 333)


def mirrored(faces: Faces) -> Faces:
    """The faces of the mirrored image, from those of the image."""
    width = faces.image_size[1]
    boxes, points = faces.boxes.copy(), None
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    if faces.landmarks is not None:
        points = faces.landmarks[:, FLIP_ORDER].copy()
        points[..., 0] = width - points[..., 0]
    return Faces(boxes, faces.scores, points, image_size=faces.image_size)


def gaps(found: Faces, other: Faces) -> tuple[float, float]:
    """The largest gap of boxes and points, in sides of the face, and that of scores."""
    assert len(found) == len(other) > 0
    far = score = 0.0
    for number, box in enumerate(found.boxes):
        near = int(np.abs(other.boxes - box).max(axis=1).argmin())
        side = float((box[2:] - box[:2]).max())
        assert found.landmarks is not None
        assert other.landmarks is not None
        points = np.abs(found.landmarks[number] - other.landmarks[near]).max()
        far = max(far, float(points) / side, float(np.abs(other.boxes[near] - box).max()) / side)
        score = max(score, abs(float(found.scores[number] - other.scores[near])))
    return far, score


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector(runtime="onnxruntime", threads=1)


@pytest.fixture(scope="module")
def pictures() -> list[NDArray[np.uint8]]:
    """A portrait in the public domain, and in sizes that are no multiples of anything."""
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    portrait = data.astronaut()
    return [portrait, *(images.resize(portrait, (side, side)) for side in SIZES)]


def without_opencv(detector: FaceDetector, image: NDArray[np.uint8]) -> Faces:
    with pytest.MonkeyPatch.context() as patch:
        for room in (resizing, letterboxing):
            patch.setattr(room, "opencv", lambda: None)
        return detector.detect(image)


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> FaceDetector:
    """A detector of white cells, which knows no left and right."""
    path = block_model.write(tmp_path_factory.mktemp("models") / "blocks.onnx")
    rules = TestProtocol(name="as-is", sizes=(None,), min_score=0.9)
    return FaceDetector(path, threads=1, protocol=rules)


@given(rows=st.integers(1, 4), columns=st.integers(1, 4), bits=st.integers(0, 2**16 - 1))
@settings(max_examples=20)
def test_a_model_that_has_no_sides_finds_exactly_the_mirrored_faces(
    blocks: FaceDetector, rows: int, columns: int, bits: int
) -> None:
    white = np.array([bits >> place & 1 for place in range(rows * columns)], np.uint8)
    cells = white.reshape(rows, columns).repeat(32, 0).repeat(32, 1) * np.uint8(255)
    image = np.repeat(cells[..., None], 3, 2)
    ours, theirs = (blocks.detect(x) for x in (image, np.ascontiguousarray(image[:, ::-1])))
    assert len(ours) == white.sum()
    expected = {tuple(box) for box in mirrored(ours).boxes.round(3).tolist()}
    assert {tuple(box) for box in theirs.boxes.round(3).tolist()} == expected


def test_a_mirrored_portrait_has_the_mirrored_face(
    detector: FaceDetector, pictures: list[NDArray[np.uint8]]
) -> None:
    for picture in pictures:
        there = detector.detect(np.ascontiguousarray(picture[:, ::-1]))
        far, score = gaps(detector.detect(picture), mirrored(there))
        assert far < 0.1
        assert score < 0.1


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_portrait_has_the_turned_face(
    detector: FaceDetector, pictures: list[NDArray[np.uint8]], turns: int
) -> None:
    picture = pictures[0]
    rules = replace(protocols.get("320:turned"), min_score=0.6)
    any_way = FaceDetector(detector.runtime, protocol=rules)
    lying = any_way.detect(np.ascontiguousarray(np.rot90(picture, turns)))
    upright = any_way.detect(picture)
    assert len(lying) == len(upright) == 1
    view = View((512, 512), turns=turns)
    np.testing.assert_allclose(
        view.restored(lying.landmarks[0], (512, 512)), upright.landmarks[0], atol=1
    )
    # Eyes and mouth corners keep their sides as in the upright face, so that crops are upright.
    one, other = lying.align(np.rot90(picture, turns)), upright.align(picture)
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.95


def test_faces_are_the_same_without_opencv(
    detector: FaceDetector, pictures: list[NDArray[np.uint8]]
) -> None:
    for picture in pictures:
        far, score = gaps(detector.detect(picture), without_opencv(detector, picture))
        assert far < 0.02
        assert score < 0.01


def test_a_group_is_the_same_mirrored_and_without_opencv(
    detector: FaceDetector, shared: Path
) -> None:
    group = images.read(shared / "weights" / "t1.jpg")
    picture = images.resize(group, images.fit((group.shape[0], group.shape[1]), 701))
    faces = detector.detect(picture)
    assert len(faces) == 6
    far, score = gaps(faces, mirrored(detector.detect(np.ascontiguousarray(picture[:, ::-1]))))
    assert far < 0.1
    assert score < 0.1
    far, score = gaps(faces, without_opencv(detector, picture))
    assert far < 0.02
    assert score < 0.01
