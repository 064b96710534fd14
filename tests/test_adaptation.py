"""Files with NMS in the graph, and of one input size, beside those that they are made of."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from facefind import FaceDetector, export, graph_edits, weights
from facefind.adaptation import adapt
from facefind.cli import main
from facefind.errors import ProtocolError, WeightsError
from facefind.nms import nms
from facefind.runtimes import Card, Suppression, open_model

sys.path.insert(0, str(Path(__file__).resolve().parent / "reference"))
import block_model

pytestmark = pytest.mark.slow

MODEL = "scrfd-500m-kps"
RUNTIMES = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def card() -> Card:
    found = Card.from_file(weights.find(MODEL))
    assert found is not None
    return replace(found, min_score=0.05)


@pytest.fixture(scope="module")
def kept(card: Card, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nms") / "kept.onnx"
    return adapt(weights.find(MODEL), path, with_nms=True, card=card)


@pytest.fixture(scope="module")
def picture() -> Any:
    data = pytest.importorskip("skimage.data", reason="scikit-image holds the face")
    face = data.astronaut()
    return np.concatenate([face, face[::2, ::2].repeat(2, 0).repeat(2, 1)], 1)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_nms_in_the_file_gives_the_same_faces(kept: Path, picture: Any, runtime: Any) -> None:
    detector = FaceDetector(kept, runtime=runtime, threads=1)
    plain = FaceDetector(
        MODEL, runtime=runtime, threads=1, precision="fp32", protocol="640", min_score=0.05
    )
    assert detector.protocol.name == "640"
    found, expected = detector.detect(picture), plain.detect(picture)
    assert len(found) == len(expected) >= 2
    assert np.abs(found.boxes - expected.boxes).max() < 0.01
    assert np.abs(found.scores - expected.scores).max() < 1e-5
    assert np.abs(found.landmarks - expected.landmarks).max() < 0.01


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_each_image_of_a_batch_has_nms_of_its_own(tmp_path: Path, runtime: Any) -> None:
    """Random boxes, of which many overlap, and one image without any that counts."""
    draw = np.random.default_rng(0)
    corners = draw.uniform(0, 60, (3, 300, 2))
    boxes = np.concatenate([corners, corners + draw.uniform(5, 40, (3, 300, 2))], 2)
    scores = draw.permuted(np.linspace(0.001, 0.999, 900)).reshape(3, 300)
    scores[1] *= 0.1
    file = tmp_path / "random.onnx"
    graph = onnx.load(str(constant(boxes, scores, file)))
    done = Suppression(min_score=0.2, iou=0.4, candidates=150)
    changed = graph_edits.add_nms(graph, done)
    own = Card(name="random", system="blocks", size_multiple=32, protocol="64", suppression=done)
    export.save(changed, file, own)
    got = open_model(file, runtime, threads=1)(np.zeros((3, 3, 32, 32), np.uint8))
    assert got.scores.shape == (3, 150)
    for row in range(3):
        best = np.argsort(-scores[row])[: done.candidates]
        best = best[scores[row][best] >= done.min_score]
        index = best[nms(boxes[row][best], scores[row][best], done.iou)]
        count = int((got.scores[row] > 0).sum())
        assert count == len(index)
        np.testing.assert_allclose(got.scores[row][:count], scores[row][index], rtol=1e-6)
        np.testing.assert_allclose(got.boxes[row][:count], boxes[row][index], rtol=1e-5)
    assert (got.scores[1] == 0).all()


def constant(boxes: Any, scores: Any, path: Path) -> Path:
    """A file that gives the same candidates whatever the images."""
    float32 = onnx.TensorProto.FLOAT
    make = onnx.helper.make_node
    nodes = [
        make("Cast", ["image"], ["x"], to=float32),
        make("ReduceMax", ["x"], ["most"], keepdims=0),
        make("Mul", ["most", "zero"], ["nothing"]),
        make("Add", ["all_boxes", "nothing"], ["boxes"]),
        make("Add", ["all_scores", "nothing"], ["scores"]),
    ]
    value = onnx.helper.make_tensor_value_info
    held = {"all_boxes": boxes, "all_scores": scores, "zero": 0}
    graph = onnx.helper.make_graph(
        nodes,
        "constant",
        [value("image", onnx.TensorProto.UINT8, ["B", 3, "H", "W"])],
        [value("boxes", float32, [3, "A", 4]), value("scores", float32, [3, "A"])],
        [numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in held.items()],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8
    )
    path.write_bytes(model.SerializeToString())
    return path


def test_a_score_at_the_threshold_counts(tmp_path: Path) -> None:
    blocks = block_model.write(tmp_path / "blocks.onnx")
    level = 102 / 255
    own = replace(block_model.card("blocks"), min_score=float(np.float32(level)))
    file = adapt(blocks, tmp_path / "kept.onnx", with_nms=True, card=own)
    image = np.full((64, 64, 3), 102, np.uint8)
    image[:32] = 101
    assert len(FaceDetector(file, protocol="64").detect(image)) == 2


def test_a_file_of_one_size_has_no_open_shape_and_gives_the_same(
    tmp_path: Path, card: Card, picture: Any
) -> None:
    size = (96, 128)
    path = adapt(weights.find(MODEL), tmp_path / "fixed.onnx", size=size, with_nms=True, card=card)
    made = Card.from_file(path)
    assert made is not None
    assert (made.fixed_size, made.protocol, made.name) == (size, "128x96", card.name)
    assert made.suppression == Suppression(0.05, 0.45, 3800)
    graph = onnx.load(str(path))
    assert {node.op_type for node in graph.graph.node}.isdisjoint({"Shape", "Range", "Expand"})
    inferred = onnx.shape_inference.infer_shapes(graph, data_prop=True, strict_mode=True)
    assert list(graph_edits.open_dimensions(inferred)) == ["nms/chosen", "nms/kept_at", "nms/kept"]
    canvas = np.ascontiguousarray(picture[200:296, 100:228])
    found = FaceDetector(path, threads=1).detect([canvas, canvas[::-1].copy()])
    plain = FaceDetector(MODEL, threads=1, precision="fp32", protocol="128x96", min_score=0.05)
    for one, expected in zip(found, plain.detect([canvas, canvas[::-1].copy()]), strict=True):
        np.testing.assert_allclose(one.boxes, expected.boxes, atol=0.01)


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        ("everyday", "makes several passes"),
        ("vga:flip", "makes several passes"),
        ("vga:containment=0.6", "suppresses boxes inside others"),
        ("retinaface-original", "counts the last pixel"),
        ("vga", "scores from 0.02 are not in its outputs"),
    ],
)
def test_what_nms_in_a_file_cannot_do_is_refused(kept: Path, protocol: str, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        FaceDetector(kept, protocol=protocol)


def test_an_image_that_takes_tiles_is_refused(kept: Path) -> None:
    small = replace(FaceDetector(kept).protocol, max_pixels=128 * 128)
    with pytest.raises(ProtocolError, match="takes several tiles"):
        FaceDetector(kept, protocol=small).detect(np.zeros((400, 400, 3), np.uint8))


def test_a_file_that_suppresses_otherwise_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check sees an IoU that is not the one on the card."""
    add = graph_edits.add_nms
    wrong = lambda model, done: add(model, replace(done, iou=0.9))  # noqa: E731
    monkeypatch.setattr(graph_edits, "add_nms", wrong)
    target = tmp_path / "out" / "kept.onnx"
    with pytest.raises(WeightsError, match=r"export refused: .* faces that NMS keeps"):
        adapt(weights.find(MODEL), target, with_nms=True)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "exported already"),
        (["--size", "100x64"], "multiples of 32"),
        (["--size", "640x480", "--protocol", "1024"], "has a pass at 1024"),
        (["--with-nms", "--protocol", "retinaface"], "makes several passes"),
        (["--with-nms", "--min-score", "0"], "above 0"),
    ],
)
def test_mistakes_are_one_line(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.onnx"
    assert main(["export", MODEL, "--out", str(out), *options]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_the_command_takes_a_model_and_an_export_that_is_adapted_is_not_adapted_again(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small.onnx"
    args = ["--size", "64x64", "--min-score", "0.3", "--notes", "tiny", "--out", str(out)]
    assert main(["export", MODEL, *args]) == 0
    made = Card.from_file(out)
    assert made is not None
    assert (made.name, made.min_score, made.notes) == ("small", 0.3, "tiny")
    assert made.license
    assert main(["export", str(kept), "--size", "64x64", "--out", str(tmp_path / "y.onnx")]) == 2
    assert "has NMS in it already" in capsys.readouterr().err
