"""Changes the graphs of exported ONNX files: NMS at the end of them, or one input size for good.

All that is added are operators of ONNX itself, opset 18: no runtime needs anything of facefind.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from facefind.errors import WeightsError
from facefind.runtimes.card import Suppression
from facefind.runtimes.native import INPUT

__all__ = ["add_nms", "fix_size", "open_dimensions", "with_floor"]

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
