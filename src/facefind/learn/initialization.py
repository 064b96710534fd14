"""Initialization: a network that starts from known weights instead of random ones."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from facefind import weights
from facefind.errors import DataError, WeightsError
from facefind.learn import checkpoints
from facefind.learn.recipe import RunConfig
from facefind.nn import statistics
from facefind.nn.detector import DenseDetector
from facefind.nn.layers import evaluating
from facefind.nn.onnx_weights import match
from facefind.runtimes import STATISTICS_KEY, Card, Runtime, open_model
from facefind.runtimes.agreement import difference
from facefind.runtimes.onnx_file import metadata, read_graph
from facefind.runtimes.pytorch import TorchRuntime

__all__ = ["READERS", "blend", "initialize", "locate", "prepared"]

logger = logging.getLogger(__name__)

READERS: list[Callable[[Path], nn.Module | None]] = []
"""Each reads files of others as a network of ours, and gives None for what is none of its kinds.
`facefind.interop` adds its own as it is imported."""

_NO_TENSORS = (".onnx", ".caffemodel", ".npz")
"""Suffixes of files that torch does not read."""
_RENAMED = {
    "head.reg.": "head.box.",
    "head.kps.": "head.landmarks.",
    "head.points.": "head.landmarks.",
    "contexts.": "context.",
}
"""What parts of our networks were once called, and are called now."""


def locate(source: str | Path) -> Path:
    """The file that `--init-from` names: a run's checkpoint, a file, or a model at hand by name.

    Raises:
        WeightsError: if there is none; names the models at hand.
    """
    path = checkpoints.path_of(Path(source).expanduser())
    if path.is_file():
        return path
    cards = weights.available()
    if str(source) in ("default", *(card.name for card in cards)):
        return weights.find(str(source))
    names = [card.name for card in cards if card.precision == "fp32"]
    raise WeightsError(
        "--init-from: expected a run folder, a file of weights, or the name of a model "
        f"({', '.join(names)}); got {source}: {path} is no file"
    )


def prepared(
    network: DenseDetector, run: RunConfig, device: torch.device, *, fresh: bool
) -> DenseDetector:
    """The network on the device that it is trained on, with the weights to start from if fresh."""
    if run.init_from and fresh:
        initialize(network, run.init_from)
    network = network.to(device)
    if run.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def initialize(network: nn.Module, source: str | Path) -> str:
    """Load weights into a network; return into what: "network", "network but for ..", "backbone".

    The source is of the same network: the name of a model at hand, an exported ONNX file, a run
    folder or checkpoint, whose averaged weights are taken where it has them, a file of its state
    dict (torch's or `.safetensors`), or one that the `READERS` know. It may lack branches of the
    network (landmarks, mesh), which then keep their random weights, or have more, which are
    ignored; in a checkpoint neck and context may be of another kind, such as a searched one in
    place of a pyramid, and keep them, too. Or it holds tensors in the names of the network's
    `backbone`, such as torchvision's, of which the classifier and whatever else the backbone lacks
    is ignored. Of a model of another system that has the same backbone, as `scrfd-500m-kps` has
    that of `dsfd-light`, the backbone is taken.

    Weights out of ONNX and published files are kept only if the network then gives the same
    outputs: its normalization, anchors and encoding, too, must be those that they were trained for.

    Raises:
        WeightsError: if the file can't be read, or fits neither; names what differs.
    """
    path = locate(source)
    card = Card.from_file(path) if path.suffix == ".onnx" else None
    if card is not None:
        return _from_export(network, path, card)
    fault, ours = "", False
    if path.suffix not in _NO_TENSORS:
        content = checkpoints.read(path)
        ours = isinstance(content, dict) and "network" in content
        found = checkpoints.state_dict(content, path)
        state = {_now(name): value for name, value in found.items()}
        if part := _load(network, state) or _load(network, _without_modules(network, state)):
            return part
        backbone = getattr(network, "backbone", network)
        some = _mismatches(backbone, state) or _mismatches(network, state)
        fault = f": without {', '.join(some[:3])}, or in another shape"
    for read in () if ours else READERS:
        if (theirs := read(path)) is not None:
            return _from_network(network, path, theirs)
    hint = "" if READERS or ours else " (`import facefind.interop` for files of others)"
    raise WeightsError(
        f"{path} holds neither this network's weights nor its backbone's{fault}{hint}"
    )


def blend(network: nn.Module, source: str | Path, share: float) -> None:
    """Move a network's weights towards those that it began with.

    What a fine-tuning learns of new pictures it pays for with others; between the weights before
    and after there is often a network that has most of both: share * own + (1 - share) * source,
    running means and variances of normalizations as well.

    Source: Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022.

    Args:
        network: after its training; changed in place.
        source: what it began with, as `initialize` takes it.
        share: of the network's own weights, 0..1; the rest is the source's.

    Raises:
        DataError: if the share lies outside 0..1.
        WeightsError: if the source does not hold the whole network.
    """
    if not 0 <= share <= 1:
        raise DataError(f"the share of a network's own weights must lie in 0..1, got {share}")
    before = copy.deepcopy(network)
    if (part := initialize(before, source)) != "network":
        raise WeightsError(
            f"{source} holds the {part} alone: there is nothing to blend others with"
        )
    own = network.state_dict()
    with torch.no_grad():
        for name, value in before.state_dict().items():
            if value.is_floating_point():
                own[name].copy_(torch.lerp(value, own[name], share))


def _from_export(network: nn.Module, path: Path, card: Card) -> str:
    """Load what an exported file holds; of another system's network, its backbone alone."""
    if card.precision != "fp32":
        raise WeightsError(f"{path} is quantized: begin with the model that it was made of")
    leading = "" if card.system == getattr(network, "system", card.system) else "backbone."
    has = {"landmarks": card.landmarks, "mesh": bool(card.mesh)}
    needed = {
        "landmarks": bool(getattr(network, "landmarks", False)),
        "mesh": bool(getattr(network, "mesh_decoder", "")),
    }
    without = [f"head.{part}." for part in has if needed[part] and not has[part]]
    surplus = [f"head.{part}." for part in has if has[part] and not needed[part]]
    surplus += [old for old, now in _RENAMED.items() if now in surplus]
    text = metadata(path).get(STATISTICS_KEY)
    try:
        found = match(network, read_graph(path), without=without, surplus=surplus, leading=leading)
        if text is not None:
            statistics.restore(found, network, text, leading=leading)
    except WeightsError as error:
        raise WeightsError(
            f"{path}, {card.system} by the recipe {card.recipe or '?'}, is of another network: "
            f"{error}"
        ) from error
    if text is None and found.folded:
        logger.warning(
            "%s lacks the statistics of its batch normalizations: freeze them "
            "(--optim.frozen BatchNorm2d), or the first steps of training will ruin its weights",
            path,
        )
    before = _copied(network)
    network.load_state_dict(before | found.state)
    if leading:
        return "backbone"
    _check(network, open_model(path), path, before)
    counters = {name for name in before if name.endswith("num_batches_tracked")}
    return _but_for({_part(name) for name in before.keys() - counters - found.state.keys()})


def _from_network(network: nn.Module, path: Path, theirs: nn.Module) -> str:
    """Load the weights of a network that was read from a file of others."""
    before, state = _copied(network), theirs.state_dict()
    if not (part := _load(network, state)):
        raise WeightsError(
            f"{path} is of another network: "
            f"without {', '.join(_mismatches(network, state)[:3])}, or in another shape"
        )
    _check(network, TorchRuntime(theirs), path, before)
    return part


def _check(network: nn.Module, reference: Runtime, path: Path, before: dict[str, Tensor]) -> None:
    """Put back what was before and raise WeightsError, unless outputs are those of the file."""
    multiple = reference.card.size_multiple
    size = reference.card.fixed_size or (2 * multiple, 4 * multiple)
    images = np.random.default_rng(0).integers(0, 256, (1, 3, *size), dtype=np.uint8)
    with evaluating(network):
        gap = difference(TorchRuntime(network)(images), reference(images))
    if gap:
        network.load_state_dict(before)
        raise WeightsError(
            f"{path} has the layers of this network, but other outputs: {gap}. Normalization, "
            "anchors and the encoding of boxes must be those that its weights were trained for, "
            f"as in the recipe {reference.card.recipe or 'of its network'}"
        )


def _load(network: nn.Module, state: Mapping[str, Tensor]) -> str:
    """Load a state dict into what it fits; return that, "" if there is none."""
    if (fresh := _fresh(network, state)) is not None:
        network.load_state_dict(state, strict=False)
        return _but_for(fresh)
    backbone = getattr(network, "backbone", None)
    if isinstance(backbone, nn.Module) and not _mismatches(backbone, state):
        backbone.load_state_dict({name: state[name] for name in backbone.state_dict()})
        return "backbone"
    return ""


def _fresh(network: nn.Module, state: Mapping[str, Tensor]) -> set[str] | None:
    """Branches of a network that a state lacks, if all else matches; otherwise None.

    Branches are the parts of its head, and all but backbone and head. Instead of lacking some
    the state may have some that the network lacks.
    """
    expected = network.state_dict()
    shared = expected.keys() & state.keys()
    if any(expected[name].shape != state[name].shape for name in shared):
        return None
    missing = {_part(name) for name in expected.keys() - shared}
    surplus = {_part(name) for name in state.keys() - shared}
    trunk = {_part(name) for name in shared} | {"backbone"}
    return None if (missing | surplus) & trunk or (missing and surplus) else missing


def _without_modules(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state without the neck and context of another kind than the network's own."""
    expected = network.state_dict()
    other = {
        part
        for part in ("neck", "context")
        if any(_part(name) == part for name in state)
        and _shapes(expected, part) != _shapes(state, part)
    }
    return {name: value for name, value in state.items() if _part(name) not in other}


def _shapes(state: Mapping[str, Tensor], part: str) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items() if _part(name) == part}


def _but_for(fresh: set[str]) -> str:
    return f"network but for {', '.join(sorted(fresh))}" if fresh else "network"


def _now(name: str) -> str:
    """Today's name of a tensor of one of our networks."""
    for old, now in _RENAMED.items():
        if name.startswith(old):
            return now + name.removeprefix(old)
    return name


def _part(name: str) -> str:
    first, _, rest = name.partition(".")
    return f"{first}.{rest.partition('.')[0]}" if first == "head" else first


def _mismatches(part: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Names that a part of the network needs and the state lacks, or has in another shape."""
    expected = part.state_dict()
    return [k for k, v in expected.items() if k not in state or state[k].shape != v.shape]


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}
