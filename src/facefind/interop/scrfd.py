"""Published SCRFDs and our networks: names and weights, both ways.

The official files come in two kinds: mmdetection's `.pth`, whose names are mapped here, and
ONNX files, whose backbones have lost their names and whose batch normalization is folded. Those are
loaded in the order in which both networks run their layers.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from facefind import recipes
from facefind.errors import WeightsError
from facefind.interop.formats import Format, read_graph, read_state
from facefind.learn.recipe import Recipe
from facefind.nn.detector import DenseDetector
from facefind.nn.fusing import fuse, unfuse
from facefind.nn.layers import Scale
from facefind.systems.scrfd import ROWS

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

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
        WeightsError: if there is none; names the nearest row and what differs.
    """
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    nearest, differing = "", set(shapes.items())
    for row, config in ROWS.items():
        with torch.device("meta"):
            expected = {k: tuple(v.shape) for k, v in config.build().state_dict().items()}
        difference = expected.items() ^ shapes.items()
        if not difference:
            return row
        if not nearest or len(difference) < len(differing):
            nearest, differing = row, difference
    some = ", ".join(f"{name} {shape}" for name, shape in sorted(differing)[:4])
    raise WeightsError(
        f"the weights fit no SCRFD of ours; {nearest} comes nearest and differs in "
        f"{len(differing)} entries: {some}"
    )


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


def load_onnx(path: str | Path, row: str) -> nn.Module:
    """The row's network, fused, with the weights of a published ONNX file of that row.

    Convolutions and group normalizations are matched in the order in which they run; shapes, and
    the names that the file kept in neck and head, must agree. For checks and for running, not for
    training: folded batch normalization cannot be unfolded.

    Args:
        path: the file; its batch normalization is folded into the convolutions.
        row: a name in `ROWS`.

    Raises:
        WeightsError: if the file's layers are not those of the row.
    """
    from onnx import numpy_helper

    if row not in ROWS:
        raise WeightsError(f"there is no row {row!r}; there are {', '.join(ROWS)}")
    graph = read_graph(Path(path))
    values = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
    network = fuse(ROWS[row].build())
    theirs, ours = list(_layers(graph)), list(_run_order(network))
    if len(theirs) != len(ours):
        raise WeightsError(
            f"{path} is no {row}: it runs {len(theirs)} convolutions and group normalizations, "
            f"{row} runs {len(ours)}"
        )
    with torch.no_grad():
        for (weight, bias), (name, module) in zip(theirs, ours, strict=True):
            _fill(module.weight, weight, values, f"{name}.weight", path)
            if (bias is None) != (module.bias is None):
                raise WeightsError(f"{path} is no {row}: {name} has a bias in only one of them")
            if bias is not None:
                _fill(module.bias, bias, values, "", path)
        for name, module in network.named_modules():
            if isinstance(module, Scale):
                _fill(module.scale, f"bbox_{name}.scale", values, f"{name}.scale", path)
    return network


def _read_onnx(path: Path, row: str | None) -> tuple[Recipe, dict[str, Tensor]]:
    known = _row_of(path) if row is None else row
    return released_recipe(known), unfuse(load_onnx(path, known), ROWS[known].build()).state_dict()


def _row_of(path: Path) -> str:
    """The row whose convolutions and group normalizations have the shapes of a file's."""
    graph = read_graph(path)
    sizes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    weights = {weight for weight, _ in _layers(graph)}  # levels may share a layer
    held = Counter(math.prod(sizes[weight]) for weight in weights)
    fit = []
    for row, config in ROWS.items():
        with torch.device("meta"):
            modules = config.build().modules()
        layers = [m for m in modules if isinstance(m, nn.Conv2d | nn.GroupNorm)]
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


def _fill(
    parameter: Any, key: str, values: Mapping[str, Tensor], name: str, path: str | Path
) -> None:
    """Copy the initializer `key` into a parameter; where it kept a name, that must be `name`."""
    if key not in values:
        raise WeightsError(f"{path} has no initializer {key!r} for {name}")
    kept = key.startswith(("neck.", "bbox_head."))
    if kept and name and _ours(key) != name:
        raise WeightsError(f"{path}: found {key}, expected {name}")
    if values[key].numel() != parameter.numel() or (
        parameter.ndim > 1 and values[key].shape != parameter.shape
    ):
        raise WeightsError(
            f"{path}: {key} has shape {tuple(values[key].shape)}, "
            f"{name or 'its layer'} has {tuple(parameter.shape)}"
        )
    parameter.copy_(values[key].reshape(parameter.shape))


def _layers(graph: GraphProto) -> Iterator[tuple[str, str | None]]:
    """Names of weight and bias of each convolution and group normalization, as they run.

    A group normalization is an InstanceNormalization of groups, reshaped back, times the weight,
    plus the bias.
    """
    takers: dict[str, NodeProto] = {}
    for node in graph.node:
        for name in node.input:
            takers.setdefault(name, node)
    known = {i.name for i in graph.initializer}

    def constant(node: NodeProto) -> str:
        return next((name for name in node.input if name in known), "")

    for node in graph.node:
        if node.op_type == "Conv":
            yield node.input[1], node.input[2] if len(node.input) > 2 else None
        elif node.op_type == "InstanceNormalization":
            back = takers[node.output[0]]
            times = takers[back.output[0]]
            plus = takers[times.output[0]]
            if (back.op_type, times.op_type, plus.op_type) != ("Reshape", "Mul", "Add"):
                raise WeightsError("the file normalizes by instances, but not groups of channels")
            yield constant(times), constant(plus)


def _run_order(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """Our convolutions and group normalizations with their names, as one image runs them."""
    ran: list[tuple[str, nn.Module]] = []
    hooks = [
        module.register_forward_hook(lambda m, _, __, name=name: ran.append((name, m)))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.GroupNorm)
    ]
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, 64, 64))
    finally:
        for hook in hooks:
            hook.remove()
    yield from ran


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
