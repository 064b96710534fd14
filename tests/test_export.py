from __future__ import annotations

import copy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from facefind import export as exporting
from facefind.detector import FaceDetector
from facefind.errors import RuntimeUnavailableError, WeightsError
from facefind.export import export, relabel
from facefind.nn.cost import measure
from facefind.runtimes import STATISTICS_KEY, Card, agreement, open_model
from facefind.runtimes.onnx_file import metadata
from facefind.systems.scrfd import SCRFDConfig

sys.path.insert(0, str(Path(__file__).resolve().parent / "reference"))
import block_model
import going_on

pytestmark = pytest.mark.slow

# Every kind of layer of the published rows with points, few of each: exporting takes its time.
SMALL = SCRFDConfig(
    block="depthwise",
    depths=(1, 1, 1, 1),
    widths=(8, 8, 16, 16),
    stem=(8, 8),
    neck=8,
    head=8,
    head_depth=1,
    head_groups=None,
    shared_head=False,
    landmarks=True,
    scales=True,
)


@pytest.fixture(scope="module")
def network() -> Any:
    torch.manual_seed(0)
    net = SMALL.build()
    for module in net.modules():  # as after training: statistics that are not the initial ones
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net


@pytest.fixture(scope="module")
def exported(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exports") / "sub" / "small.onnx"
    card = Card(name="small", system="scrfd", recipe="scrfd-500m-kps")
    assert export(network, path, card) == path
    return path


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_export_gives_what_the_network_gives(exported: Path, network: Any, runtime: Any) -> None:
    model = open_model(exported, runtime, threads=1)
    reference = open_model(copy.deepcopy(network), card=model.card)
    draw = np.random.default_rng(1)
    for shape in [(3, 3, 64, 224), (1, 3, 256, 32), (2, 3, 32, 32)]:
        images = draw.integers(0, 256, shape, dtype=np.uint8)
        wanted, got = reference(images), model(images)
        assert np.allclose(got.scores, wanted.scores, atol=1e-4)
        assert np.allclose(got.boxes, wanted.boxes, atol=0.02)
        assert np.allclose(got.landmarks, wanted.landmarks, atol=0.02)


def test_an_export_carries_its_card_completed(exported: Path, network: Any) -> None:
    card = Card.from_file(exported)
    assert card is not None
    assert (card.name, card.recipe, card.landmarks) == ("small", "scrfd-500m-kps", True)
    cost = measure(network, 480, 640)
    assert (card.parameters, card.multiply_adds) == (cost.parameters, cost.multiply_adds)


def test_an_export_holds_the_graph_and_no_traces_of_its_making(exported: Path) -> None:
    model = onnx.load(str(exported))
    assert model.opset_import[0].version >= 18
    kinds = {node.op_type for node in model.graph.node}
    assert "BatchNormalization" not in kinds  # folded into the convolutions
    assert not kinds & {"If", "Loop", "NonZero", "ScatterND"}
    assert [p.key for p in model.metadata_props] == ["facefind_card", "facefind_statistics"]
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    content = exported.read_bytes()
    assert str(Path(exporting.__file__).parent).encode() not in content
    assert b"site-packages" not in content
    assert [path.name for path in exported.parent.iterdir()] == ["small.onnx"]


def test_training_goes_on_from_an_export(exported: Path, network: Any) -> None:
    going_on.check(network, exported)


def test_exporting_leaves_the_network_as_it_was(exported: Path, network: Any) -> None:
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_detector_takes_an_export(exported: Path) -> None:
    faces = FaceDetector(exported, min_score=0.0, protocol="64").detect(
        np.zeros((48, 64, 3), np.uint8)
    )
    assert faces.landmarks is not None
    assert len(faces) > 0


def test_a_network_without_points_and_of_one_size_is_exported_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    card = block_model.card("fixed", fixed_size=(64, 96))
    path = export(block_model.network(landmarks=False), tmp_path / "fixed.onnx", card)
    model = open_model(path)
    assert model.card.landmarks is False
    assert model.card.fixed_size == (64, 96)
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 64, 96), dtype=np.uint8)
    found = model(images)
    assert found.landmarks is None
    assert np.allclose(found.scores, block_model.candidates(images).scores, atol=1e-5)
    assert capfd.readouterr() == ("", "")
    assert not [r for r in caplog.records if r.levelname not in ("DEBUG", "INFO")]


def broken(tmp_path: Path, change: Any) -> onnx.ModelProto:
    model = onnx.load(str(block_model.write(tmp_path / "honest.onnx")))
    for tensor in model.graph.initializer:
        value = change(tensor.name, numpy_helper.to_array(tensor))
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return model


@pytest.mark.parametrize(
    ("name", "factor", "said"),
    [
        ("full", 1.1, r"onnxruntime, 1x3x\d+x\d+: scores\[0, \d+\] is .* in the file and"),
        ("cell", 1.01, r"boxes\[0, \d+, \d\] is"),
        ("points", 1.1, r"landmarks\[0, \d+, \d, \d\] is"),
        ("full", 0.0, "gives scores from inf to inf"),
    ],
)
def test_a_file_that_differs_from_the_network_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, factor: float, said: str
) -> None:
    def change(tensor: str, value: Any) -> Any:
        return (value * factor).astype(value.dtype) if tensor == name else value

    model = broken(tmp_path, change)
    monkeypatch.setattr(exporting, "_to_onnx", lambda *_: model)
    target = tmp_path / "out" / "b.onnx"
    with pytest.raises(WeightsError, match=f"export refused: .*{said}"):
        export(block_model.network(), target, block_model.card("b"))
    assert list(target.parent.iterdir()) == []


def test_a_file_that_takes_one_image_only_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = broken(tmp_path, lambda name, value: np.array([1, -1]) if name == "list" else value)
    monkeypatch.setattr(exporting, "_to_onnx", lambda *_: model)
    with pytest.raises(WeightsError, match=r"onnxruntime, 3x3.* does not run"):
        export(block_model.network(), tmp_path / "b.onnx", block_model.card("b"))
    assert not (tmp_path / "b.onnx").exists()


def test_nothing_is_exported_that_cannot_be_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "installed", lambda: ["torch"])
    with pytest.raises(RuntimeUnavailableError, match="checked before it is kept"):
        export(block_model.network(), tmp_path / "b.onnx", block_model.card("b"))


def test_a_file_is_relabeled_without_touching_what_it_computes(tmp_path: Path) -> None:
    path = block_model.write(tmp_path / "a.onnx")
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8)
    before = open_model(path)(images)
    card = replace(block_model.card("a"), results=({"protocol": "vga", "ap": 0.5},), min_score=0.4)
    relabel(path, card)
    model = open_model(path)
    assert model.card == card
    assert np.array_equal(model(images).scores, before.scores)
    assert STATISTICS_KEY not in metadata(path)
    relabel(path, card, "AAAA")
    relabel(path, replace(card, min_score=0.3))
    assert metadata(path)[STATISTICS_KEY] == "AAAA"  # another card leaves them
    with pytest.raises(WeightsError, match="size_multiple belongs to the file"):
        relabel(path, replace(card, size_multiple=64))
