"""Published RetinaFaces and our networks: names and weights, both ways.

The widely used files are those of the PyTorch port, with a MobileNet-0.25 or a ResNet-50; the
authors' own are of another framework. The port feeds blue first, ours red first: the weights of the
first convolution change places on the way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from facefind import recipes
from facefind.errors import WeightsError
from facefind.interop.formats import Format, fitting, read_state
from facefind.learn.recipe import Recipe
from facefind.nn.detector import DenseDetector
from facefind.systems.retinaface import ROWS

__all__ = ["FORMATS", "from_port", "load_port", "recognize", "to_port"]

State = Mapping[str, Tensor]

PUBLISHED = ("retinaface-mobile-released", "retinaface-r50-released")
"""The rows whose weights are published under the port's names."""
LICENSE = "MIT, as the port states of its code; trained on WIDER FACE, for research"

_FIRST = ("backbone.stem.0.0.weight", "backbone.conv1.weight")
_VIEWS = {
    "conv3X3": "conv3",
    "conv5X5_1": "conv5_1",
    "conv5X5_2": "conv5_2",
    "conv7X7_2": "conv7_2",
    "conv7x7_3": "conv7_3",
}
_HEADS = {"ClassHead": "cls", "BboxHead": "box", "LandmarkHead": "landmarks"}
_NECK = {"output": "laterals", "merge": "smooths"}
# Where the blocks of their three stages are in our stem and four layers.
_STAGES = {
    "stage1": ("stem.0", "stem.1", "layer1.0", "layer1.1", "layer2.0", "layer2.1"),
    "stage2": tuple(f"layer3.{block}" for block in range(6)),
    "stage3": ("layer4.0", "layer4.1"),
}


def from_port(state: State) -> dict[str, Tensor]:
    """A state dict of the PyTorch port's network in our names, in the same order.

    Raises:
        WeightsError: if a name is not one of theirs.
    """
    return _red_and_blue_swapped({_ours(name): value for name, value in state.items()})


def to_port(state: State) -> dict[str, Tensor]:
    """Our state dict in the names of the port's network, complete for a strict load there.

    Raises:
        WeightsError: if a name is not one of a three-level RetinaFace of ours.
    """
    swapped = _red_and_blue_swapped(state)
    return {_theirs(name): value for name, value in swapped.items()}


def _red_and_blue_swapped(state: State) -> dict[str, Tensor]:
    return {name: x.flip(1) if name in _FIRST else x for name, x in state.items()}


def _ours(name: str) -> str:
    """Our name of one of theirs."""
    part, _, rest = name.partition(".")
    if part == "body":
        stage, _, deeper = rest.partition(".")
        block, _, layer = deeper.partition(".")
        if stage in _STAGES and block.isdecimal() and int(block) < len(_STAGES[stage]):
            return f"backbone.{_STAGES[stage][int(block)]}.{layer}"
        if stage not in _STAGES:
            return f"backbone.{rest}"
    elif match := re.fullmatch(r"fpn\.(output|merge)(\d)\.(.+)", name):
        return f"neck.{_NECK[match[1]]}.{int(match[2]) - 1}.{match[3]}"
    elif (match := re.fullmatch(r"ssh(\d)\.(\w+)\.(.+)", name)) and match[2] in _VIEWS:
        return f"context.{int(match[1]) - 1}.{_VIEWS[match[2]]}.{match[3]}"
    elif (match := re.fullmatch(r"(\w+)\.(\d)\.conv1x1\.(\w+)", name)) and match[1] in _HEADS:
        return f"head.{_HEADS[match[1]]}.{match[2]}.{match[3]}"
    raise WeightsError(f"{name!r} is no name of the PyTorch port's RetinaFace")


def _theirs(name: str) -> str:
    """Their name of one of ours."""
    if match := re.fullmatch(r"backbone\.(stem\.\d|layer\d\.\d)\.(\d\.\w+)", name):
        for stage, blocks in _STAGES.items():
            if match[1] in blocks:
                return f"body.{stage}.{blocks.index(match[1])}.{match[2]}"
    if name.startswith("backbone."):
        return f"body.{name.removeprefix('backbone.')}"
    if match := re.fullmatch(r"neck\.(laterals|smooths)\.(\d)\.(.+)", name):
        part = next(theirs for theirs, ours in _NECK.items() if ours == match[1])
        return f"fpn.{part}{int(match[2]) + 1}.{match[3]}"
    if match := re.fullmatch(r"context\.(\d)\.(conv\d(?:_\d)?)\.(\d\.\w+)", name):
        view = next(theirs for theirs, ours in _VIEWS.items() if ours == match[2])
        return f"ssh{int(match[1]) + 1}.{view}.{match[3]}"
    if match := re.fullmatch(r"head\.(cls|box|landmarks)\.(\d)\.(\w+)", name):
        part = next(theirs for theirs, ours in _HEADS.items() if ours == match[1])
        return f"{part}.{match[2]}.conv1x1.{match[3]}"
    raise WeightsError(f"{name!r} is no name of a three-level RetinaFace of facefind")


def recognize(state: State) -> str:
    """The published row whose network has the names and shapes of a state dict in our names.

    Raises:
        WeightsError: as `fitting`.
    """
    return fitting(state, {row: ROWS[row] for row in PUBLISHED}, "published RetinaFace")


def load_port(path: str | Path) -> tuple[str, DenseDetector]:
    """The row and network of a `.pth` file of the PyTorch port, in eval mode.

    Raises:
        WeightsError: if the file cannot be read or holds no such network.
    """
    row, state = _read(Path(path))
    network = ROWS[row].build()
    network.load_state_dict(state)
    return row, network.eval()


def _read(path: Path) -> tuple[str, dict[str, Tensor]]:
    ours = from_port(read_state(path, "a .pth of the PyTorch port's RetinaFace"))
    return recognize(ours), ours


def _read_for(path: Path, row: str | None) -> tuple[Recipe, dict[str, Tensor]]:
    found, state = _read(path)
    if row not in (None, found):
        raise WeightsError(f"{path} is no {row}, it is {found}")
    return recipes.get(found), state


def _matches(held: frozenset[str]) -> bool:
    return {"fpn.output1.0.weight", "ssh1.conv3X3.0.weight"} <= held


FORMATS = (
    Format(
        name="retinaface-port",
        about="RetinaFace, .pth of the PyTorch port, MobileNet-0.25 or ResNet-50",
        license=LICENSE,
        matches=_matches,
        read=_read_for,
    ),
)
"""The kinds of published RetinaFaces that are read here."""
