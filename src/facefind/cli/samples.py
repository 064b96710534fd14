"""`facefind samples`: faces and positive anchors by scale, as recipes' crops make them."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan
from typing import TYPE_CHECKING, Annotated

import tyro

from facefind.cli import output
from facefind.cli.options import File, Flag, Whole, check_written
from facefind.errors import DataError

if TYPE_CHECKING:
    from facefind.learn.redistribution import Counts

__all__ = ["main", "samples"]


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind samples` with these arguments."""
    return tyro.cli(samples, args=args, prog="facefind samples")


def samples(
    recipe: Annotated[tuple[str, ...], tyro.conf.arg(metavar="RECIPE ...")],
    /,
    *,
    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SET ...")],
    images: Whole = None,
    seed: int = 0,
    plot: File = None,
    plot_matching: File = None,
    json: Flag = False,
    out: File = None,
) -> int:
    """Count the faces and positive anchors, by scale, that one epoch of training sees.

    Several recipes are compared side by side: scrfd-2.5g-nosr scrfd-2.5g shows what sample
    redistribution does. Only labels and image headers are read.

    Args:
        recipe: Recipes whose crops are drawn; the first one is what others are compared with.
        data: Labeled sets, in any layout; all of their images are used, none held out.
        images: Crops to draw; one epoch, that is as many as there are images, if not given.
        seed: Seed of the crops, that of a run.
        plot: Image file for the counts, such as samples.png.
        plot_matching: Image file for how near faces are to anchors in size, and how many a face
            has, such as matching.png.
        json: Print JSON instead of a table.
        out: Write the same as JSON to this file.
    """
    import torch

    from facefind import datasets, recipes
    from facefind.learn import redistribution
    from facefind.learn.assigners import SimOTA

    check_written(data, out=out, plot=plot, plot_matching=plot_matching)
    chosen = {name: recipes.get(name) for name in recipe}
    if not chosen:
        raise DataError("no recipe was named; expected one or more, such as scrfd-2.5g-nosr")
    if images is not None and images < 1:
        raise DataError(f"--images {images}: expected a number of crops from 1 on")
    drawn, _ = datasets.read_sets(data)
    if not drawn:
        raise DataError(f"no images in {', '.join(data)}")
    counts = {}
    for name, one in chosen.items():
        side = one.augment.size
        with torch.device("meta"):
            grid = one.network.build().anchors
        anchors = grid([(-(-side // stride),) * 2 for stride in grid.strides])
        assigner = one.criterion.assigner.build()
        if isinstance(assigner, SimOTA):
            raise DataError(f"{name} assigns anchors by what a network predicts: nothing to count")
        counts[name] = redistribution.count(
            drawn, one.augment, anchors, assigner, seed=seed, images=images
        )
    if plot is not None:
        from facefind.plots.samples import draw_counts

        draw_counts(
            plot,
            redistribution.face_scales(),
            {name: one.faces for name, one in counts.items()},
            {name: one.anchors for name, one in counts.items()},
        )
    scales = redistribution.face_scales()
    means = {
        name: [
            many / faces if faces else nan
            for many, faces in zip(one.matched, one.faces, strict=True)
        ]
        for name, one in counts.items()
    }
    if plot_matching is not None:
        from facefind.plots.samples import draw_matching

        draw_matching(
            plot_matching,
            scales,
            means,
            redistribution.fine_scales(),
            {name: one.scales for name, one in counts.items()},
        )
    digest = datasets.digest(drawn)
    found = {
        "seed": seed,
        "digest": digest,
        "face_scales": scales,
        "fine_scales": redistribution.fine_scales(),
        "counts": {name: one.to_dict() for name, one in counts.items()},
    }
    tables = {
        "faces": {name: dict(zip(scales, c.faces, strict=True)) for name, c in counts.items()},
        "faces without an anchor": {
            name: dict(zip(scales, c.unmatched, strict=True)) for name, c in counts.items()
        },
        "positive anchors": {
            name: {str(side): many for side, many in c.anchors.items()}
            for name, c in counts.items()
        },
    }
    drawn_crops = next(iter(counts.values())).images
    text = "\n\n".join(_table(title, rows) for title, rows in tables.items())
    text += "\n\n" + _means(scales, means, counts)
    text += f"\n\n{drawn_crops:,} crops a recipe, seed {seed}, labels sha256 {digest[:12]}"
    output.emit(found, text, as_json=json, out=out)
    return 0


def _means(scales: Sequence[str], means: dict[str, list[float]], counts: dict[str, Counts]) -> str:
    """Anchors a face by scale, a column a recipe."""
    rows = [
        [
            scale,
            *("-" if isnan(values[place]) else f"{values[place]:.2f}" for values in means.values()),
        ]
        for place, scale in enumerate(scales)
    ]
    whole = [f"{sum(c.matched) / max(sum(c.faces), 1):.2f}" for c in counts.values()]
    rows.append(["all", *whole])
    return output.table(["anchors a face", *means], rows, right=range(1, len(means) + 1))


def _table(title: str, rows: dict[str, dict[str, int]]) -> str:
    """Counts a scale, a column a recipe, and how the later ones relate to the first."""
    first, *others = rows
    header = [title, first, *(part for name in others for part in (name, "x"))]
    totals = {name: sum(row.values()) for name, row in rows.items()}
    lines = []
    for scale in [*rows[first], "all"]:
        values = {name: rows[name].get(scale, totals[name]) for name in rows}
        cells = [scale, f"{values[first]:,}"]
        for name in others:
            ratio = f"{values[name] / values[first]:.2f}" if values[first] else "-"
            cells += [f"{values[name]:,}", ratio]
        lines.append(cells)
    return output.table(header, lines, right=range(1, len(header)))
