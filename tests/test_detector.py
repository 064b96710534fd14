from __future__ import annotations

import gc
import io
import logging
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import facefind
from facefind import weights
from facefind.detector import FaceDetector
from facefind.errors import ImageError, ProtocolError
from facefind.faces import Faces
from facefind.protocols import TestProtocol
from facefind.runtimes import Candidates, Card

sys.path.insert(0, str(Path(__file__).resolve().parent / "reference"))
import block_model

AS_IS = TestProtocol(name="as-is", sizes=(None,), min_score=0.9)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return block_model.write(tmp_path_factory.mktemp("models") / "blocks.onnx")


@pytest.fixture(scope="module")
def detector(path: Path) -> FaceDetector:
    return FaceDetector(path, runtime="onnxruntime", threads=1, protocol=AS_IS)


def box_of(row: int, column: int) -> list[int]:
    return [column * 32, row * 32, column * 32 + 32, row * 32 + 32]


class Scripted:
    """A runtime that finds what it was said, wherever it looks, and notes what it was shown."""

    name, precision, threads, provider = "scripted", "fp32", 1, "none"

    def __init__(self, *found: tuple[list[float], float], **card: Any) -> None:
        self.card = Card(name="scripted", system="test", **card)
        self.boxes = np.array([box for box, _ in found], np.float32).reshape(-1, 4)
        self.scores = np.array([score for _, score in found], np.float32)
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, images: NDArray[np.uint8]) -> Candidates:
        self.shapes.append(images.shape)
        n = len(images)
        return Candidates(np.tile(self.boxes, (n, 1, 1)), np.tile(self.scores, (n, 1)))


def test_faces_are_found_where_they_are_in_pixels_of_the_image(detector: FaceDetector) -> None:
    faces = detector.detect(block_model.picture(96, 160, (1, 3)))
    assert faces.boxes.tolist() == [box_of(1, 3)]
    assert faces.scores == pytest.approx(1)
    assert faces.landmarks is not None
    assert np.allclose(faces.landmarks[0], block_model.POINTS + np.array([96, 32]))
    assert faces.image_size == (96, 160)


def test_an_image_that_must_grow_gives_boxes_in_its_own_pixels(path: Path) -> None:
    detector = FaceDetector(path, protocol="640", min_score=0.95)
    small = block_model.picture(480, 640, (2, 3), (7, 9))[::2, ::2]
    faces = detector.detect(small)
    boxes = sorted(faces.boxes.tolist())
    assert np.allclose(boxes, [[48, 32, 64, 48], [144, 112, 160, 128]], atol=0.01)


def test_nothing_found_is_an_empty_faces(detector: FaceDetector) -> None:
    faces = detector.detect(np.zeros((50, 70, 3), np.uint8))
    assert len(faces) == 0
    assert faces.landmarks is not None
    assert faces.image_size == (50, 70)


def test_padding_is_never_reported(path: Path) -> None:
    detector = FaceDetector(path, protocol=AS_IS, min_score=0.1)
    faces = detector.detect(np.zeros((33, 32, 3), np.uint8))  # the second cell is nearly all gray
    assert faces.boxes.tolist() == [[0, 32, 32, 33]]  # cut at the image
    faces = detector.detect(np.zeros((32, 32, 3), np.uint8))
    assert len(faces) == 0


def test_all_that_can_be_read_is_taken(detector: FaceDetector, tmp_path: Path) -> None:
    image = block_model.picture(64, 96, (1, 1))
    file = tmp_path / "a.png"
    Image.fromarray(image).save(file)
    sources = [image, file, str(file), file.read_bytes(), io.BytesIO(file.read_bytes())]
    for faces in detector.detect([*sources, Image.fromarray(image)]):
        assert faces.boxes.tolist() == [box_of(1, 1)]
    assert detector(image) == detector.detect(image)


def test_colors_reach_the_model_as_red_green_blue() -> None:
    seen: list[NDArray[np.uint8]] = []

    class Watching(Scripted):
        def __call__(self, images: NDArray[np.uint8]) -> Candidates:
            seen.append(images)
            return super().__call__(images)

    FaceDetector(Watching(), protocol="full").detect(np.full((32, 64, 3), (200, 100, 50), np.uint8))
    assert [int(seen[0][0, c].min()) for c in range(3)] == [200, 100, 50]
    assert [int(seen[0][0, c].max()) for c in range(3)] == [200, 100, 50]


cell = st.tuples(st.integers(0, 3), st.integers(0, 3))
pictures = st.builds(
    lambda h, w, cells: block_model.picture(h, w, *cells),
    st.integers(1, 130),
    st.integers(1, 130),
    st.lists(cell, max_size=3),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(pictures, max_size=9), st.integers(1, 4))
