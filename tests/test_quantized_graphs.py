"""Quantized graphs as integer kernels take them, and last convolutions fitted to what they get."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from facefind import weights
from facefind.quantization.kernels import with_integer_kernels
from facefind.quantization.refitting import refit, targets

onnxruntime = pytest.importorskip(
    "onnxruntime", minversion="1.21", reason="older ones leave biases in floats, and so all"
)

NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
network (float[1, 2, height, width] image) => (float[1, 4, height, width] out) {
    image_q = QuantizeLinear(image, image_scale, zero_signed)
    image_d = DequantizeLinear(image_q, image_scale, zero_signed)
    w1 = DequantizeLinear<axis = 0>(w1_q, w1_scale)
    whole = Conv<pads = [1, 1, 1, 1]>(image_d, w1, b1)
    cut = Relu(whole)
    cut_q = QuantizeLinear<axis = 1>(cut, cut_scale, zeros_unsigned)
    cut_d = DequantizeLinear<axis = 1>(cut_q, cut_scale, zeros_unsigned)
    w2 = DequantizeLinear<axis = 0>(w2_q, w2_scale)
    deep = Conv<pads = [1, 1, 1, 1], group = 4>(cut_d, w2, b2)
    deep_q = QuantizeLinear<axis = 1>(deep, deep_scale, zeros_signed)
    deep_d = DequantizeLinear<axis = 1>(deep_q, deep_scale, zeros_signed)
    deeper = Conv<pads = [1, 1, 1, 1], group = 4>(deep_d, w2, b2)
    deeper_q = QuantizeLinear(deeper, image_scale, zero_signed)
    out = DequantizeLinear(deeper_q, image_scale, zero_signed)
}
"""


def network(zeros: list[int]) -> Any:
    """Convolutions of all kinds that NNCF makes, with these zero points of the signed channels."""
    rng = np.random.default_rng(0)
    values = {
        "image_scale": np.float32(0.02),
        "zero_signed": np.int8(-3),
        "w1_q": rng.integers(-63, 64, (4, 2, 3, 3), np.int8),
        "w1_scale": rng.uniform(0.002, 0.004, 4).astype(np.float32),
        "b1": rng.normal(0, 0.2, 4).astype(np.float32),
        "cut_scale": np.array([0.004, 0.008, 0.012, 0.003], np.float32),
        "zeros_unsigned": np.zeros(4, np.uint8),
        "w2_q": rng.integers(-63, 64, (4, 1, 3, 3), np.int8),
        "w2_scale": rng.uniform(0.002, 0.004, 4).astype(np.float32),
        "b2": rng.normal(0, 0.2, 4).astype(np.float32),
        "deep_scale": np.array([0.006, 0.01, 0.008, 0.02], np.float32),
        "zeros_signed": np.array(zeros, np.int8),
    }
    model = onnx.parser.parse_model(NETWORK)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()
    )
    # Two convolutions that share weights keep scales of channels: each has its own here.
    second = next(node for node in model.graph.node if node.output[0] == "deeper")
    reader = next(node for node in model.graph.node if node.output[0] == "w2")
    again = model.graph.node.add()
    again.CopyFrom(reader)
    again.output[0] = second.input[1] = "w2_again"
    order = [node for node in model.graph.node if node is not again]
    model.graph.node.insert(order.index(second), again)
    del model.graph.node[-1]
    onnx.checker.check_model(model)
    return model


def outputs(model: Any, image: Any, optimized: Path | None = None) -> list[Any]:
    """By ONNX Runtime: node after node in floats, or as it optimizes a graph, kept as a file."""
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    )
    options.log_severity_level = 3
    if optimized:
        options.optimized_model_filepath = str(optimized)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"image": image})


def run(model: Any, image: Any, optimized: Path | None = None) -> Any:
    return outputs(model, image, optimized)[0]


IMAGE = np.random.default_rng(1).uniform(-2.4, 2.4, (1, 2, 20, 24)).astype(np.float32)


def kinds(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(str(path)).graph.node)


