"""Nodes and weights of ONNX files, read without a library: against what onnx itself reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from facefind import weights
from facefind.errors import WeightsError
from facefind.runtimes.onnx_file import Node, read_graph


def written(path: Path, tensors: list[TensorProto]) -> Path:
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    model = helper.make_model(helper.make_graph(nodes, "g", [], [], tensors))
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("name", [card.name for card in weights.available()])
def test_a_model_s_nodes_and_weights_are_those_of_the_onnx_library(name: str) -> None:
    path = weights.find(name)
    ours, theirs = read_graph(path), onnx.load(str(path)).graph
    assert ours.nodes == [
        Node(node.op_type, tuple(node.input), tuple(node.output)) for node in theirs.node
    ]
    expected = {i.name: numpy_helper.to_array(i) for i in theirs.initializer}
    expected = {name: value for name, value in expected.items() if value.dtype == np.float32}
    assert ours.weights.keys() == expected.keys()
    for key, value in expected.items():
        assert ours.weights[key].shape == value.shape
        assert np.array_equal(ours.weights[key], value)


def test_numbers_are_read_in_every_way_that_they_are_stored(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3) / 7
    tensors = [
        numpy_helper.from_array(values, "raw"),
        helper.make_tensor("listed", TensorProto.FLOAT, (2, 3), values.flatten().tolist()),
        numpy_helper.from_array(values.astype(np.float16), "half"),
        numpy_helper.from_array(np.float32(0.5), "scalar"),
        numpy_helper.from_array(np.empty((0, 3), np.float32), "empty"),
        numpy_helper.from_array(np.arange(3), "whole"),
    ]
    graph = read_graph(written(tmp_path / "a.onnx", tensors))
    assert graph.nodes == [Node("Conv", ("x", "w"), ("a",)), Node("Relu", ("a",), ("y",))]
    assert graph.weights.keys() == {"raw", "listed", "half", "scalar", "empty"}
    assert {value.dtype for value in graph.weights.values()} == {np.dtype(np.float32)}
    for name in ("raw", "listed"):
        assert np.array_equal(graph.weights[name], values)
    assert np.array_equal(graph.weights["half"], values.astype(np.float16).astype(np.float32))
    assert graph.weights["scalar"] == 0.5
    assert graph.weights["scalar"].shape == ()
    assert graph.weights["empty"].shape == (0, 3)


def test_weights_that_lie_elsewhere_or_are_cut_are_refused(tmp_path: Path) -> None:
    elsewhere = numpy_helper.from_array(np.ones(3, np.float32), "w")
    onnx.external_data_helper.set_external_data(elsewhere, "w.bin")
    with pytest.raises(WeightsError, match="the weights of w are in another file"):
        read_graph(written(tmp_path / "a.onnx", [elsewhere]))
    short = numpy_helper.from_array(np.ones(3, np.float32), "w")
    short.raw_data = short.raw_data[:8]
    with pytest.raises(WeightsError, match=r"b\.onnx cannot be read"):
        read_graph(written(tmp_path / "b.onnx", [short]))
    listed = helper.make_tensor("w", TensorProto.FLOAT16, (2,), [1.0, 2.0])
    with pytest.raises(WeightsError, match="neither raw bytes nor float32"):
        read_graph(written(tmp_path / "c.onnx", [listed]))
    whole = written(tmp_path / "d.onnx", [numpy_helper.from_array(np.ones(9, np.float32), "w")])
    (tmp_path / "e.onnx").write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(WeightsError, match="is no ONNX model"):
        read_graph(tmp_path / "e.onnx")
    with pytest.raises(WeightsError, match="cannot read the model file"):
        read_graph(tmp_path / "gone.onnx")
