"""Feature modules by name: the pyramids and contexts that any system's recipe may ask for.

A name is one of those below, the file of a genotype (`found.json`), or a genotype's JSON itself. A
system builds what its paper has by itself and calls these for everything else.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from facefind.nn import genotypes
from facefind.nn.cells import ContextCell, PyramidCell
from facefind.nn.context import ContextModule, DilatedBranches, ReceptiveFields
from facefind.nn.detector import PerLevel
from facefind.nn.layers import BiasedConv
from facefind.nn.necks import FPN, PAFPN, BiFPN, ProductPyramid

PYRAMIDS = ("none", "fpn", "pafpn", "bifpn", "fem", "autofem")
CONTEXTS = ("none", "ssh", "fem", "rfe", "cpm")


def laterals(inputs: Sequence[int], width: int) -> nn.Module:
    """Maps of `inputs` channels -> maps of one width, by 1x1 convolutions; ReLUs at the end."""
    return PerLevel(BiasedConv(channels, width) for channels in inputs)


def pyramid(
    name: str, inputs: Sequence[int], width: int, strides: Sequence[int], *, repeats: int = 1
) -> nn.Module | None:
    """The pyramid of a name: maps of `inputs` channels -> maps of one width, at the same sizes.

    Args:
        name: `none`; `fpn`, RetinaFace's; `pafpn`, SCRFD's; `bifpn`, EfficientDet's; `fem`, the
            product of DSFD, normalized; `autofem`, ASFD's; or a genotype.
        inputs: channels of the maps; where they are not `width` each, what does not begin with
            convolutions of its own gets `laterals`.
        width: channels of the results.
        strides: of the levels.
        repeats: how many of them follow each other.

    Returns:
        The module; None for `none` on maps that have that width.

    Raises:
        ValueError: for a name that is none of these, or a genotype that has no such levels.
    """
    parts: list[nn.Module] = []
    if name not in ("fpn", "pafpn") and any(channels != width for channels in inputs):
        parts.append(laterals(inputs, width))
        inputs = [width] * len(inputs)
    for _ in range(0 if name == "none" else repeats):
        parts.append(_pyramid(name, inputs, width, strides))
        inputs = [width] * len(inputs)
    if len(parts) > 1:
        return nn.Sequential(*parts)
    return parts[0] if parts else None


def _pyramid(name: str, inputs: Sequence[int], width: int, strides: Sequence[int]) -> nn.Module:
    levels = len(inputs)
    if name == "fpn":
        return FPN(inputs, width)
    if name == "pafpn":
        return PAFPN(inputs, width)
    if name == "bifpn":
        return BiFPN(levels, width)
    if name == "fem":
        return ProductPyramid(inputs, inputs, merged=levels - 1, normalized=levels)
    if name == "autofem":
        genotype = genotypes.RELEASED_PYRAMID
    else:
        genotype = _genotype(genotypes.PyramidGenotype, name, "pyramid", PYRAMIDS)
    return PyramidCell(genotype.at(strides), width)


def context(name: str, widths: Sequence[int], strides: Sequence[int]) -> nn.Module | None:
    """The context modules of a name, one a level: maps -> maps of the same shapes.

    Args:
        name: `none`; `ssh`, RetinaFace's; `fem`, the branches of DSFD, normalized; `rfe`,
            RefineFace's; `cpm`, a hand-made cell of ASFD's kind; or a genotype.
        widths: channels of each map.
        strides: of the levels.

    Returns:
        The modules; None for `none`.

    Raises:
        ValueError: for a name that is none of these, or a genotype that has no such levels.
    """
    if name == "none":
        return None
    if name == "ssh":
        return PerLevel(ContextModule(width) for width in widths)
    if name == "fem":
        return PerLevel(DilatedBranches(width, norm=True) for width in widths)
    if name == "rfe":
        return PerLevel(ReceptiveFields(width) for width in widths)
    if name == "cpm":
        genotype = genotypes.TREE_CONTEXT
    else:
        genotype = _genotype(genotypes.ContextGenotype, name, "context", CONTEXTS)
    part = genotype.at(strides)
    return PerLevel(
        ContextCell(nodes, part.joined(level), width)
        for level, (nodes, width) in enumerate(zip(part.levels, widths, strict=True))
    )


def _genotype(
    kind: type[genotypes.Kind], name: str, role: str, known: Sequence[str]
) -> genotypes.Kind:
    if not name.endswith(".json") and not name.startswith("{"):
        raise ValueError(
            f"no {role} is called {name!r}; expected {', '.join(known)} or the .json file of a "
            "genotype"
        )
    return genotypes.of_kind(kind, name)
