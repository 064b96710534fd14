"""Published kinds of files: how each is recognized, and read as a recipe and its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facefind.errors import WeightsError
from facefind.interop import caffe
from facefind.runtimes import METADATA_KEY, onnx_file

if TYPE_CHECKING:
    from torch import Tensor

    from facefind.learn.recipe import Recipe

__all__ = ["Format", "fitting", "names", "read_graph", "read_state"]


@dataclass(frozen=True, kw_only=True)
class Format:
    """A kind of files that others have published.

    Attributes:
        name: what the kind is called here, such as `scrfd-mmdet`.
        about: whose files they are, in a few words.
        license: the terms under which their authors gave the weights.
        matches: whether a file is of this kind, by the names of its tensors.
        read: recipe, and state dict for a strict load into its network, of a file and the row that
            the caller says it is (None: the file must say). Raises WeightsError where the file
            is no such thing, or does not say its row.
    """

    name: str
    about: str
    license: str
    matches: Callable[[frozenset[str]], bool]
    read: Callable[[Path, str | None], tuple[Recipe, Mapping[str, Tensor]]]


def names(path: Path) -> frozenset[str]:
    """Names of the tensors that an .onnx file, Caffe's layers or a torch checkpoint holds.

    Raises:
        WeightsError: if there is no such file or it can't be read as either.
    """
    if path.suffix == ".onnx":
        return frozenset(read_graph(path).weights)
    if path.suffix in caffe.SUFFIXES:
        return frozenset(caffe.read_layers(path))
    return frozenset(read_state(path))


def read_graph(path: Path) -> onnx_file.Graph:
    """The graph of an ONNX file of others.

    Raises:
        WeightsError: if the file is missing, damaged, or an export of ours.
    """
    if not path.is_file():
        raise WeightsError(f"no file {path}; expected a published .onnx file")
    if METADATA_KEY in onnx_file.metadata(path):
        raise WeightsError(f"{path} is a model of facefind already: facefind detect takes it as is")
    return onnx_file.read_graph(path)


def read_state(path: Path, expected: str = "a published .pth file") -> dict[str, Tensor]:
    """The state dict of a torch checkpoint of others, out of its wrapping, on the CPU.

    Only tensors and plain values are unpickled. `state_dict` or `model` around it and `module.`
    before every name are taken off.

    Raises:
        WeightsError: if the file is missing, damaged or holds no state dict; names `expected`.
    """
    from facefind.learn import checkpoints

    if not path.is_file():
        raise WeightsError(f"no file {path}; expected {expected}")
    content: Any = checkpoints.read(path)
    if isinstance(content, dict) and {"network", "recipe"} <= content.keys():
        raise WeightsError(f"{path} is a checkpoint of facefind already: facefind export takes it")
    return checkpoints.state_dict(content, path, expected)


def fitting(state: Mapping[str, Tensor], rows: Mapping[str, Any], what: str) -> str:
    """The row whose network has exactly the names and shapes of a state dict in our names.

    Raises:
        WeightsError: if there is none, of `what`; says what differs from the nearest one.
    """
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    differing = {row: _shapes(config) ^ shapes.items() for row, config in rows.items()}
    nearest = min(differing, key=lambda row: len(differing[row]))
    if not differing[nearest]:
        return nearest
    some = ", ".join(f"{name} {shape}" for name, shape in sorted(differing[nearest])[:4])
    raise WeightsError(
        f"the weights fit no {what}; {nearest} comes nearest and differs in "
        f"{len(differing[nearest])} entries: {some}"
    )


@cache
def _shapes(config: Any) -> frozenset[tuple[str, tuple[int, ...]]]:
    import torch

    with torch.device("meta"):
        state = config.build().state_dict()
    return frozenset((name, tuple(value.shape)) for name, value in state.items())
