"""Writes a model repository for Triton Inference Server: <folder>/<model>/1/model.onnx, its config.

    python deploy/triton/layout.py models scrfd-2.5g-kps retinaface-mobile
    tritonserver --model-repository=models

Inputs and outputs are those of the file. Pictures of one size that come within 5 ms go through
together, up to 8. `deploy/triton/client.py` is a detector over such a server.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import onnx

from facefind import weights

TYPES = {
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.UINT8: "TYPE_UINT8",
    onnx.TensorProto.FLOAT16: "TYPE_FP16",
}
MOST = 8


def write(folder: Path, model: str) -> Path:
    """The folder of a model, by name or file, with its config and one version."""
    source = weights.find(model)
    place = folder / source.stem
    (place / "1").mkdir(parents=True)
    shutil.copy(source, place / "1" / "model.onnx")
    (place / "config.pbtxt").write_text(config(source), encoding="utf-8")
    return place


def config(source: Path) -> str:
    """The text of config.pbtxt for an exported file, whose first dimension is the batch."""
    graph = onnx.load(source).graph
    lines = [
        f'name: "{source.stem}"',
        'platform: "onnxruntime_onnx"',
        f"max_batch_size: {MOST}",
        *(text for port in graph.input for text in _port("input", port)),
        *(text for port in graph.output for text in _port("output", port)),
        "dynamic_batching { max_queue_delay_microseconds: 5000 }",
    ]
    return "\n".join(lines) + "\n"


def _port(kind: str, port: onnx.ValueInfoProto) -> list[str]:
    tensor = port.type.tensor_type
    dims = [str(d.dim_value or -1) for d in tensor.shape.dim][1:]
    fields = f'name: "{port.name}" data_type: {TYPES[tensor.elem_type]} dims: [{", ".join(dims)}]'
    return [f"{kind} {{ {fields} }}"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="+")
    options = parser.parse_args()
    for name in options.models:
        print(write(options.folder, name))
