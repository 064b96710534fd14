"""The metadata of an ONNX file, read from its bytes without any ONNX library."""

from __future__ import annotations

from pathlib import Path

from facefind.errors import WeightsError

_METADATA_PROPS = 14  # field number of ModelProto.metadata_props
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of protocol buffers


def metadata(path: str | Path) -> dict[str, str]:
    """Return the metadata of an ONNX file as a dictionary of strings.

    Only the outermost fields of the file are walked, so the weights are never parsed.
    A missing file, or one that is no ONNX model, raises WeightsError.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"cannot read the model file {path}: {error.strerror}") from error
    found: dict[str, str] = {}
    fields = set()
    try:
        for number, value in _fields(memoryview(content)):
            fields.add(number)
            if number == _METADATA_PROPS:
                entry = dict(_fields(memoryview(value)))
                found[bytes(entry.get(1, b"")).decode()] = bytes(entry.get(2, b"")).decode()
    except (ValueError, IndexError) as error:
        raise WeightsError(_not_onnx(path, content)) from error
    if not {1, 7} <= fields:  # ir_version and graph, which every model has
        raise WeightsError(_not_onnx(path, content))
    return found


def _fields(data: memoryview) -> list[tuple[int, memoryview | bytes]]:
    """Return (field number, raw value) of each field of one protocol-buffer message."""
    result: list[tuple[int, memoryview | bytes]] = []
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        start = at
        if wire == _VARINT:
            _, at = _varint(data, at)
        elif wire == _FIXED64:
            at += 8
        elif wire == _FIXED32:
            at += 4
        elif wire == _BYTES:
            length, start = _varint(data, at)
            at = start + length
        else:
            raise ValueError(f"unknown wire type {wire}")
        if number == 0 or at > len(data):
            raise ValueError("broken field")
        result.append((number, data[start:at]))
    return result


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return (value, position after it) of the variable-length integer at a position."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("broken integer")


def _not_onnx(path: Path, content: bytes) -> str:
    if content.startswith(b"version https://git-lfs"):
        return f"{path} is a Git LFS pointer and not the model itself: run `git lfs pull`"
    if content.startswith(b"PK\x03\x04"):
        return f"{path} is no ONNX model but looks like a torch checkpoint: export it to ONNX first"
    begin = content[:8].hex(" ") or "nothing"
    return f"{path} is no ONNX model ({len(content)} bytes, beginning with {begin})"
