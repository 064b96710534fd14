"""Genotypes: searched feature modules as data, and the operations that they are made of.

A pyramid's genotype says what each level makes of its neighbors, a context's how the cell of each
level is wired. Either is a JSON file (`read`, `write`) or one of the built-in ones by name; `cells`
builds networks of them. Nothing here imports torch.

    {"version": 1, "kind": "fpn", "nodes": [[["sep_conv_3x3", 1], ["conv_1x1", 0]], ...]}
    {"version": 1, "kind": "cpm", "concat": "leaf", "levels": [[["dil_conv_3x3", 0], ...], ...]}

Levels go from stride 4, each twice the last; where a file has exactly as many levels as a network,
they are the network's, whatever their strides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from facefind.errors import DataError
from facefind.files import write_text

VERSION = 1
Edge = tuple[str, int]
"""An operation, and the level (pyramid) or node (context) whose map it is given."""


@dataclass(frozen=True)
class Operation:
    """What an operation computes; a ReLU comes before its convolutions, normalization after them.

    Attributes:
        kind: `full`: one convolution of all channels; `depthwise`: a convolution of each channel by
            itself, then a 1x1 one; `crossed`: one of 1xk and one of kx1 by channel, then a 1x1 one;
            `max`, `mean`: pooling; `skip`: the map as it is; `none`: zeros.
        kernel: height and width.
        dilation: of the convolution.
    """

    kind: Literal["full", "depthwise", "crossed", "max", "mean", "skip", "none"]
    kernel: tuple[int, int] = (1, 1)
    dilation: int = 1


OPERATIONS: dict[str, Operation] = {
    "none": Operation("none"),
    "skip_connect": Operation("skip"),
    "max_pool_3x3": Operation("max", (3, 3)),
    "avg_pool_3x3": Operation("mean", (3, 3)),
    "conv_1x1": Operation("full"),
    "conv_1x3": Operation("full", (1, 3)),
    "conv_3x1": Operation("full", (3, 1)),
    "conv_1x5": Operation("full", (1, 5)),
    "conv_5x1": Operation("full", (5, 1)),
    "sep_conv_3x3": Operation("depthwise", (3, 3)),
    "sep_conv_5x5": Operation("depthwise", (5, 5)),
    "sep_conv_7x7": Operation("depthwise", (7, 7)),
    "dil_conv_3x3": Operation("depthwise", (3, 3), 2),
    "dil_conv_3x3_3": Operation("depthwise", (3, 3), 3),
    "dil_conv_5x5": Operation("depthwise", (5, 5), 2),
    "conv_1x3_3x1": Operation("crossed", (3, 3)),
    "conv_1x5_5x1": Operation("crossed", (5, 5)),
}
"""Every operation by name.

Source: the released code of DSFDv2 (its names). Differs from DARTS, whose separable convolutions
are doubled.
"""
PYRAMID_CHOICES = (
    "conv_1x1",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_3x3_3",
    "dil_conv_5x5",
)
"""Operations among which the authors' code searches a pyramid."""
CONTEXT_CHOICES = (
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_3x3_3",
    "dil_conv_5x5",
    "conv_1x3_3x1",
    "conv_1x5_5x1",
    "skip_connect",
)
"""Operations among which a context is searched: ours, the authors' list was never released."""


def _check_operation(name: str, where: str) -> None:
    if name not in OPERATIONS or name == "none":
        known = ", ".join(one for one in OPERATIONS if one != "none")
        raise DataError(f"{where}: no operation {name!r}; expected one of {known}")


def _place(strides: Sequence[int], levels: int) -> int:
    """Where the level of the first stride is among levels from stride 4 on."""
    known = [4 << level for level in range(levels)]
    first = known.index(strides[0]) if strides and strides[0] in known else levels
    if list(strides) != known[first : first + len(strides)]:
        raise DataError(
            f"the network has levels at strides {', '.join(map(str, strides))}; the genotype has "
            f"{levels}: expected as many, or strides among {', '.join(map(str, known))}"
        )
    return first


