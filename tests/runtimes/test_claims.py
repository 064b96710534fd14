"""Models are checked against what they say: fixed inputs, cards, scores and points."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from facefind.detector import FaceDetector
from facefind.errors import ImageError, WeightsError
from facefind.runtimes import Candidates, Card, open_model
from facefind.runtimes.adapters import RetinaFaceReader, batch_size, detect_format
from facefind.runtimes.contract import TensorSpec, check_candidates
from facefind.runtimes.model import OnnxModel
from facefind.runtimes.native import NativeReader

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "reference"))
import block_model

LIBRARIES = ["onnxruntime", "openvino"]


def fixed(path: Path, *dims: int | None, card: Card | None = None) -> Path:
    """The block model with sides of its input fixed, as others' tools do."""
    model = onnx.load(str(block_model.write(path, card)))
    shape = model.graph.input[0].type.tensor_type.shape
    for dim, value in zip(shape.dim, dims, strict=True):
        if value is not None:
            dim.dim_value = value
    path.write_bytes(model.SerializeToString())
    return path


def faces_of(images: NDArray[np.uint8], model: Any) -> None:
    found, meant = model(images), block_model.candidates(images)
    assert np.abs(found.scores - meant.scores).max() < 1e-5
    assert np.abs(found.boxes - meant.boxes).max() < 1e-3


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("dims", "size"),
    [
        ((1, 3, 64, 96), (64, 96)),
        ((4, 3, 64, 96), (64, 96)),
        ((None, 3, 64, 96), (64, 96)),
        ((1, 3, 64, None), (64, 64)),
        ((1, 3, None, None), None),
        ((2, 3, None, None), None),
    ],
)
def test_fixed_inputs_are_padded_to(tmp_path: Path, library: Any, dims: Any, size: Any) -> None:
    path = fixed(tmp_path / "fixed.onnx", *dims)
    model = open_model(path, library)
    assert model.card.fixed_size == size
    for count in (1, 3, 5):
        images = np.random.default_rng(count).integers(0, 256, (count, 3, *(size or (96, 32))))
        faces_of(images.astype(np.uint8), model)
    detector = FaceDetector(path, runtime=library, min_score=0.8, batch_size=2)
    white = [np.full(shape, 255, np.uint8) for shape in ((40, 100, 3), (100, 40, 3), (64, 96, 3))]
    assert all(len(faces) for faces in detector.detect(white))


def test_a_file_whose_input_is_fixed_has_a_protocol_that_fits(tmp_path: Path) -> None:
    assert open_model(fixed(tmp_path / "a.onnx", 1, 3, 64, 96)).card.protocol == "96x64"
    assert open_model(fixed(tmp_path / "b.onnx", 1, 3, 640, 640)).card.protocol == "640"


@pytest.mark.parametrize(
    ("dims", "card", "message"),
    [
        ((1, 3, 64, 96), {"fixed_size": (96, 64)}, r"says.*\(96, 64\), but the file takes"),
        ((1, 3, 64, 80), {}, r"\(64, 80\) alone, but its card wants multiples of 32"),
        ((1, 1, 64, 96), {}, "breaks the contract: its image have the shape"),
    ],
)
def test_a_card_that_contradicts_its_file_is_refused(
    tmp_path: Path, dims: Any, card: Any, message: str
) -> None:
    path = fixed(tmp_path / "a.onnx", *dims, card=block_model.card("a", **card))
    with pytest.raises(WeightsError, match=message):
        open_model(path, "openvino" if dims[1] == 3 else "onnxruntime")


@pytest.mark.parametrize(
    ("port", "shape"),
    [("boxes", (None, None, 5)), ("scores", (None, None, 1)), ("landmarks", (None, None, 10))],
)
def test_outputs_of_other_shapes_than_promised_are_refused(port: str, shape: Any) -> None:
    shapes = {"boxes": (1, None, 4), "scores": (None, None), "landmarks": None} | {port: shape}
    session: Any = SimpleNamespace(
        inputs=[TensorSpec("image", (None, 3, None, None), "uint8")],
        outputs=[TensorSpec(name, sides, "float32") for name, sides in shapes.items()],
    )
    with pytest.raises(WeightsError, match=f"breaks the contract: its {port} have the shape"):
        NativeReader(session, block_model.card())
    shapes[port] = None
    session.outputs = [TensorSpec(name, sides, "float32") for name, sides in shapes.items()]
    assert NativeReader(session, block_model.card()).card == block_model.card()


@pytest.mark.parametrize(
    "changes", [{"fixed_size": [0, 32]}, {"strides": [0]}, {"size_multiple": "32"}]
)
def test_cards_that_make_no_sense_are_refused(changes: Any) -> None:
    import json

    text = json.dumps({"name": "a", "system": "b"} | changes)
    with pytest.raises(WeightsError):
        Card.from_json(text)


def candidates(scores: Any, box: float = 1.0, point: float = 1.0) -> Candidates:
    scores = np.array([scores], np.float32)
    boxes, points = np.full((*scores.shape, 4), box), np.full((*scores.shape, 5, 2), point)
    return Candidates(boxes.astype(np.float32), scores, points.astype(np.float32))


