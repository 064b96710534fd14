"""Writes a network as an ONNX file that every runtime can open, checked before it is kept."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facefind.errors import WeightsError
from facefind.files import scratch
from facefind.runtimes import METADATA_KEY, STATISTICS_KEY, Card, open_model
from facefind.runtimes.agreement import check_same, checkers
from facefind.runtimes.native import INPUT, outputs
from facefind.runtimes.onnx_file import metadata

if TYPE_CHECKING:
    from facefind.nn.detector import DenseDetector

__all__ = ["export", "relabel", "save"]

OPSET = 18


def export(network: DenseDetector, path: str | Path, card: Card, *, seed: int = 0) -> Path:
    """Write a network as an ONNX file under the runtimes' contract and return its path.

    The file takes `image` (B, 3, H, W) uint8 RGB of any batch, height and width (of one size where
    the card says so), normalizes and decodes by itself and carries its card. Before it takes its
    name it is checked by onnx and compared with the network on random images of several sizes, one
    and three at a time, in every runtime that is installed. The network is left as it was. What
    folding loses of its batch normalizations goes along, so that training can go on from the file.

    Args:
        network: What is exported; its `candidates` are the file's outputs.
        path: Where the file goes; what is there is replaced.
        card: The card to carry. What a runtime must know is set by the network; `parameters` and
            `multiply_adds` are counted where they are None.
        seed: Of the random images.

    Raises:
        WeightsError: The file differs from the network; nothing is written then.
        RuntimeUnavailableError: Neither onnxruntime nor OpenVINO is installed to check it.
    """
    runtimes = checkers()
    from facefind.nn.statistics import pack

    path = Path(path)
    network = copy.deepcopy(network).cpu().float().eval()
    card = _completed(network, card)
    model = _to_onnx(network, card)
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch(path) as folder:
        draft = folder / path.name
        save(model, draft, card, pack(network))
        reference = open_model(network, card=card)
        for name in runtimes:
            check_same(reference, open_model(draft, name), seed)
        os.replace(draft, path)
    return path


def relabel(path: str | Path, card: Card, statistics: str | None = None) -> Path:
    """Write another card into an exported file, such as one with new results; return its path.

    What a runtime must know (strides, sizes, landmarks) has to stay as it was, or WeightsError is
    raised. The statistics of batch normalization, as `nn.statistics.pack` gives them, stay where
    none are given.
    """
    import onnx

    path = Path(path)
    old = Card.of_export(path)
    for key in (
        "system",
        "strides",
        "size_multiple",
        "fixed_size",
        "landmarks",
        "mesh",
        "color_order",
        "suppression",
    ):
        if getattr(old, key) != getattr(card, key):
            raise WeightsError(
                f"{key} belongs to the file {path} ({getattr(old, key)}) and cannot be relabeled "
                f"as {getattr(card, key)}"
            )
    kept = metadata(path).get(STATISTICS_KEY, "") if statistics is None else statistics
    with scratch(path) as folder:
        draft = folder / path.name
        save(onnx.load(str(path)), draft, card, kept)
        os.replace(draft, path)
    return path


def _completed(network: DenseDetector, card: Card) -> Card:
    """Return the card with what can be counted or seen on the network itself."""
    import torch

    from facefind.nn.cost import measure

    side = 2 * network.size_multiple  # torch refuses to normalize a group of one value
    height, width = card.fixed_size or (side, side)
    with torch.inference_mode():
        found = network.candidates(torch.zeros(1, 3, height, width, dtype=torch.uint8))
    card = replace(
        card,
        system=network.system,
        strides=network.strides,
        size_multiple=network.size_multiple,
        landmarks=found.landmarks is not None,
        mesh=network.mesh_decoder,
    )
    if card.parameters is None or card.multiply_adds is None:
        cost = measure(network, *(card.fixed_size or (480, 640)))
        card = replace(
            card,
            parameters=cost.parameters if card.parameters is None else card.parameters,
            multiply_adds=(
                cost.multiply_adds if card.multiply_adds is None else card.multiply_adds
            ),
        )
    return card


def _to_onnx(network: DenseDetector, card: Card) -> Any:
    """Return the network as an ONNX ModelProto, normalization folded, nothing but the graph."""
    import torch
    from torch import nn
    from torch.export import Dim

    class Decoded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(t for t in self.network.candidates(image) if t is not None)

    side = card.size_multiple
    # Sizes that differ from each other and from 1: none is taken for another or for a constant.
    height, width = card.fixed_size or (3 * side, 5 * side)
    example = torch.zeros(2, 3, height, width, dtype=torch.uint8)
    free = {0: Dim("batch")}
    if card.fixed_size is None:
        free |= {2: side * Dim("rows"), 3: side * Dim("columns")}
    with _quiet():
        program = torch.onnx.export(
            Decoded().eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=outputs(card),
            dynamic_shapes={INPUT: free},
            optimize=True,
            verbose=False,
        )
    if program is None:
        raise WeightsError("torch gave no ONNX program for this network")
    return program.model_proto


def save(model: Any, path: Path, card: Card, statistics: str = "") -> None:
    """Write a ModelProto with its card and without the exporter's notes on how it was made."""
    import onnx

    # The notes hold source lines and paths of the machine that exported.
    for part in (model.graph, *model.functions):
        _strip(part)
        for group in ("node", "value_info", "input", "output", "initializer"):
            for item in getattr(part, group, ()):
                _strip(item)
    _strip(model)
    carried = {METADATA_KEY: card.to_json(), STATISTICS_KEY: statistics}
    onnx.helper.set_model_props(model, {key: text for key, text in carried.items() if text})
    model.producer_name = "facefind"
    model.producer_version = ""
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def _strip(item: Any) -> None:
    item.doc_string = ""
    if hasattr(item, "metadata_props"):
        del item.metadata_props[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's warnings and log lines, which are about its own inside, to itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
