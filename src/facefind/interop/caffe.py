"""Caffe's `.caffemodel` files, read without Caffe: weights and biases by the layer's name.

A file is one protobuf message. Of all that it says only layers, their names, and the shapes and
numbers of their blobs are looked at; field numbers are those of Caffe's `caffe.proto`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from facefind.errors import WeightsError
from facefind.runtimes.protobuf import fields, varints

__all__ = ["SUFFIXES", "read_layers"]

SUFFIXES = (".caffemodel", ".npz")
"""The kinds of files that `read_layers` takes."""

_LAYER, _OLD_LAYER = 100, 2  # fields of NetParameter
_NAME_AND_BLOBS = {_LAYER: (1, 7), _OLD_LAYER: (4, 6)}
_BLOB_DATA, _BLOB_SHAPE = 5, 7
_OLD_SHAPE = (1, 2, 3, 4)  # a blob's number, channels, height, width, before it had a shape


def read_layers(path: str | Path) -> dict[str, NDArray[np.float32]]:
    """Weights and biases of a .caffemodel, or an .npz of them, as `LAYER.weight`, `LAYER.bias`.

    Raises:
        WeightsError: if the file is missing or is no such thing.
    """
    source = Path(path)
    expected = f"expected a {' or '.join(SUFFIXES)} with a network's layers"
    if not source.is_file():
        raise WeightsError(f"no file {source}; {expected}")
    try:
        if source.suffix == ".npz":
            with np.load(source) as arrays:
                found = {name: arrays[name].astype(np.float32) for name in arrays.files}
        else:
            found = dict(_arrays(memoryview(source.read_bytes())))
    except (OSError, EOFError, IndexError, ValueError, BadZipFile) as error:
        raise WeightsError(f"{source} cannot be read: {error}; {expected}") from error
    if not found:
        raise WeightsError(f"{source} holds no weights; {expected}")
    return found


def _arrays(data: memoryview) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for number, value in fields(data):
        if number in _NAME_AND_BLOBS and isinstance(value, memoryview):
            name, blobs = _layer(value, *_NAME_AND_BLOBS[number])
            for part, blob in zip(("weight", "bias"), blobs, strict=False):
                yield f"{name}.{part}", blob


def _layer(
    data: memoryview, name_field: int, blob_field: int
) -> tuple[str, list[NDArray[np.float32]]]:
    name, blobs = "", []
    for number, value in fields(data):
        if isinstance(value, memoryview) and number == name_field:
            name = bytes(value).decode()
        elif isinstance(value, memoryview) and number == blob_field:
            blobs.append(_blob(value))
    return name, blobs


def _blob(data: memoryview) -> NDArray[np.float32]:
    shape: list[int] = []
    old: list[int] = []
    parts: list[bytes] = []
    for number, value in fields(data):
        if number in _OLD_SHAPE and isinstance(value, int):
            old.append(value)
        elif number == _BLOB_DATA and isinstance(value, memoryview):
            parts.append(bytes(value))
        elif number == _BLOB_SHAPE and isinstance(value, memoryview):
            shape = [dim for _, dims in fields(value) for dim in varints(dims)]
    return np.frombuffer(b"".join(parts), "<f4").astype(np.float32).reshape(shape or old or [-1])