@pytest.mark.parametrize("score", [3.0, -0.2, np.nan, np.inf])
def test_scores_beyond_0_to_1_are_one_clear_error(score: float) -> None:
    with pytest.raises(WeightsError, match=r"m gives scores from .* must lie in 0\.\.1"):
        check_candidates(candidates([0.5, score]), "m")


@pytest.mark.parametrize("wild", [{"box": np.nan}, {"point": np.inf}])
def test_faces_that_lie_nowhere_are_one_clear_error(wild: Any) -> None:
    with pytest.raises(WeightsError, match=r"not finite for faces of a score of 0\.9"):
        check_candidates(candidates([0.1, 0.9], **wild), "m")
    assert check_candidates(candidates([0.0, 1e-5], **wild), "m") is not None  # no faces


def test_scores_that_are_rounded_beyond_1_are_put_back() -> None:
    assert check_candidates(candidates([1.0005, 0.5, -1e-7]), "m").scores.max() == 1
    good = candidates([1.0, 0.0])
    assert check_candidates(good, "m") is good
    none = candidates(np.zeros(0))
    assert check_candidates(none, "m") is none


class Foreign:
    """A session of a file of the RetinaFace port that gives every anchor one score."""

    name, precision, threads, provider = "fake", "fp32", 1, "CPU"

    def __init__(self, shape: tuple[int | None, ...], scores: float = 0.25) -> None:
        self.inputs = [TensorSpec("x", shape, "float32")]
        self.outputs: list[TensorSpec] = []
        self.seen: list[tuple[int, ...]] = []
        self.scores = scores

    def run(self, x: NDArray[Any]) -> list[NDArray[np.float32]]:
        self.seen.append(x.shape)
        rows = 2 * sum(-(-x.shape[2] // s) * -(-x.shape[3] // s) for s in (8, 16, 32))
        both = np.array([1 - self.scores, self.scores], np.float32)
        return [np.zeros((len(x), rows, 4), np.float32), np.tile(both, (len(x), rows, 1))]


@pytest.mark.parametrize(
    ("shape", "batch", "size"),
    [((1, 3, 320, 256), 1, (320, 256)), ((4, 3, 64, None), 4, (64, 64)), ((None,) * 4, None, None)],
)
def test_foreign_files_of_fixed_inputs(shape: Any, batch: Any, size: Any) -> None:
    session = Foreign(shape)
    reader = detect_format(session, "x")
    assert reader.card.fixed_size == size
    assert batch_size(session) == batch
    model = OnnxModel(Path("x.onnx"), lambda: session, session, reader, batch_size(session))
    height, width = size or (64, 96)
    assert len(model(np.zeros((5, 3, height, width), np.uint8))) == 5
    assert {shape[0] for shape in session.seen[1:]} == {batch or 5}


def test_a_foreign_file_of_logits_is_refused_as_it_is_opened() -> None:
    with pytest.raises(WeightsError, match="lacks the sigmoid or softmax"):
        detect_format(Foreign((1, 3, None, None), scores=7.0), "x")


def test_arrays_that_do_not_fit_each_other_are_one_clear_error() -> None:
    session = Foreign((None, 3, None, None))
    model = OnnxModel(Path("x.onnx"), lambda: session, session, detect_format(session, "x"))
    assert isinstance(model._reader, RetinaFaceReader)
    full = session.run
    session.run = lambda x: [array[:, :-1] for array in full(x)]  # type: ignore[method-assign]
    with pytest.raises(WeightsError, match="do not fit each other"):
        model(np.zeros((1, 3, 64, 64), np.uint8))


def test_one_image_that_a_model_fails_on_costs_no_other_its_result() -> None:
    card = block_model.card()

    def run(images: NDArray[np.uint8]) -> Candidates:
        found = block_model.candidates(images)
        return check_candidates(
            Candidates(found.boxes * (np.nan if images.max() == 255 else 1), found.scores), "m"
        )

    class Model:
        name, precision, threads, provider = "fake", "fp32", 1, "cpu"
        candidates = None

        def __init__(self) -> None:
            self.card = card

        def __call__(self, images: NDArray[np.uint8]) -> Candidates:
            return run(images)

    pictures = [np.full((64, 64, 3), value, np.uint8) for value in (200, 255, 210)]
    results = list(FaceDetector(Model(), batch_size=4).stream(pictures, on_error="yield"))
    assert [type(result.error) for result in results] == [type(None), WeightsError, type(None)]


def test_any_image_size_is_taken_and_any_input_must_be_a_multiple(tmp_path: Path) -> None:
    path = block_model.write(tmp_path / "a.onnx")
    detector = FaceDetector(path, protocol="original", min_score=0.9)
    for size in ((1, 1), (33, 97), (640, 7)):
        assert detector.detect(np.zeros((*size, 3), np.uint8)).image_size == size
    with pytest.raises(ImageError, match="multiples of 32"):
        detector.runtime(np.zeros((1, 3, 33, 97), np.uint8))
