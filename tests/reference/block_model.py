"""A model that any reader can compute by hand, as ONNX, as a torch network and in NumPy.

A cell of 32x32 pixels is a face, and its score is the mean of its three channels over 255.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from facefind.runtimes import METADATA_KEY, Candidates, Card

CELL = 32
POINTS = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)], np.float32) * CELL


def card(name: str = "blocks", landmarks: bool = True, **changes: Any) -> Card:
    return Card(name=name, system="blocks", strides=(CELL,), landmarks=landmarks, **changes)


def candidates(images: NDArray[np.uint8]) -> Candidates:
    """What the model gives, computed in NumPy."""
    batch, _, height, width = images.shape
    rows, columns = height // CELL, width // CELL
    cells = images.astype(np.float64).reshape(batch, 3, rows, CELL, columns, CELL)
    scores = cells.mean((1, 3, 5)).reshape(batch, -1) / 255
    corner = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2) * CELL
    boxes = np.concatenate([corner, corner + CELL], 1)
    points = corner[:, None] + POINTS
    return Candidates(
        np.tile(boxes, (batch, 1, 1)).astype(np.float32),
        scores.astype(np.float32),
        np.tile(points, (batch, 1, 1, 1)).astype(np.float32),
    )


def write(path: Path, given: Card | None = None) -> Path:
    """Write the model as an ONNX file under the contract, node by node, and return its path."""
    given = given or card(path.stem)
    constants = {
        "cell": np.float32(CELL),
        "full": np.float32(255),
        "zero": np.int64(0),
        "one": np.int64(1),
        "flat": np.array([-1, 2], np.int64),
        "list": np.array([0, -1], np.int64),
        "last": np.array([-1], np.int64),
        "first": np.array([0], np.int64),
        "second": np.array([1], np.int64),
        "points": POINTS[None],
        "axes": np.array([1], np.int64),
        "box_tail": np.array([4], np.int64),
        "point_tail": np.array([5, 2], np.int64),
    }

    def node(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(kind, inputs.split(), [output], **attributes)

    nodes = [
        node("Cast", "image", "x", to=TensorProto.FLOAT),
        node("ReduceMean", "x axes", "gray", keepdims=1),
        node("AveragePool", "gray", "mean", kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
        node("Div", "mean full", "level"),
        node("Reshape", "level list", "scores"),
        node("Shape", "mean", "batch", start=0, end=1),
        node("Shape", "mean", "rows", start=2, end=3),
        node("Shape", "mean", "columns", start=3, end=4),
        node("Shape", "scores", "count", start=1, end=2),
        node("Squeeze", "rows first", "rows0"),
        node("Squeeze", "columns first", "columns0"),
        node("Range", "zero rows0 one", "i"),
        node("Range", "zero columns0 one", "j"),
        node("Unsqueeze", "i second", "i1"),
        node("Unsqueeze", "j first", "j1"),
        node("Concat", "rows columns", "grid", axis=0),
        node("Expand", "j1 grid", "x_cells"),
        node("Expand", "i1 grid", "y_cells"),
        node("Unsqueeze", "x_cells last", "x_last"),
        node("Unsqueeze", "y_cells last", "y_last"),
        node("Concat", "x_last y_last", "cells", axis=2),
        node("Reshape", "cells flat", "cells_flat"),
        node("Cast", "cells_flat", "cells_float", to=TensorProto.FLOAT),
        node("Mul", "cells_float cell", "low"),
        node("Add", "low cell", "high"),
        node("Concat", "low high", "one_boxes", axis=1),
        node("Concat", "batch count box_tail", "boxes_shape", axis=0),
        node("Expand", "one_boxes boxes_shape", "boxes"),
    ]
    outputs = {"boxes": ["B", "A", 4], "scores": ["B", "A"]}
    if given.landmarks:
        nodes += [
            node("Unsqueeze", "low second", "low1"),
            node("Add", "low1 points", "one_points"),
            node("Concat", "batch count point_tail", "points_shape", axis=0),
            node("Expand", "one_points points_shape", "landmarks"),
        ]
        outputs["landmarks"] = ["B", "A", 5, 2]
    height, width = given.fixed_size or ("H", "W")
    graph = helper.make_graph(
        nodes,
        "blocks",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["B", 3, height, width])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: given.to_json()})
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return path


def network(landmarks: bool = True) -> Any:
    """The model as a torch network."""
    import torch
    from torch import nn

    from facefind.nn.detector import Decoded

    class Blocks(nn.Module):
        system, strides, size_multiple, mesh_decoder = "blocks", (CELL,), CELL, ""

        def __init__(self) -> None:
            super().__init__()
            self.mean = nn.Conv2d(3, 1, CELL, CELL, bias=False)
            nn.init.constant_(self.mean.weight, 1 / (3 * CELL * CELL * 255))
            self.register_buffer("points", torch.from_numpy(POINTS))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.mean(images.to(self.mean.weight.dtype))

        def candidates(self, images: torch.Tensor) -> Decoded:
            level = self(images)
            batch, _, rows, columns = level.shape
            y = torch.arange(rows)[:, None].expand(rows, columns)
            x = torch.arange(columns)[None].expand(rows, columns)
            low = torch.stack([x, y], -1).reshape(-1, 2) * CELL
            boxes = torch.cat([low, low + CELL], 1).float().expand(batch, -1, 4)
            points = (low[:, None] + self.points).expand(batch, -1, 5, 2)
            return Decoded(boxes, level.reshape(batch, -1), points if landmarks else None)

    return Blocks()


def picture(height: int, width: int, *cells: tuple[int, int]) -> NDArray[np.uint8]:
    """A black image (H, W, 3) with white cells at the given (row, column)."""
    image = np.zeros((height, width, 3), np.uint8)
    for row, column in cells:
        image[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = 255
    return image
