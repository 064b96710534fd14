"""The metadata of an ONNX file, read from its bytes without any ONNX library."""

from __future__ import annotations

from pathlib import Path

from facefind.errors import WeightsError
from facefind.runtimes.protobuf import fields

_METADATA_PROPS = 14  # field number of ModelProto.metadata_props


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
    seen = set()
    try:
        for number, value in fields(memoryview(content)):
            seen.add(number)
            if number == _METADATA_PROPS and isinstance(value, memoryview):
                entry = dict(fields(value))
                found[_text(entry.get(1))] = _text(entry.get(2))
    except (ValueError, IndexError) as error:
        raise WeightsError(_not_onnx(path, content)) from error
    if not {1, 7} <= seen:  # ir_version and graph, which every model has
        raise WeightsError(_not_onnx(path, content))
    return found


def _text(value: int | memoryview | None) -> str:
    return bytes(value).decode() if isinstance(value, memoryview) else ""


def _not_onnx(path: Path, content: bytes) -> str:
    if content.startswith(b"version https://git-lfs"):
        return f"{path} is a Git LFS pointer and not the model itself: run `git lfs pull`"
    if content.startswith(b"PK\x03\x04"):
        return f"{path} is no ONNX model but looks like a torch checkpoint: export it to ONNX first"
    start = content[:8].hex(" ") or "nothing"
    return f"{path} is no ONNX model ({len(content)} bytes, starting with {start})"
