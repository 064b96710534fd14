"""Published SCRFDs and our networks: names and weights, both ways.

The official files come in two kinds: mmdetection's `.pth`, whose names are mapped here, and
ONNX files, whose backbones have lost their names and whose batch normalization is folded. Those are
loaded in the order in which both networks run their layers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from facefind import recipes
from facefind.errors import WeightsError
from facefind.interop.formats import Format, fitting, read_graph, read_state
from facefind.learn.recipe import Recipe
from facefind.nn.detector import DenseDetector
from facefind.nn.onnx_weights import graph_layers, match
from facefind.systems.scrfd import ROWS

State = Mapping[str, Tensor]

LICENSE = "non-commercial research only, as InsightFace states of its weights"

_LEFTOVER = "bbox_head.integral.project"  # buffer of a loss that no published model uses
_LEFTOVER_SIZE = 9
_NECK = re.compile(r"neck\.(\w+_convs\.\d+)\.(weight|bias)")
_THEIR_NECK = re.compile(r"neck\.(\w+_convs\.\d+)\.conv\.(weight|bias)")
_TOWER = re.compile(r"head\.towers\.(\d+)\.(\d+)\.(\d)\.(\w+)")
_THEIR_TOWER = re.compile(
    r"bbox_head\.cls_stride_convs\.(0|\(\d+, \d+\))\.(\d+)"
    r"\.(?:(depthwise|pointwise)_conv\.)?(conv|gn|bn)\.(\w+)"
)
_OUTPUTS = {"cls": "cls", "box": "reg", "landmarks": "kps"}  # ours and theirs
_OUTPUT = re.compile(r"head\.(cls|box|landmarks)\.(\d+)\.(weight|bias)")
_THEIR_OUTPUT = re.compile(r"bbox_head\.stride_(cls|reg|kps)\.(0|\(\d+, \d+\))\.(weight|bias)")


def from_mmdet(state: State) -> dict[str, Tensor]:
    """A state dict of the authors' SCRFD in our names, in the same order.

    Raises:
        WeightsError: if a name is not one of theirs.
    """
    return {_ours(name): value for name, value in state.items() if name != _LEFTOVER}


def to_mmdet(state: State) -> dict[str, Tensor]:
    """Our state dict in the names of the authors' SCRFD, complete for a strict load there.

    Raises:
        WeightsError: if a name is not one of an SCRFD of ours.
    """
    shared = "head.cls.1.weight" not in state
    norm = "bn" if any(_is_statistic(name) for name in state) else "gn"
    depthwise = "head.towers.0.0.3.weight" in state
    found = {_theirs(name, shared, norm, depthwise): value for name, value in state.items()}
    found[_LEFTOVER] = torch.linspace(0, _LEFTOVER_SIZE - 1, _LEFTOVER_SIZE)
    return found


def _is_statistic(name: str) -> bool:
    return name.startswith("head.towers.") and name.endswith("running_mean")


def _ours(name: str) -> str:
    """Our name of one of theirs."""
    if name.startswith("backbone."):
        return name
    if match := _THEIR_NECK.fullmatch(name):
        return f"neck.{match[1]}.{match[2]}"
    if match := _THEIR_TOWER.fullmatch(name):
        stride, block, half, layer, value = match.groups()
        place = 3 * (half == "pointwise") + (layer != "conv")
        return f"head.towers.{_level(stride)}.{block}.{place}.{value}"
    if match := _THEIR_OUTPUT.fullmatch(name):
        part = next(ours for ours, theirs in _OUTPUTS.items() if theirs == match[1])
        return f"head.{part}.{_level(match[2])}.{match[3]}"
    if re.fullmatch(r"bbox_head\.scales\.\d+\.scale", name):
        return name.removeprefix("bbox_")
    hint = ""
    if "reg_stride_convs" in name:
        hint = "; towers that classification and boxes do not share are not known here"
    raise WeightsError(f"{name!r} is no name of a published SCRFD{hint}")


def _theirs(name: str, shared: bool, norm: str, depthwise: bool) -> str:
    """Their name of one of ours."""
    if name.startswith("backbone."):
        return name
    if match := _NECK.fullmatch(name):
        return f"neck.{match[1]}.conv.{match[2]}"
    if match := _TOWER.fullmatch(name):
        copy, block, place, value = match.groups()
        half = ("depthwise_conv.", "pointwise_conv.")[int(place) // 3] if depthwise else ""
        layer = norm if int(place) % 3 else "conv"
        return f"bbox_head.cls_stride_convs.{_stride(copy, shared)}.{block}.{half}{layer}.{value}"
    if match := _OUTPUT.fullmatch(name):
        return f"bbox_head.stride_{_OUTPUTS[match[1]]}.{_stride(match[2], shared)}.{match[3]}"
    if name.startswith("head.scales."):
        return f"bbox_{name}"
    raise WeightsError(f"{name!r} is no name of an SCRFD of facefind")


def _level(stride: str) -> int:
    """The level of the key `0` (all levels share it) or `(8, 8)`, `(16, 16)`, ..."""
    return 0 if stride == "0" else int(stride[1:].partition(",")[0]).bit_length() - 4


def _stride(copy: str, shared: bool) -> str:
    side = 8 << int(copy)
    return "0" if shared else f"({side}, {side})"


def recognize(state: State) -> str:
    """The row whose network has exactly the names and shapes of a state dict in our names.

    Raises:
        WeightsError: as `fitting`.
    """
    return fitting(state, ROWS, "SCRFD of ours")


def load_mmdet(path: str | Path) -> tuple[str, DenseDetector]:
    """The row and network of an official `.pth` file, in eval mode.

    Raises:
        WeightsError: if the file cannot be read or holds no SCRFD.
    """
    row, state = _read_mmdet(Path(path))
    network = ROWS[row].build()
    network.load_state_dict(state)
    return row, network.eval()


def released_recipe(row: str) -> Recipe:
    """The recipe of a row's released training, or the paper's where no training was released."""
    name = f"{row.removesuffix('-released')}-released"
    return recipes.get(name if name in recipes.names() else row)


def _read_mmdet(path: Path) -> tuple[str, dict[str, Tensor]]:
    ours = from_mmdet(read_state(path, "a .pth of the authors' SCRFD"))
    return recognize(ours), ours


def load_onnx(path: str | Path, row: str) -> DenseDetector:
    """The row's network with the weights of a published ONNX file of that row, in eval mode.

    Layers are matched in the order in which they run; shapes, and the names that the file kept in
    neck and head, must agree. Batch normalization that the file has folded is neutral
    (`nn.onnx_weights.match`): freeze it, or measure its statistics, before training goes on.

    Args:
        path: the file.
        row: a name in `ROWS`.

    Raises:
        WeightsError: if the file's layers are not those of the row.
    """
    if row not in ROWS:
        raise WeightsError(f"there is no row {row!r}; there are {', '.join(ROWS)}")
    network = ROWS[row].build()
    try:
        found = match(network, read_graph(Path(path)))
    except WeightsError as error:
        raise WeightsError(f"{path} is no {row}: {error}") from error
    for name, key in found.origins.items():
        kept = name.endswith(".weight") and key.startswith(("neck.", "bbox_head."))
        if kept and _ours(key) != name:
            raise WeightsError(f"{path} is no {row}: found {key}, expected {name}")
    network.load_state_dict(network.state_dict() | found.state)
    return network.eval()


def _read_onnx(path: Path, row: str | None) -> tuple[Recipe, dict[str, Tensor]]:
    known = _row_of(path) if row is None else row
    return released_recipe(known), load_onnx(path, known).state_dict()


def _row_of(path: Path) -> str:
    """The row whose convolutions and group normalizations have the shapes of a file's."""
    graph = read_graph(path)
    kinds = (nn.Conv2d, nn.GroupNorm)
    weights = {one.tensors[0] for one in graph_layers(graph) if one.kind in kinds}  # may be shared
    held = Counter(graph.weights[weight].size for weight in weights)
    fit = []
    for row, config in ROWS.items():
        with torch.device("meta"):
            modules = config.build().modules()
        layers = [m for m in modules if isinstance(m, kinds)]
        if Counter(layer.weight.numel() for layer in layers) == held:
            fit.append(row)
    if len(fit) == 1:
        return fit[0]
    found = f"it may be {' or '.join(fit)}" if fit else "its layers are those of none"
    raise WeightsError(f"{path}: {found}; name its row, one of {', '.join(ROWS)}")


def _read_pth(path: Path, row: str | None) -> tuple[Recipe, dict[str, Tensor]]:
    found, state = _read_mmdet(path)
    if row not in (None, found, f"{found}-released"):
        raise WeightsError(f"{path} is no {row}, it is {found}")
    return released_recipe(found), state


def _has_head(held: frozenset[str]) -> bool:
    return any(name.startswith("bbox_head.stride_") for name in held)


def _has_backbone(held: frozenset[str]) -> bool:
    return any(name.startswith("backbone.") for name in held)


FORMATS = (
    Format(
        name="scrfd-mmdet",
        about="InsightFace's SCRFD, .pth",
        license=LICENSE,
        matches=lambda held: _has_head(held) and _has_backbone(held),
        read=_read_pth,
    ),
    Format(
        name="scrfd-onnx",
        about="InsightFace's SCRFD, .onnx",
        license=LICENSE,
        matches=lambda held: _has_head(held) and not _has_backbone(held),
        read=_read_onnx,
    ),
)
