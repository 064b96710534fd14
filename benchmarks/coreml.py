"""Converts networks with random weights to Core ML programs, and says which convert.

Made in an environment of its own, for coremltools is no dependency:

    python -m venv coreml && coreml/bin/pip install coremltools torch -e '.[cv]'
    coreml/bin/python benchmarks/coreml.py scrfd-500m-kps retinaface-mobile-mesh

Prediction needs a Mac: what is checked is that the converter takes every operator.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import coremltools as ct
import torch

from facefind import recipes

SIZE = (480, 640)


class Candidates(torch.nn.Module):
    """A network whose outputs are tensors, of floats that Core ML takes."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(t for t in self.network.candidates(image) if t is not None)


def convert(name: str) -> str:
    network = Candidates(recipes.get(name).network.build().eval()).eval()
    image = torch.zeros(1, 3, *SIZE)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = network(image)
        exported = torch.export.export(network, (image,)).run_decompositions({})
        graph = exported.graph_module.graph
        for node in list(graph.nodes):  # the converter does not know this one, which does nothing
            if node.op == "call_function" and node.target == torch.ops.aten.alias.default:
                node.replace_all_uses_with(node.args[0])
                graph.erase_node(node)
        start = time.perf_counter()
        program = ct.convert(
            exported,
            minimum_deployment_target=ct.target.iOS16,
            convert_to="mlprogram",
            skip_model_load=True,
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{name}.mlpackage"
        program.save(str(file))
        size = sum(part.stat().st_size for part in file.rglob("*") if part.is_file())
    return f"{time.perf_counter() - start:.0f} s, {size / 1e6:.1f} MB, {len(expected)} outputs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="+")
    for name in parser.parse_args().recipe:
        try:
            print(f"{name}: converted, {convert(name)}", flush=True)
        except Exception as error:  # the converter raises many kinds
            print(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:200]}", flush=True)


if __name__ == "__main__":
    main()