@dataclass(frozen=True)
class PyramidGenotype:
    """What each level of a pyramid makes of the levels around it.

    Attributes:
        nodes: the edges of each level, fine to coarse: an operation on the product of the level's
            map with the next coarser or finer result, or on the level's map alone.

    Raises:
        DataError: if an operation is unknown, or an edge comes from elsewhere or twice.
    """

    kind: ClassVar[str] = "fpn"
    nodes: tuple[tuple[Edge, ...], ...]

    def __post_init__(self) -> None:
        if not self.nodes:
            raise DataError("a pyramid's genotype needs at least one level, got none")
        for level, edges in enumerate(self.nodes):
            near = [s for s in (level - 1, level, level + 1) if 0 <= s < len(self.nodes)]
            for place, (name, source) in enumerate(edges):
                _check_operation(name, f"level {level}")
                if source not in near or source in [s for _, s in edges[:place]]:
                    raise DataError(
                        f"level {level}, edge {place}: source {source}; expected each of "
                        f"{', '.join(map(str, near))} at most once"
                    )
            if not edges:
                raise DataError(f"level {level} has no edge; expected at least one")

    def at(self, strides: Sequence[int]) -> PyramidGenotype:
        """The part for levels of these strides; edges to levels beyond them are left out.

        Raises:
            DataError: if it has no such levels.
        """
        if len(self.nodes) == len(strides):
            return self
        first, count = _place(strides, len(self.nodes)), len(strides)
        return PyramidGenotype(
            tuple(
                tuple((name, s - first) for name, s in edges if 0 <= s - first < count)
                for edges in self.nodes[first : first + count]
            )
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"version": VERSION, "kind": self.kind, "nodes": self.nodes}


