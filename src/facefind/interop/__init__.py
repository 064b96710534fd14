"""Published checkpoints and our networks: one file a system, all known kinds in `FORMATS`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from facefind.errors import WeightsError
from facefind.files import sha256
from facefind.interop import asfd, dsfd, retinaface, scrfd, smallhardface
from facefind.interop.formats import Format, names
from facefind.interop.scrfd import (
    from_mmdet,
    load_mmdet,
    load_onnx,
    recognize,
    released_recipe,
    to_mmdet,
)
from facefind.learn import checkpoints, initialization

if TYPE_CHECKING:
    from facefind.nn.detector import DenseDetector

__all__ = [
    "FORMATS",
    "Converted",
    "Format",
    "convert",
    "detect_format",
    "from_mmdet",
    "load_mmdet",
    "load_onnx",
    "load_published",
    "recognize",
    "released_recipe",
    "to_mmdet",
]

logger = logging.getLogger(__name__)

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        one.name: one
        for system in (scrfd, retinaface, smallhardface, dsfd, asfd)
        for one in system.FORMATS
    }
)
"""Every kind of published file that is read here, by name."""


@dataclass(frozen=True)
class Converted:
    """What a published file was: its kind, the recipe of its network, and its weights' terms."""

    format: str
    recipe: str
    license: str
    source_sha256: str

    def to_dict(self) -> dict[str, str]:
        """Plain values, ready for JSON."""
        return asdict(self)


def detect_format(path: str | Path) -> Format:
    """The kind of a published file, by the names of its tensors.

    Raises:
        WeightsError: if the file can't be read, or is of no kind or of several; names the kinds.
    """
    held = names(Path(path))
    fit = _fitting(held)
    if len(fit) == 1:
        return fit[0]
    if fit:
        raise WeightsError(f"{path} may be {' or '.join(one.name for one in fit)}: say which")
    some = ", ".join(sorted(held)[:3])
    raise WeightsError(
        f"{path} is no published file that is known here (its tensors are {some}, ...); "
        f"known: {', '.join(f'{one.name} ({one.about})' for one in FORMATS.values())}"
    )


def load_published(path: str | Path) -> DenseDetector | None:
    """The network of a published file, None where it is of no kind or of several.

    A warning says under which terms its weights were published.

    Raises:
        WeightsError: if the file can't be read, or does not say which network of its kind it is.
    """
    fit = _fitting(names(Path(path)))
    if len(fit) != 1:
        return None
    recipe, state = fit[0].read(Path(path), None)
    network = recipe.network.build()
    network.load_state_dict(state)
    logger.warning("%s is %s; license: %s", path, fit[0].about, fit[0].license)
    return network.eval()


def _fitting(held: frozenset[str]) -> list[Format]:
    return [one for one in FORMATS.values() if one.matches(held)]


def convert(
    path: str | Path, out: str | Path, *, format: str | None = None, row: str | None = None
) -> Converted:
    """Write a published file as a checkpoint of ours, and say what it was.

    `facefind export` and `recipes.load_network` take the checkpoint; the recipe in it is the
    released training of the row, and its `published` entry is what comes back. The weights are
    loaded strictly before anything is written.

    Args:
        path: the published file.
        out: the checkpoint, usually a `.pt`; what is there is replaced.
        format: a name in `FORMATS`; found out by the names of the tensors where None.
        row: which network of the system it is, for files that do not say.

    Raises:
        WeightsError: if the file can't be read, is none of the kind, or does not say its row.
    """
    if format is not None and format not in FORMATS:
        raise WeightsError(f"there is no format {format!r}; there are {', '.join(FORMATS)}")
    kind = detect_format(path) if format is None else FORMATS[format]
    recipe, state = kind.read(Path(path), row)
    network = recipe.network.build()
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit {recipe.name}: {error}") from error
    target = Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    done = Converted(kind.name, recipe.name, kind.license, sha256(path))
    content = {"network": network.state_dict(), "recipe": recipe.to_dict(), "step": 0}
    checkpoints.save(target, content | {"published": done.to_dict()})
    return done


initialization.READERS.append(load_published)
