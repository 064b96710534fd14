"""SmallHardFace's published Caffe layers and our networks, both ways.

A layer's weight and bias are `NAME.weight` and `NAME.bias` here. Files may be a `.caffemodel`, an
`.npz` of such arrays, or a torch file of such tensors. The authors' file lies on a drive that
can't be reached without a browser; the names are those of their network descriptions.

The map differs from a renaming in two places. Caffe's images are BGR, ours RGB, so the first
convolution's input channels change places. And Caffe keeps a copy of the shared convolution in
each of its three layers, which must be equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from facefind import recipes
from facefind.errors import WeightsError
from facefind.interop.caffe import SUFFIXES, read_layers
from facefind.interop.formats import Format, read_state
from facefind.nn.backbones import VGG
from facefind.systems.smallhardface import DILATIONS

if TYPE_CHECKING:
    from facefind.learn.recipe import Recipe

__all__ = ["FORMATS", "backbone_from_caffe", "from_caffe", "load_layers", "to_caffe"]

State = Mapping[str, Tensor]

_NECK = {
    "conv5_256": "neck.coarse.0",
    "conv4_256": "neck.fine.0",
    "conv4_fuse_final": "neck.fuse.0",
}
_DILATED_HEAD = {
    "conv4_fuse_final_dim_red": "head.reduce.0",
    "head_1": "head.shared",
    **{f"cls_score_{d}": f"head.cls.{i}" for i, d in enumerate(DILATIONS)},
    **{f"bbox_pred_{d}": f"head.box.{i}" for i, d in enumerate(DILATIONS)},
}
_PLAIN_HEAD = {"head": "head.convs.0.0", "cls_score": "head.cls.0", "bbox_pred": "head.box.0"}
_COPIES = tuple(f"head_{d}" for d in DILATIONS[1:])
_FIXED = ("conv5_256_up",)  # the bilinear upsampling, which is no weight of ours


def from_caffe(layers: State) -> dict[str, Tensor]:
    """The published layers in our names, for a strict load into `smallhardface` or `-single`.

    Raises:
        WeightsError: if a layer is missing, unknown, or a copy differs.
    """
    dilated = "head_1.weight" in layers
    state: dict[str, Tensor] = {}
    known: set[str] = set()
    for theirs, ours in _map(dilated).items():
        for value in ("weight", "bias"):
            key = f"{theirs}.{value}"
            if key not in layers:
                raise WeightsError(f"the published layers have no {key}")
            known.add(key)
            tensor = layers[key]
            state[f"{ours}.{value}"] = tensor.flip(1) if key == "conv1_1.weight" else tensor
    for copy in _COPIES if dilated else ():
        for value in ("weight", "bias"):
            key = f"{copy}.{value}"
            known.add(key)
            if key in layers and not torch.equal(layers[key], layers[f"head_1.{value}"]):
                raise WeightsError(f"{key} differs from head_1.{value}, with which it is shared")
    unknown = [k for k in layers if k not in known and not k.startswith(_FIXED)]
    if unknown:
        raise WeightsError(f"{', '.join(unknown[:3])}: no layer of a published SmallHardFace")
    return state


def to_caffe(state: State) -> dict[str, Tensor]:
    """Our state dict in the names of the published layers, each copy of the shared one included.

    Raises:
        WeightsError: if it is none of `smallhardface` or `smallhardface-single`.
    """
    dilated = "head.shared.weight" in state
    names = _map(dilated)
    if {f"{ours}.{v}" for ours in names.values() for v in ("weight", "bias")} != state.keys():
        raise WeightsError(
            "these weights fit no published SmallHardFace; expected those of smallhardface or "
            "smallhardface-single"
        )
    layers: dict[str, Tensor] = {}
    for theirs, ours in names.items():
        for value in ("weight", "bias"):
            tensor = state[f"{ours}.{value}"]
            key = f"{theirs}.{value}"
            layers[key] = tensor.flip(1) if key == "conv1_1.weight" else tensor
    for copy in _COPIES if dilated else ():
        layers |= {f"{copy}.{v}": layers[f"head_1.{v}"].clone() for v in ("weight", "bias")}
    return layers


def backbone_from_caffe(layers: State) -> dict[str, Tensor]:
    """A state dict for `VGG()` out of Caffe's VGG16 for ImageNet; fully connected layers left out.

    Raises:
        WeightsError: if a convolution is missing.
    """
    state: dict[str, Tensor] = {}
    for theirs, ours in _vgg().items():
        for value in ("weight", "bias"):
            key = f"{theirs}.{value}"
            if key not in layers:
                raise WeightsError(f"the layers have no {key}; expected those of Caffe's VGG16")
            tensor = layers[key].reshape(-1) if value == "bias" else layers[key]
            state[f"{ours}.{value}"] = tensor.flip(1) if key == "conv1_1.weight" else tensor
    return state


def load_layers(path: str | Path) -> dict[str, Tensor]:
    """Tensors `LAYER.weight` and `LAYER.bias` of a .caffemodel, .npz or torch file.

    Raises:
        WeightsError: if the file is missing or can't be read.
    """
    source = Path(path)
    if source.suffix in SUFFIXES:
        return {name: torch.from_numpy(array) for name, array in read_layers(source).items()}
    return read_state(source, "a .caffemodel, .npz or torch file of Caffe's layers")


def _vgg() -> dict[str, str]:
    with torch.device("meta"):
        return VGG().convolutions


def _map(dilated: bool) -> dict[str, str]:
    """Our module by the published layer."""
    trunk = {theirs: f"backbone.{ours}" for theirs, ours in _vgg().items()}
    return trunk | _NECK | (_DILATED_HEAD if dilated else _PLAIN_HEAD)


def _matches(names: frozenset[str]) -> bool:
    return {"conv1_1.weight", "conv4_256.weight", "conv4_fuse_final.weight"} <= names


def _read(path: Path, row: str | None) -> tuple[Recipe, Mapping[str, Tensor]]:
    """Recipe and state of a published file; the head shows which of the two networks it is."""
    state = from_caffe(load_layers(path))
    found = "smallhardface-released" if "head.shared.weight" in state else "smallhardface-single"
    if row not in (None, found, found.removesuffix("-released")):
        raise WeightsError(f"{path} is no {row}: its head is that of {found}")
    return recipes.get(found), state


FORMATS = (
    Format(
        name="smallhardface-caffe",
        about="the authors' SmallHardFace, by the names of its Caffe layers",
        license="none is stated by the authors: ask them before any use of theirs",
        matches=_matches,
        read=_read,
    ),
)
"""The kinds of files that hold a published SmallHardFace."""