def test_a_list_gives_what_its_images_give_one_by_one(
    path: Path, many: list[NDArray[np.uint8]], batch_size: int
) -> None:
    detector = FaceDetector(
        path, runtime="onnxruntime", threads=1, protocol=AS_IS, batch_size=batch_size
    )
    assert detector.detect(many) == [detector.detect(image) for image in many]
    assert detector.detect(tuple(many)) == [result.faces for result in detector.stream(iter(many))]


def test_images_of_one_size_share_a_batch_and_batches_are_bounded() -> None:
    runtime = Scripted(([0, 0, 20, 20], 0.9))
    detector = FaceDetector(runtime, protocol="full", batch_size=3)
    many = [np.zeros((32, 32 + 32 * (i % 2), 3), np.uint8) for i in range(8)]
    assert len(detector.detect(many)) == 8
    assert sorted(shape[0] for shape in runtime.shapes) == [1, 1, 3, 3]
    runtime.shapes.clear()
    huge = [np.zeros((3000, 3000, 3), np.uint8)] * 2
    assert len(detector.detect(huge)) == 2
    assert [shape[0] for shape in runtime.shapes] == [1, 1]


def test_a_long_source_is_read_only_as_far_as_needed() -> None:
    taken = []

    def source() -> Any:
        for number in range(10**9):
            taken.append(number)
            yield np.zeros((32, 32, 3), np.uint8)

    detector = FaceDetector(Scripted(), protocol="full", batch_size=2)
    assert isinstance(next(detector.stream(source(), readers=0)).faces, Faces)
    assert len(taken) <= 4 * 2  # a group
    taken.clear()
    assert isinstance(next(detector.stream(source())).faces, Faces)
    assert len(taken) <= 2 * 4 * 2  # and the next one, read ahead


def test_images_go_one_by_one_on_a_cpu_and_together_elsewhere(detector: FaceDetector) -> None:
    assert detector.batch_size == 1
    assert FaceDetector(Scripted()).batch_size == 8


def test_a_bad_image_in_a_list_is_named_by_its_index(detector: FaceDetector) -> None:
    good = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(ImageError, match="image 2 of the list"):
        detector.detect([good, good, b"no image", good])
    with pytest.raises(ImageError):
        detector.detect("no/such/file.jpg")


def test_lesser_boxes_over_the_same_face_go() -> None:
    runtime = Scripted(([0, 0, 20, 20], 0.7), ([1, 0, 21, 20], 0.9), ([40, 0, 60, 20], 0.6))
    faces = FaceDetector(runtime, protocol="full").detect(np.zeros((32, 64, 3), np.uint8))
    assert faces.boxes.tolist() == [[1, 0, 21, 20], [40, 0, 60, 20]]


def test_boxes_vote_where_the_protocol_says_so() -> None:
    runtime = Scripted(([0, 0, 20, 20], 0.6), ([3, 0, 23, 20], 0.6))
    rules = TestProtocol(name="vote", sizes=(None,), voting=0.4)
    faces = FaceDetector(runtime, protocol=rules).detect(np.zeros((32, 64, 3), np.uint8))
    assert np.allclose(faces.boxes, [[1.5, 0, 21.5, 20]])


def test_caps_keep_the_best() -> None:
    found = [([40.0 * i, 0, 40.0 * i + 20, 20], 0.5 + i / 100) for i in range(10)]
    image = np.zeros((32, 640, 3), np.uint8)
    for cap in ({"max_candidates": 3}, {"max_faces": 3}):
        rules = TestProtocol(name="cap", sizes=(None,), **cap)
        faces = FaceDetector(Scripted(*found), protocol=rules).detect(image)
        assert np.allclose(faces.scores, [0.59, 0.58, 0.57])


def test_the_mirrored_pass_finds_the_same_faces(path: Path) -> None:
    image = block_model.picture(64, 128, (1, 0))
    plain = FaceDetector(path, protocol=AS_IS)
    rules = TestProtocol(name="flip", sizes=(None,), min_score=0.9, flip=True, voting=0.5)
    both = FaceDetector(path, protocol=rules).detect(image)
    assert both.boxes.tolist() == plain.detect(image).boxes.tolist() == [box_of(1, 0)]
    # The model's points are symmetric within a cell, so that eyes and mouth corners must be
    # swapped on the way back for the two passes to agree.
    assert both.landmarks is not None
    assert np.allclose(both.landmarks[0], block_model.POINTS + np.array([0, 32]), atol=1e-3)


def test_several_sizes_are_merged_into_one_answer() -> None:
    runtime = Scripted(([0, 0, 64, 64], 0.9))
    rules = TestProtocol(name="two", sizes=(128, 64))
    faces = FaceDetector(runtime, protocol=rules).detect(np.zeros((128, 128, 3), np.uint8))
    assert [shape[2:] for shape in runtime.shapes] == [(128, 128), (64, 64)]
    assert sorted(faces.boxes.tolist()) == [[0, 0, 64, 64], [0, 0, 128, 128]]


