"""ONNX files read from their bytes without any ONNX library: metadata, nodes and weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facefind.errors import WeightsError
from facefind.runtimes.protobuf import fields, varints

__all__ = ["Graph", "Node", "metadata", "read_graph"]

# Field numbers of ModelProto, GraphProto, NodeProto and TensorProto.
_IR_VERSION, _GRAPH, _METADATA_PROPS = 1, 7, 14
_NODE, _INITIALIZER = 1, 5
_INPUT, _OUTPUT, _KIND = 1, 2, 4
_DIMS, _DATA_TYPE, _FLOATS, _NAME, _RAW, _EXTERNAL = 1, 2, 4, 8, 9, 13
_FLOAT32, _FLOAT16 = 1, 10
_WEIGHTS = {_FLOAT32: "<f4", _FLOAT16: "<f2"}


class Node(NamedTuple):
    """An operation: its type, such as `Conv`, and the names of what it takes and gives."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Graph(NamedTuple):
    """What an ONNX file computes: its nodes in the order in which they run, and its weights.

    Attributes:
        nodes: the operations of the main graph.
        weights: float32 arrays by name; constants of other types are left out.
    """

    nodes: list[Node]
    weights: dict[str, NDArray[np.float32]]


def metadata(path: str | Path) -> dict[str, str]:
    """Return the metadata of an ONNX file as a dictionary of strings.

    Only the outermost fields of the file are walked, so the weights are never parsed.
    A missing file, or one that is no ONNX model, raises WeightsError.
    """
    found = {}
    for number, value in _model(Path(path)):
        if number == _METADATA_PROPS and isinstance(value, memoryview):
            entry = dict(fields(value))
            found[_text(entry.get(1))] = _text(entry.get(2))
    return found


def read_graph(path: str | Path) -> Graph:
    """Return the nodes and weights of an ONNX file.

    Raises:
        WeightsError: The file is missing or no ONNX model, or its weights are in another file.
    """
    path = Path(path)
    nodes: list[Node] = []
    weights: dict[str, NDArray[np.float32]] = {}
    for number, graph in _model(path):
        if number != _GRAPH or not isinstance(graph, memoryview):
            continue
        try:
            for kind, item in fields(graph):
                if kind == _NODE and isinstance(item, memoryview):
                    nodes.append(_node(item))
                elif kind == _INITIALIZER and isinstance(item, memoryview):
                    weights |= dict(_weight(item))
        except (ValueError, IndexError) as error:
            raise WeightsError(f"the graph of {path} cannot be read: {error}") from error
    return Graph(nodes, weights)


def _model(path: Path) -> list[tuple[int, int | memoryview]]:
    """The outermost fields of an ONNX file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"cannot read the model file {path}: {error.strerror}") from error
    try:
        found = list(fields(memoryview(content)))
    except (ValueError, IndexError) as error:
        raise WeightsError(_not_onnx(path, content)) from error
    if not {_IR_VERSION, _GRAPH} <= {number for number, _ in found}:  # which every model has
        raise WeightsError(_not_onnx(path, content))
    return found


def _node(message: memoryview) -> Node:
    names: dict[int, list[str]] = {_INPUT: [], _OUTPUT: [], _KIND: []}
    for number, value in fields(message):
        if number in names and isinstance(value, memoryview):
            names[number].append(_text(value))
    return Node("".join(names[_KIND]), tuple(names[_INPUT]), tuple(names[_OUTPUT]))


def _weight(message: memoryview) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Name and array of a tensor of floating-point numbers; nothing of another."""
    shape: list[int] = []
    single: dict[int, int | memoryview] = {}
    floats: list[NDArray[np.float32]] = []
    for number, value in fields(message):
        if number == _DIMS:
            shape += varints(value)
        elif number == _FLOATS and isinstance(value, memoryview):  # packed, or one a field
            floats.append(np.frombuffer(value, "<f4"))
        else:
            single[number] = value
    name, raw, kind = _text(single.get(_NAME)), single.get(_RAW), single.get(_DATA_TYPE)
    if kind not in _WEIGHTS:
        return
    if _EXTERNAL in single:
        raise ValueError(f"the weights of {name} are in another file")
    if isinstance(raw, memoryview):
        values = np.frombuffer(raw, _WEIGHTS[int(kind)])
    elif kind == _FLOAT32 and (floats or 0 in shape):
        values = np.concatenate(floats or [np.empty(0, "<f4")])
    else:
        raise ValueError(f"the weights of {name} are neither raw bytes nor float32 numbers")
    yield name, values.reshape(shape).astype(np.float32)


def _text(value: int | memoryview | None) -> str:
    return bytes(value).decode() if isinstance(value, memoryview) else ""


def _not_onnx(path: Path, content: bytes) -> str:
    if content.startswith(b"version https://git-lfs"):
        return f"{path} is a Git LFS pointer and not the model itself: run `git lfs pull`"
    if content.startswith(b"PK\x03\x04"):
        return f"{path} is no ONNX model but looks like a torch checkpoint: export it to ONNX first"
    start = content[:8].hex(" ") or "nothing"
    return f"{path} is no ONNX model ({len(content)} bytes, starting with {start})"
