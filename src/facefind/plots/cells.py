"""Figures of searched feature modules: their wiring as graphs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facefind.plots.figure import new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Edges = Sequence[tuple[str, int]]
"""Operation and source of each edge or node, as a genotype has them."""
Place = tuple[float, float]


def draw_pyramid(path: str | Path, nodes: Sequence[Edges], strides: Sequence[int]) -> Path:
    """Write a pyramid's graph to an image file; return its path.

    A row a level, coarse above: its map, its result on the way down, that on the way up, and what
    comes out. Arrows with a name are operations, the others hand on.

    Args:
        path: image file to write.
        nodes: the edges of each level, fine to coarse.
        strides: of the levels.
    """
    figure = new_figure(9.0, 1.1 * len(nodes) + 0.8)
    axes = figure.add_subplot()
    inputs = {level: (0.0, float(level)) for level in range(len(nodes))}
    outputs = {level: (3.0, float(level)) for level in range(len(nodes))}
    down, up = dict(inputs), dict(inputs)
    for level, edges in enumerate(nodes):
        for _, source in edges:
            if source > level:
                down[level] = (1.0, float(level))
            elif source < level:
                up[level] = (2.0, float(level))
    for level, edges in enumerate(nodes):
        for name, source in edges:
            if source == level:
                _arrow(axes, inputs[level], outputs[level], name, bend=0.1)
                continue
            results = down if source > level else up
            begin, end = results[source], results[level]
            _arrow(axes, begin, end, name, at=0.5 if begin[0] == end[0] else 0.3)
            _arrow(axes, inputs[level], results[level], bend=-0.1)
            _arrow(axes, results[level], outputs[level], bend=-0.1)
    places = {*inputs.values(), *outputs.values(), *down.values(), *up.values()}
    for x, y in places:
        _dot(axes, (x, y), f"{strides[int(y)]}")
    axes.set_xticks(range(4), ["map", "down", "up", "out"])
    axes.set_title("numbers are strides", fontsize="small")
    _frame(axes, (-0.4, 3.4), (-0.6, len(nodes) - 0.4))
    return save(figure, path)


def draw_context(
    path: str | Path,
    levels: Sequence[Edges],
    joined: Sequence[Sequence[int]],
    strides: Sequence[int],
) -> Path:
    """Write the trees of a context's cells to an image file; return its path.

    Args:
        path: image file to write.
        levels: operation and source of the nodes of each level's cell.
        joined: numbers of the nodes of each level that are joined; they are drawn filled.
        strides: of the levels.
    """
    columns = min(len(levels), 3)
    rows = math.ceil(len(levels) / columns)
    figure = new_figure(4.2 * columns, 3.2 * rows)
    for level, (nodes, leaves) in enumerate(zip(levels, joined, strict=True)):
        axes = figure.add_subplot(rows, columns, level + 1)
        places = _tree([source for _, source in nodes])
        for number, (name, source) in enumerate(nodes, 1):
            _arrow(axes, places[source], places[number], name)
        for number, place in enumerate(places):
            _dot(axes, place, "in" if number == 0 else str(number), filled=number in leaves)
        axes.set_title(f"stride {strides[level]}", fontsize="small")
        axes.set_xticks([])
        depths, heights = zip(*places, strict=True)
        _frame(axes, (-0.4, max(depths) + 0.4), (min(heights) - 0.6, max(heights) + 0.6))
    return save(figure, path)


def _tree(sources: Sequence[int]) -> list[Place]:
    """(depth, height) of node 0 and of the nodes of these sources, so that no edges cross."""
    children: dict[int, list[int]] = {}
    for number, source in enumerate(sources, 1):
        children.setdefault(source, []).append(number)
    places: dict[int, Place] = {}
    leaves = 0

    def put(number: int, depth: int) -> float:
        nonlocal leaves
        heights = [put(child, depth + 1) for child in children.get(number, [])]
        if not heights:
            heights = [float(leaves)]
            leaves += 1
        places[number] = (float(depth), sum(heights) / len(heights))
        return places[number][1]

    put(0, 0)
    return [places[number] for number in range(len(sources) + 1)]


def _arrow(
    axes: Axes, start: Place, end: Place, name: str = "", *, bend: float = 0.0, at: float = 0.5
) -> None:
    """An arrow from dot to dot, its name at a fraction of the way."""
    style = {"arrowstyle": "-|>", "shrinkA": 11, "shrinkB": 11, "color": "C0" if name else "0.7"}
    style["connectionstyle"] = f"arc3,rad={bend}"
    axes.annotate("", xy=end, xytext=start, arrowprops=style)
    if name:
        # A bent arrow's middle lies beside the straight one's by half of `rad` of its length; a
        # pyramid's columns are twice as far from each other as its rows.
        x, y = (a + at * (b - a) for a, b in zip(start, end, strict=True))
        shift = 2 * bend * (start[0] - end[0]) / 2
        box = {"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.8}
        axes.text(x, y + shift, name, ha="center", va="center", size=6, bbox=box)


def _dot(axes: Axes, place: Place, text: str, *, filled: bool = False) -> None:
    color = "C1" if filled else "white"
    axes.scatter(*place, s=260, c=color, edgecolors="C1", zorder=3)
    axes.text(*place, text, ha="center", va="center", size=7, zorder=4)


def _frame(axes: Axes, across: tuple[float, float], along: tuple[float, float]) -> None:
    axes.set(xlim=across, ylim=along, yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