def test_only_the_size_multiple_is_padded() -> None:
    runtime = Scripted(size_multiple=64)
    FaceDetector(runtime, protocol="full").detect(np.zeros((65, 300, 3), np.uint8))
    assert runtime.shapes == [(1, 3, 128, 320)]


def test_a_model_of_one_size_is_given_that_size() -> None:
    runtime = Scripted(([0, 0, 64, 64], 0.9), fixed_size=(128, 256))
    faces = FaceDetector(runtime, protocol="128").detect(np.zeros((256, 128, 3), np.uint8))
    assert runtime.shapes == [(1, 3, 128, 256)]
    assert faces.boxes.tolist() == [[0, 0, 128, 128]]


def test_too_large_an_image_is_tiled_and_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rules = TestProtocol(name="small", sizes=(None,), min_score=0.9, max_pixels=96 * 96)
    detector = FaceDetector(path, runtime="onnxruntime", protocol=rules)
    with caplog.at_level(logging.WARNING):
        detector.detect(np.zeros((128, 128, 3), np.uint8))
        detector.detect(np.zeros((128, 128, 3), np.uint8))
    assert caplog.text.count("an image of 128x128") == 1
    assert rules.target((128, 128), None) == (96, 96)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 0.3),
        ({"protocol": "640"}, 0.3),
        ({"protocol": "vga"}, 0.02),
        ({"protocol": "vga", "min_score": 0.6}, 0.6),
        ({"min_score": 0.0}, 0.0),
    ],
)
def test_the_threshold_is_the_callers_then_the_protocols_then_the_cards(
    options: Any, expected: float
) -> None:
    detector = FaceDetector(Scripted(protocol="vga", min_score=0.3), **options)
    assert detector.min_score == expected
    assert detector.protocol.name == options.get("protocol", "vga")


def test_options_that_cannot_be_are_named(path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size"):
        FaceDetector(path, batch_size=0)
    for name in ("batch_size", "max_faces", "threads"):
        with pytest.raises(TypeError, match=rf"{name} must be a whole number, got 1\.5"):
            FaceDetector(path, **{name: 1.5})
    with pytest.raises(TypeError, match=r"model must be a name, .* got NoneType"):
        FaceDetector(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="min_score"):
        FaceDetector(path, min_score=1.5)
    with pytest.raises(ProtocolError, match="no protocol"):
        FaceDetector(path, protocol="hd")


def test_a_network_is_taken_as_it_is() -> None:
    detector = FaceDetector(block_model.network(), protocol=AS_IS)
    assert detector.runtime.name == "torch"
    faces = detector.detect(block_model.picture(64, 64, (0, 1)))
    assert faces.boxes.tolist() == [box_of(0, 1)]


def test_all_that_made_the_result_is_shown(detector: FaceDetector) -> None:
    with pytest.raises(TypeError, match="make a FaceDetector in each process"):
        pickle.dumps(detector)
    for part in ("'blocks'", "'onnxruntime'", "threads=1", "'fp32'", "'as-is'", "min_score=0.9"):
        assert part in repr(detector)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_four_threads_find_what_one_finds(path: Path, runtime: Any) -> None:
    detector = FaceDetector(path, runtime=runtime, threads=1, protocol=AS_IS)
    many = [block_model.picture(64 + 32 * (i % 3), 96, (i % 2, i % 3), (1, 2)) for i in range(32)]
    expected = [detector.detect(image) for image in many]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector.detect, many)) == expected


def test_the_default_detector_is_made_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block_model.write(tmp_path / "blocks.onnx")
    weights.describe(tmp_path / "blocks.onnx", default=True)
    monkeypatch.setenv(weights.ENVIRONMENT, str(tmp_path))
    facefind.detector._default.cache_clear()
    image = block_model.picture(64, 64, (0, 1))
    faces = facefind.detect(image, protocol="full", min_score=0.9)
    assert faces.boxes.tolist() == [box_of(0, 1)]
    assert facefind.detector._default.cache_info().currsize == 0
    first, second = facefind.detect([image, image])
    assert first == second == facefind.detect(image)
    assert facefind.detector._default.cache_info().misses == 1
    facefind.detector._default.cache_clear()


def resident() -> float:
    """Memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_memory_stays_bounded_over_images_of_many_sizes(shared: Path, runtime: Any) -> None:
    file = shared / "weights/scrfd_500m.onnx"
    detector = FaceDetector(file, runtime=runtime, threads=1, protocol="full")
    draw = np.random.default_rng(0)

    def some(count: int) -> None:
        for height, width in draw.integers(32, 320, (count, 2)):
            detector.detect(np.zeros((height, width, 3), np.uint8))

    detector.detect(np.zeros((320, 320, 3), np.uint8))
    some(50)
    gc.collect()
    before = resident()
    some(100)
    gc.collect()
    assert resident() - before < 40