@dataclass(frozen=True)
class ContextGenotype:
    """How the context cell of each level is wired.

    Attributes:
        levels: the nodes of each level's cell: an operation, and the number of the node whose map
            it is given; 0 is the level's map, n the n-th node of the list.
        concat: which nodes are joined: `leaf`, those that no other node takes, or `all`.

    Raises:
        DataError: if an operation is unknown, or a node comes from itself or a later one.
    """

    kind: ClassVar[str] = "cpm"
    levels: tuple[tuple[Edge, ...], ...]
    concat: Literal["leaf", "all"] = "leaf"

    def __post_init__(self) -> None:
        if not self.levels:
            raise DataError("a context's genotype needs at least one level, got none")
        if self.concat not in ("leaf", "all"):
            raise DataError(f"concat is {self.concat!r}; expected 'leaf' or 'all'")
        for level, nodes in enumerate(self.levels):
            for node, (name, source) in enumerate(nodes, 1):
                _check_operation(name, f"level {level}, node {node}")
                if not 0 <= source < node:
                    raise DataError(
                        f"level {level}, node {node}: source {source}; expected an earlier node, "
                        f"0 (the cell's input) to {node - 1}, so that there is no cycle"
                    )
            if not nodes:
                raise DataError(f"level {level} has no node; expected at least one")

    def joined(self, level: int) -> tuple[int, ...]:
        """Numbers of the nodes of a level's cell that are joined."""
        nodes = self.levels[level]
        taken = {source for _, source in nodes} if self.concat == "leaf" else set()
        return tuple(node for node in range(1, len(nodes) + 1) if node not in taken)

    def at(self, strides: Sequence[int]) -> ContextGenotype:
        """The part for levels of these strides.

        Raises:
            DataError: if it has no such levels.
        """
        if len(self.levels) == len(strides):
            return self
        first = _place(strides, len(self.levels))
        return replace(self, levels=self.levels[first : first + len(strides)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        plain = {"version": VERSION, "kind": self.kind}
        return {**plain, "concat": self.concat, "levels": self.levels}


Genotype = PyramidGenotype | ContextGenotype


def _node(level: int, last: int = 5) -> tuple[Edge, ...]:
    neighbors = [s for s in (level + 1, level - 1) if 0 <= s <= last]
    return (*(("sep_conv_3x3", s) for s in neighbors), ("conv_1x1", level))


RELEASED_PYRAMID = PyramidGenotype(tuple(_node(level) for level in range(6)))
"""AutoFEM's pyramid: each neighbor through a separable 3x3 convolution, the level itself through a
1x1 one.

Source: the released code of DSFDv2, which ASFD's authors wrote.
"""
_TREE: tuple[Edge, ...] = (
    ("sep_conv_3x3", 0),
    ("dil_conv_3x3", 0),
    ("sep_conv_3x3", 2),
    ("dil_conv_3x3", 2),
    ("sep_conv_3x3", 4),
)
TREE_CONTEXT = ContextGenotype((_TREE,) * 6)
"""A hand-made context, for want of the searched one, which was never released: the tree of the
context module in DSFD's released code, the same on all levels."""


def to_json(genotype: Genotype) -> str:
    """A genotype as one line of JSON."""
    return json.dumps(genotype.to_dict(), separators=(",", ":"))


def from_json(text: str, where: str = "genotype") -> Genotype:
    """The genotype that a JSON text holds.

    Raises:
        DataError: if it holds none; begins with `where`.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: no JSON: {error}") from error
    if not isinstance(content, Mapping) or content.get("version") != VERSION:
        raise DataError(f'{where}: expected an object with "version": {VERSION}, got {text[:60]}')
    kind, rest = content.get("kind"), content.keys() - {"version", "kind"}
    known = {"fpn": {"nodes"}, "cpm": {"levels", "concat"}}.get(str(kind))
    if known is None:
        raise DataError(f"{where}: kind is {kind!r}; expected 'fpn' or 'cpm'")
    if rest - known or not rest & {"nodes", "levels"}:
        raise DataError(f"{where}: {kind} has {sorted(rest)}; expected {sorted(known)}")
    try:
        if kind == "fpn":
            return PyramidGenotype(_edges(content["nodes"]))
        return ContextGenotype(_edges(content["levels"]), content.get("concat", "leaf"))
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def read(path: str | Path) -> Genotype:
    """The genotype of a file.

    Raises:
        DataError: if there is no such file or it holds no genotype; names the file.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no genotype file {path}")
    try:
        return from_json(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no text: {error}") from error


def write(genotype: Genotype, path: str | Path) -> None:
    """Write a genotype as a file, a level a line."""
    plain = genotype.to_dict()
    name, rows = plain.popitem()
    head = json.dumps(plain)[:-1]
    lines = ",\n".join(f"    {json.dumps(row)}" for row in rows)
    write_text(path, f"{head}, {json.dumps(name)}: [\n{lines}\n]}}\n")


Kind = TypeVar("Kind", bound=Genotype)


def inline(value: str, kind: type[Kind]) -> str:
    """`value`, or where it names a file (`*.json`) the file's genotype as one line of JSON.

    A recipe that has passed through here no longer needs the file.

    Raises:
        DataError: if the file is none of a genotype of that kind.
    """
    return to_json(_checked(read(value), kind, value)) if value.endswith(".json") else value


def of_kind(kind: type[Kind], value: str) -> Kind:
    """The genotype in a JSON text, or of a file, which must be of a kind.

    Raises:
        DataError: if it is of the other kind or none.
    """
    return _checked(from_json(inline(value, kind)), kind, "genotype")


def _checked(found: Genotype, kind: type[Kind], where: str) -> Kind:
    if not isinstance(found, kind):
        raise DataError(f"{where} is of kind {found.kind!r}; expected {kind.kind!r}")
    return found


def _edges(rows: Any) -> tuple[tuple[Edge, ...], ...]:
    """Lists of [operation, source] pairs as tuples."""
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise DataError("expected a list of edges for each level")
    for level, row in enumerate(rows):
        for edge in row:
            pair = isinstance(edge, list) and [type(part) for part in edge] == [str, int]
            if not pair:
                raise DataError(f"level {level}: expected [operation, source], got {edge!r}")
    return tuple(tuple((name, source) for name, source in row) for row in rows)