def test_values_stay_and_all_convolutions_compute_in_integers(tmp_path: Path) -> None:
    model = network([-128] * 4)
    changed = with_integer_kernels(model)
    onnx.checker.check_model(changed)
    assert "Relu" in {node.op_type for node in model.graph.node}  # the one given is left alone
    steps = (run(changed, IMAGE) - run(model, IMAGE)) / 0.02
    assert np.abs(steps).max() < 1.01  # a value that lay between two integers
    assert (np.abs(steps) > 0.01).mean() < 0.01
    result = run(changed, IMAGE, tmp_path / "optimized.onnx")
    assert (np.abs(result - run(changed, IMAGE)) > 1e-3).mean() < 0.01
    assert kinds(tmp_path / "optimized.onnx")["QLinearConv"] == 3
    run(model, IMAGE, tmp_path / "before.onnx")
    assert kinds(tmp_path / "before.onnx")["QLinearConv"] == 0


def test_channels_with_zero_points_of_their_own_get_one_for_all(tmp_path: Path) -> None:
    model = network([-20, 4, 30, -90])
    del next(node for node in model.graph.node if node.output[0] == "whole").input[2]  # zeros
    changed = with_integer_kernels(model)
    values = {one.name: numpy_helper.to_array(one) for one in changed.graph.initializer}
    node = next(node for node in changed.graph.node if node.input[0] == "deep")
    assert values[node.input[2]] == 128
    difference = np.abs(run(changed, IMAGE) - run(model, IMAGE))
    assert difference.max() < 0.1  # coarser steps of one layer
    assert difference.mean() < 0.01
    run(changed, IMAGE, tmp_path / "optimized.onnx")
    assert kinds(tmp_path / "optimized.onnx")["QLinearConv"] == 3


def test_scales_of_channels_stay_where_weights_are_shared(tmp_path: Path) -> None:
    model = network([-128] * 4)
    for node in model.graph.node:
        if node.output[0] == "deeper":
            node.input[1] = "w2"
    changed = with_integer_kernels(model)
    assert np.abs(run(changed, IMAGE) - run(model, IMAGE)).max() < 0.021
    assert max(one.dims for one in changed.graph.initializer if "cut_scale" in one.name) == [4]
    optimized = run(changed, IMAGE, tmp_path / "optimized.onnx")  # which fails for some of these
    assert np.abs(optimized - run(model, IMAGE)).max() < 0.021


@pytest.mark.parametrize(
    "name", [card.name for card in weights.available() if card.precision == "int8"]
)
def test_convolutions_of_what_ships_compute_in_integers(name: str, tmp_path: Path) -> None:
    model = onnx.load(str(weights.find(name)))
    one_scale = {tensor.name for tensor in model.graph.initializer if tensor.dims in ([], [1])}
    makers = {out: node for node in model.graph.node for out in node.output}
    takers = defaultdict(list)
    for node in model.graph.node:
        for given in node.input:
            takers[given].append(node)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    inner = [
        node
        for node in convolutions
        if [taker.op_type for taker in takers[node.output[0]]] == ["QuantizeLinear"]
        and node.input[1] in makers
        and makers[node.input[0]].op_type == "DequantizeLinear"
        and {makers[node.input[0]].input[1], takers[node.output[0]][0].input[1]} <= one_scale
    ]
    assert len(inner) > 0.6 * len(convolutions)
    run(model, np.zeros((1, 3, 64, 64), np.uint8), tmp_path / "optimized.onnx")
    assert kinds(tmp_path / "optimized.onnx")["QLinearConv"] >= len(inner)


PLAIN = """
<ir_version: 8, opset_import: ["" : 17]>
network (float[1, 3, height, width] image)
    => (float[1, places] scores, float[1, 4, height, width] boxes) {
    inner = Conv<pads = [1, 1, 1, 1]>(image, w1, b1)
    logits = Conv(inner, w2, b2)
    boxes = Conv<pads = [1, 1, 1, 1]>(inner, w3, b3)
    probabilities = Sigmoid(logits)
    scores = Reshape(probabilities, flat)
}
"""


