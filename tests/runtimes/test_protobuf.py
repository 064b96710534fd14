"""Messages of protocol buffers, walked without a library: against what protobuf itself writes."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto

from facefind.runtimes.protobuf import fields, varints


@given(st.text(), st.integers(-(2**63), 2**63 - 1), st.floats(width=32, allow_nan=False))
def test_fields_are_those_that_were_written(name: str, number: int, real: float) -> None:
    message = AttributeProto(name=name, i=number, f=real)
    found = dict(fields(memoryview(message.SerializeToString())))
    if name:
        assert bytes(found[1]).decode() == name  # type: ignore[arg-type]
    assert int(found[3]) == number % 2**64  # type: ignore[arg-type]
    assert message.FromString(b"\x15" + bytes(found[2])).f == real  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 2**31 - 1)))
def test_packed_and_single_numbers_read_alike(dims: list[int]) -> None:
    packed = TensorProto(int32_data=dims).SerializeToString()
    assert [n for _, value in fields(memoryview(packed)) for n in varints(value)] == dims
    single = FileDescriptorProto(public_dependency=dims).SerializeToString()
    assert [n for _, value in fields(memoryview(single)) for n in varints(value)] == dims


@pytest.mark.parametrize(
    "broken", [b"\x0a\x05ab", b"\x0d\x01", b"\x03", b"\x00\x00", b"\x08" + b"\xff" * 11]
)
def test_what_is_no_message_is_refused(broken: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        list(fields(memoryview(broken)))
