"""Messages of protocol buffers, walked field by field without any library.

Serves every file that is one such message: ONNX models, and Caffe's weights.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["fields", "varints"]

_VARINT, _BYTES, _FIXED = 0, 2, {1: 8, 5: 4}  # wire types, with the bytes of the fixed ones


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message, in order: a varint as an int, all else as bytes.

    Nested messages are bytes too: call this on them.

    Raises:
        ValueError: the bytes are no message, or end within a field.
        IndexError: they end within a number.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise ValueError("a field has the number 0")
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _varint(message, at)
        elif wire in _FIXED:
            length = _FIXED[wire]
        else:
            raise ValueError(f"a field has the unknown wire type {wire}")
        if at + length > len(message):
            raise ValueError("the message ends within a field")
        yield number, message[at : at + length]
        at += length


def varints(value: int | memoryview) -> Iterator[int]:
    """Numbers of a repeated integer field's value, whether it is one number or many packed."""
    if isinstance(value, int):
        yield value
        return
    at = 0
    while at < len(value):
        number, at = _varint(value, at)
        yield number


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number of seven bits a byte that starts at a position, and the position after it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number has more than 64 bits")