@pytest.fixture
def plain() -> Any:
    rng = np.random.default_rng(2)
    model = onnx.parser.parse_model(PLAIN)
    shapes = {"w1": (8, 3, 3, 3), "w2": (1, 8, 1, 1), "w3": (4, 8, 3, 3), "b1": (8,), "b2": (1,)}
    values = {name: rng.normal(0, 0.4, shape) for name, shape in (shapes | {"b3": (4,)}).items()}
    values = {name: value.astype(np.float32) for name, value in values.items()}
    values["flat"] = np.array([1, -1])
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in values.items()
    )
    for node, name in zip(model.graph.node, ("inner", "cls", "box", "", ""), strict=True):
        node.name = name
    return model


def distorted(plain: Any, stored: bool) -> Any:
    """The network with other channels inside, its box weights as integers if `stored`."""
    model = onnx.ModelProto()
    model.CopyFrom(plain)
    tensors = {one.name: one for one in model.graph.initializer}
    for name, factor, shift in (("w1", 0.8, 0.0), ("b1", 0.8, 0.3)):
        value = numpy_helper.to_array(tensors[name]) * np.float32(factor) + np.float32(shift)
        tensors[name].CopyFrom(numpy_helper.from_array(value, name))
    if stored:
        scale = np.full(4, 0.02, np.float32)
        value = np.rint(numpy_helper.to_array(tensors["w3"]) / 0.02).clip(-63, 63).astype(np.int8)
        tensors["w3"].CopyFrom(numpy_helper.from_array(value, "w3"))
        model.graph.initializer.append(numpy_helper.from_array(scale, "w3_scale"))
        reader = onnx.helper.make_node("DequantizeLinear", ["w3", "w3_scale"], ["w3_d"], axis=0)
        model.graph.node.insert(0, reader)
        next(node for node in model.graph.node if node.name == "box").input[1] = "w3_d"
    return model


@pytest.mark.parametrize("stored", [False, True])
def test_last_convolutions_undo_what_happens_before_them(plain: Any, stored: bool) -> None:
    rng = np.random.default_rng(3)
    pictures = [rng.normal(0, 1, (1, 3, 16, 20)).astype(np.float32) for _ in range(6)]
    box = next(node for node in plain.graph.node if node.name == "box")
    del box.input[2]  # as exporters leave out zeros
    model = distorted(plain, stored)
    feeds = [{"image": one} for one in pictures]
    wanted = targets(plain, ["cls", "box"], feeds)
    assert wanted[0]["box"].values.shape == (len(wanted[0]["box"].rows), 4)
    fresh = rng.normal(0, 1, (1, 3, 24, 24)).astype(np.float32)
    before = [
        np.abs(a - b).mean()
        for a, b in zip(outputs(plain, fresh), outputs(model, fresh), strict=True)
    ]
    refit(model, plain, wanted, feeds, 63)
    after = [
        np.abs(a - b).mean()
        for a, b in zip(outputs(plain, fresh), outputs(model, fresh), strict=True)
    ]
    assert min(before) > 0.02
    assert all(new < 0.25 * old for new, old in zip(after, before, strict=True))
    if stored:
        values = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
        assert values["w3"].dtype == np.int8
        assert np.abs(values["w3"].reshape(4, -1)).max(1).tolist() == [63] * 4


def test_positions_with_faces_and_some_of_the_others_are_fitted_to(plain: Any) -> None:
    feeds = [{"image": np.zeros((1, 3, 40, 50), np.float32)}]
    tensors = {one.name: one for one in plain.graph.initializer}
    tensors["b2"].CopyFrom(numpy_helper.from_array(np.array([-9], np.float32), "b2"))
    (found,) = targets(plain, ["box"], feeds)
    assert found["box"].importance == pytest.approx(0.02, abs=1e-3)
    assert found["box"].rows.tolist() == list(range(40))
    assert set(found["box"].columns.tolist()) == {0}
