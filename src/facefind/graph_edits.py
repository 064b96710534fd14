"""Changes the graphs of exported ONNX files: NMS at their end, one input size, integer kernels.

All that is added are operators of ONNX itself, opset 18: no runtime needs anything of facefind.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from facefind.errors import WeightsError
from facefind.runtimes.card import Suppression
from facefind.runtimes.native import INPUT

__all__ = ["add_nms", "fix_size", "open_dimensions", "with_floor", "with_integer_kernels"]

_PREFIX = "nms/"
_FOLDED_BYTES = 1 << 26  # constants of more bytes than these are not folded


def add_nms(model: Any, suppression: Suppression) -> Any:
    """A copy of a ModelProto whose outputs are the faces that NMS keeps, best first.

    Outputs (B, A, ...) become (B, F, ...) of the same names, where F is A or, where that is less,
    the `candidates` of `suppression`. Rows that no face fills have the score 0, and boxes of no
    meaning.
    Batch, height and width stay as free as they were. Ties go to the earlier anchor.
    """
    import onnx
    from onnx import helper, numpy_helper

    edited = onnx.ModelProto()
    edited.CopyFrom(model)
    graph = edited.graph
    names = [output.name for output in graph.output]
    _rename(graph, {name: _PREFIX + name for name in names})
    constants = {
        "candidates": np.array([suppression.candidates], np.int64),
        "iou": np.array([suppression.iou], np.float32),
        "floor": _floor(suppression.min_score),
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
        "picture_and_box": np.array([0, 2], np.int64),
    }
    steps: list[tuple[str, str, str, dict[str, Any]]] = [
        ("Shape", "scores", "count", {"start": 1, "end": 2}),
        ("Min", "count candidates", "ranked", {}),
        ("TopK", "scores ranked", "ranked_scores order", {}),
        ("Unsqueeze", "order two", "ranked_at", {}),
        ("GatherND", "boxes ranked_at", "ranked_boxes", {"batch_dims": 1}),
        ("Unsqueeze", "ranked_scores one", "class_scores", {}),
        ("NonMaxSuppression", "ranked_boxes class_scores candidates iou floor", "chosen", {}),
        ("Gather", "chosen picture_and_box", "kept_at", {"axis": 1}),
        ("GatherND", "ranked_scores kept_at", "kept", {}),
        ("Shape", "ranked_scores", "ranked_shape", {}),
        ("ConstantOfShape", "ranked_shape", "none", {}),
        ("ScatterND", "none kept_at kept", "kept_scores", {}),
        ("TopK", "kept_scores ranked", "out:scores best", {}),
        ("GatherElements", "order best", "best_order", {"axis": 1}),
        ("Unsqueeze", "best_order two", "best_at", {}),
        *(
            ("GatherND", f"{name} best_at", f"out:{name}", {"batch_dims": 1})
            for name in names
            if name != "scores"
        ),
    ]
    for kind, given, made, attributes in steps:
        inputs = [_PREFIX + name for name in given.split()]
        outputs = [
            name.removeprefix("out:") if name.startswith("out:") else _PREFIX + name
            for name in made.split()
        ]
        title = f"{_PREFIX}{kind}/{outputs[-1].removeprefix(_PREFIX)}"
        graph.node.append(helper.make_node(kind, inputs, outputs, title, **attributes))
    graph.initializer.extend(
        numpy_helper.from_array(value, _PREFIX + name) for name, value in constants.items()
    )
    for output in graph.output:
        rows = output.type.tensor_type.shape.dim[1]
        rows.Clear()
        rows.dim_param = "faces"
    return edited


def with_floor(model: Any, min_score: float) -> Any:
    """A copy of what `add_nms` has made, with another lowest score."""
    import onnx
    from onnx import numpy_helper

    other = onnx.ModelProto()
    other.CopyFrom(model)
    for tensor in other.graph.initializer:
        if tensor.name == f"{_PREFIX}floor":
            tensor.CopyFrom(numpy_helper.from_array(_floor(min_score), tensor.name))
    return other


def fix_size(model: Any, size: tuple[int, int]) -> Any:
    """A copy of a ModelProto that takes one image of one (height, width), and nothing else.

    What depends on the size alone, such as anchors, is computed now and stored.

    Raises:
        WeightsError: Some tensor's shape is still not known, other than what depends on which faces
            NMS keeps.
    """
    import onnx
    from onnxscript import optimizer

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    graph = fixed.graph
    for side, length in zip(graph.input[0].type.tensor_type.shape.dim, (1, 3, *size), strict=True):
        side.Clear()
        side.dim_value = length
    fixed = optimizer.optimize(
        _with_shapes(fixed),
        input_size_limit=_FOLDED_BYTES,
        output_size_limit=_FOLDED_BYTES,
    )
    fixed = _with_shapes(fixed)
    if still := sorted(set(open_dimensions(fixed)) - _chosen_late(fixed.graph)):
        raise WeightsError(
            f"the input {INPUT} was fixed at 1x3x{size[0]}x{size[1]}, and the file still has "
            f"tensors whose shapes are open: {', '.join(still[:3])}"
        )
    return fixed


def with_integer_kernels(model: Any) -> Any:
    """A copy of a quantized ModelProto that ONNX Runtime (1.21 on) computes in integers, too.

    Its integer convolution has one type and one scale for all channels on either side, and its
    output must be quantized at once; else it computes in floats between quantizers. NNCF mixes
    signed and unsigned tensors, gives each channel before a depthwise convolution its own scale,
    and leaves ReLU before quantizers. Here all tensors are unsigned; ReLU goes where the quantizer
    cuts at 0 by itself; and scales of channels move into the weights on both sides. Values stay
    what they are, but where channels have zero points of their own: there scales grow, at most
    to twice, until 128 is the zero point of all. Where scales of channels cannot move, tensors are
    signed, beside which floats remain: between two of one type ONNX Runtime takes them for one
    scale, and fails.
    """
    import onnx

    edited = onnx.ModelProto()
    edited.CopyFrom(model)
    quantized = _Quantized(edited.graph)
    for node in [node for node in edited.graph.node if node.op_type == "QuantizeLinear"]:
        quantized.simplify(node)
    used = {name for node in edited.graph.node for name in node.input}
    for tensor in [one for one in edited.graph.initializer if one.name not in used]:
        edited.graph.initializer.remove(tensor)
    del edited.graph.value_info[:]  # of types that are others now
    return edited


class _Quantized:
    """A graph with pairs of QuantizeLinear and DequantizeLinear, and who makes and takes what."""

    def __init__(self, graph: Any) -> None:
        from onnx import numpy_helper

        self.graph = graph
        self.values = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.takers: dict[str, list[Any]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self.takers[name].append(node)

    def simplify(self, node: Any) -> None:
        """Do what `with_integer_kernels` says with one QuantizeLinear."""
        scale, zero = (self.values[name] for name in node.input[1:])
        if zero.dtype == np.int8:
            zero = (zero.astype(np.int16) + 128).astype(np.uint8)
        source, relu = self.makers.get(node.input[0]), None
        if source and source.op_type == "Relu" and not zero.any() and self._alone(source):
            source, relu = self.makers.get(source.input[0]), source
        if scale.size > 1:
            targets = self._targets(node)
            if source is None or not self._foldable(source, targets):
                self._store_for(node, scale, (zero.astype(np.int16) - 128).astype(np.int8))
                return
            if zero.any():
                scale = scale * np.maximum(zero / 128, (255.0 - zero) / 127)
                zero = np.array(128, np.uint8)
            largest = scale.max()
            self._weigh(source, largest / scale, bias=True)
            for target in targets:
                self._weigh(target, scale / largest)
            scale, zero = np.array(largest, np.float32), zero.max()
        if relu is not None:
            node.input[0] = relu.input[0]
            self.graph.node.remove(relu)
        self._store_for(node, scale, zero)

    def _store_for(self, node: Any, scale: Any, zero: Any) -> None:
        """Keep the scale and zero point of a QuantizeLinear, and for those that read it back."""
        names = self._store(node.input[1], scale), self._store(node.input[2], zero)
        for one in (node, *self.takers[node.output[0]]):
            one.input[1], one.input[2] = names
            if scale.size == 1:
                del one.attribute[:]  # the axis

    def _alone(self, node: Any) -> bool:
        """Whether one node takes what this one makes."""
        return len(self.takers[node.output[0]]) == 1

    def _targets(self, node: Any) -> list[Any]:
        """What takes the values that a QuantizeLinear made, read back."""
        return [
            target
            for reader in self.takers[node.output[0]]
            for target in self.takers[reader.output[0]]
        ]

    def _foldable(self, source: Any, targets: list[Any]) -> bool:
        """Whether scales of channels can move: from a convolution to depthwise ones alone."""
        return self._alone(source) and all(
            one.op_type == "Conv"
            and len(self.takers[one.input[1]]) == 1
            and (one is source or self._weights(one).shape[1] == 1)
            for one in (source, *targets)
        )

    def _weights(self, convolution: Any) -> Any:
        """The values, as they are stored, (O, I, h, w)."""
        reader = self.makers.get(convolution.input[1])
        return self.values[convolution.input[1] if reader is None else reader.input[0]]

    def _weigh(self, convolution: Any, factors: Any, bias: bool = False) -> None:
        """Multiply what a convolution makes by factors of its channels, (O,)."""
        weights_or_scales = self.makers.get(convolution.input[1], convolution), 1
        biases = [(convolution, 2)] if bias and len(convolution.input) > 2 else []
        for node, at in [weights_or_scales, *biases]:
            old = self.values[node.input[at]]
            shaped = factors.reshape(-1, *(1,) * (old.ndim - 1))
            node.input[at] = self._store(node.input[at], (old * shaped).astype(old.dtype))

    def _store(self, like: str, value: Any) -> str:
        """Keep a tensor under a new name."""
        from onnx import numpy_helper

        name = next(
            each for count in itertools.count() if (each := f"{like}/{count}") not in self.values
        )
        self.values[name] = np.asarray(value)
        self.graph.initializer.append(numpy_helper.from_array(self.values[name], name))
        return name


def open_dimensions(model: Any) -> Iterator[str]:
    """Names of the tensors of a ModelProto with inferred shapes that have a free dimension."""
    graph = model.graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        shape = value.type.tensor_type.shape
        if any(not side.HasField("dim_value") for side in shape.dim):
            yield value.name


def _floor(min_score: float) -> Any:
    """The operator's threshold, above which scores are kept: one at `min_score` is."""
    return np.nextafter(np.array([min_score], np.float32), np.float32(0))


def _with_shapes(model: Any) -> Any:
    """The model with all shapes inferred anew from its input's."""
    from onnx import shape_inference

    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return shape_inference.infer_shapes(model, data_prop=True, strict_mode=True)


def _chosen_late(graph: Any) -> set[str]:
    """Tensors of NMS that have one row a face: how many there are is known when they are found."""
    found: set[str] = set()
    for node in graph.node:
        kept = bool(found & set(node.input)) and node.op_type != "ScatterND"
        if node.op_type == "NonMaxSuppression" or kept:
            found.update(node.output)
    return found


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Give tensors other names wherever they are made and taken; outputs keep theirs."""
    for node in graph.node:
        for group in (node.input, node.output):
            for index, name in enumerate(group):
                group[index] = names.get(name, name)
    for value in graph.value_info:
        value.name = names.get(value.name, value.name)
