from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from facefind.detector import FaceDetector
from facefind.errors import ProtocolError, WeightsError
from facefind.images import read
from facefind.protocols import TestProtocol
from facefind.runtimes import open_model
from facefind.runtimes.adapters import RetinaFaceReader, ScrfdReader

FILES = [
    "scrfd_500m.onnx",
    "scrfd_2.5g.onnx",
    "scrfd_500m_kps_640.onnx",
    "scrfd_2.5g_kps_640.onnx",
]
GOLDEN_RULES = TestProtocol(name="golden", sizes=(640,), min_score=0.5, nms_iou=0.4)


def square(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image on a black square, as the golden results were made: networks with group
    normalization give other scores where the canvas has another shape."""
    side = max(image.shape)
    canvas = np.zeros((side, side, 3), np.uint8)
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("file", FILES)
def test_published_files_give_their_golden_faces(shared: Path, file: str, runtime: Any) -> None:
    golden = json.loads((shared / "weights/golden_t1.json").read_text())["files"][file]
    rows = np.array(golden["det"])
    detector = FaceDetector(shared / "weights" / file, runtime=runtime, protocol=GOLDEN_RULES)
    faces = detector.detect(square(read(shared / "weights/t1.jpg")))
    assert np.abs(faces.scores - rows[:, 4]).max() < 0.01
    assert np.abs(faces.boxes - rows[:, :4]).max() < 1
    assert (faces.landmarks is None) == (golden["kps"] is None)
    if faces.landmarks is not None:
        assert np.abs(faces.landmarks - np.array(golden["kps"])).max() < 1


@pytest.mark.parametrize("file", FILES[1::2])
def test_several_images_of_a_published_file_go_one_by_one(shared: Path, file: str) -> None:
    model = open_model(shared / "weights" / file, "onnxruntime")
    side = model.card.fixed_size or (64, 96)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, *side), dtype=np.uint8)
    both = model(images)
    for row in range(2):
        alone = model(images[row : row + 1])
        assert np.array_equal(both.scores[row], alone.scores[0])
        assert np.array_equal(both.boxes[row], alone.boxes[0])


def test_a_published_file_of_one_size_shows_it_and_refuses_larger_passes(shared: Path) -> None:
    path = shared / "weights/scrfd_500m_kps_640.onnx"
    model = open_model(path, "onnxruntime")
    assert model.card.fixed_size == (640, 640)
    assert model.card.landmarks
    with pytest.raises(ProtocolError, match="640 high"):
        FaceDetector(path, runtime="onnxruntime", protocol="1024")
    with pytest.raises(ProtocolError, match="full size"):
        FaceDetector(path, runtime="onnxruntime", protocol="original")
    single = FaceDetector(path, runtime="onnxruntime")
    assert single.protocol.name == "640"
    both = FaceDetector(path, runtime="onnxruntime", protocol="everyday")
    assert both.protocol.name == "everyday"
    for detector in (single, both):
        assert len(detector.detect(shared / "weights/t1.jpg")) == 6
    assert open_model(shared / "weights/scrfd_500m.onnx").card.protocol == "everyday"


def naive(
    outputs: list[NDArray[np.float32]], size: tuple[int, int], anchors: int, levels: int
) -> tuple[list[float], list[list[float]]]:
    """Scores and boxes of SCRFD outputs (score per level, then distances), anchor by anchor."""
    scores, boxes = [], []
    for level in range(levels):
        stride = 8 * 2**level
        row = 0
        for y in range(size[0] // stride):
            for x in range(size[1] // stride):
                for _ in range(anchors):
                    left, top, right, bottom = outputs[levels + level].reshape(-1, 4)[row] * stride
                    scores.append(float(outputs[level].reshape(-1)[row]))
                    cx, cy = x * stride, y * stride
                    boxes.append([cx - left, cy - top, cx + right, cy + bottom])
                    row += 1
    return scores, boxes


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(("levels", "anchors"), [(3, 2), (5, 1)])
@pytest.mark.parametrize("points", [True, False])
def test_all_layouts_are_recognized_and_decoded(
    levels: int, anchors: int, batched: bool, points: bool
) -> None:
    size = (256, 128)
    draw = np.random.default_rng(levels)
    counts = [anchors * (size[0] >> (3 + i)) * (size[1] >> (3 + i)) for i in range(levels)]
    outputs = [
        draw.random(((1, n, kind) if batched else (n, kind)), np.float32)
        for kind in (1, 4, 10)[: 3 if points else 2]
        for n in counts
    ]
    reader = ScrfdReader.match("x", outputs, size, None)
    assert reader is not None
    assert reader.card.strides == (8, 16, 32, 64, 128)[:levels]
    assert reader.card.size_multiple == reader.card.strides[-1]
    assert reader.card.landmarks is points
    found = reader.decode(outputs, size)
    scores, boxes = naive(outputs, size, anchors, levels)
    assert np.allclose(found.scores[0], scores)
    assert np.allclose(found.boxes[0], boxes, atol=1e-4)
    if points:
        assert found.landmarks is not None
        offsets = outputs[2 * levels].reshape(-1, 5, 2)[3 * anchors]  # fourth cell of row one
        assert np.allclose(found.landmarks[0, 3 * anchors], offsets * 8 + (24, 0), atol=1e-4)


@pytest.mark.parametrize(
    "shapes",
    [
        [(1, 10, 4), (1, 10, 2)],
        [(8, 1)] * 3 + [(8, 4)] * 3,
        [(2048, 1), (512, 1), (128, 1), (2048, 4), (512, 4)],
        [(2048, 1), (512, 1), (128, 1), (2048, 4), (512, 4), (128, 4), (2048, 10)],
        [(2048, 1), (512, 1), (99, 1), (2048, 4), (512, 4), (99, 4)],
        [()],
        [],
    ],
)
def test_other_outputs_are_not_taken_for_scrfd(shapes: list[tuple[int, ...]]) -> None:
    outputs = [np.zeros(shape, np.float32) for shape in shapes]
    assert ScrfdReader.match("x", outputs, (256, 256), None) is None


def unknown(path: Path, dtype: int, dims: list[Any]) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", dtype, dims)],
        [helper.make_tensor_value_info("y", dtype, dims)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("dtype", "dims"),
    [
        (TensorProto.FLOAT, [1, 3, "h", "w"]),
        (TensorProto.FLOAT, [1, 10]),
        (TensorProto.UINT8, [1, 3, 64, 64]),
    ],
)
def test_a_file_of_no_known_kind_is_refused_with_what_it_has(
    tmp_path: Path, dtype: int, dims: list[Any], runtime: Any
) -> None:
    path = unknown(tmp_path / "odd.onnx", dtype, dims)
    with pytest.raises(WeightsError, match=r"odd is neither.*inputs.*outputs.*known are"):
        open_model(path, runtime)


def test_scrfd_input_is_scaled_as_in_training() -> None:
    outputs = [np.zeros((n, k), np.float32) for k in (1, 4) for n in (2048, 512, 128)]
    reader = ScrfdReader.match("x", outputs, (256, 256), None)
    assert reader is not None
    images = np.array([0, 127, 128, 255], np.uint8).reshape(1, 1, 2, 2).repeat(3, axis=1)
    x = reader.prepare(images)
    assert x.dtype == np.float32
    assert np.allclose(x[0, 0].ravel() * 128, [-127.5, -0.5, 0.5, 127.5])


def test_readers_are_shared_by_threads_over_images_of_many_sizes() -> None:
    """What is cached for one size never reaches an image of another that is decoded meanwhile."""
    sizes = [(32 * (1 + i % 5), 32 * (1 + i % 7)) for i in range(400)]

    def outputs(size: tuple[int, int]) -> list[NDArray[np.float32]]:
        rows = 2 * sum((size[0] // s) * (size[1] // s) for s in (8, 16, 32))
        scores = np.tile(np.array([0.25, 0.75], np.float32), (1, rows, 1))
        return [np.zeros((1, rows, 4), np.float32), scores]

    reader = RetinaFaceReader.match("x", outputs((64, 64)), (64, 64), None)
    assert reader is not None
    alone = {size: reader.decode(outputs(size), size).boxes for size in set(sizes)}
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda size: reader.decode(outputs(size), size).boxes, sizes))
    for size, boxes in zip(sizes, found, strict=True):
        assert np.array_equal(boxes, alone[size])
