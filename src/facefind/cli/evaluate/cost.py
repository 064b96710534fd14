"""`facefind evaluate cost`: what models cost, by image size."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from facefind.cli import output
from facefind.cli.evaluate.reporting import TableOptions
from facefind.cli.options import Measured
from facefind.errors import DataError
from facefind.images import MAX_PIXELS, Truncated

if TYPE_CHECKING:
    from facefind.evaluation.cost import Cost

__all__ = ["run"]

_HEADER = ("model", "image", "parameters", "multiply-adds", "ms", "images/s", "peak MiB")


@dataclass(frozen=True, kw_only=True)
class _CostOfModels(TableOptions, Measured):
    """Measure parameters, multiply-adds, latency and peak memory of models by image size.

    Latency is from a decoded image of noise to faces, the median of the rounds; each size runs in a
    process of its own, whose peak of memory is given.
    """

    model: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")]
    """Models that ship or .onnx files."""
    sizes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="WIDTHxHEIGHT ...")] = (
        "320x240",
        "640x480",
        "1280x960",
    )
    """Image sizes in pixels."""
    rounds: int = 20
    """Times each is measured."""
    test_protocol: tyro.conf.Suppress[None] = None  # images are run at the sizes
    min_score: tyro.conf.Suppress[None] = None
    batch_size: tyro.conf.Suppress[None] = None
    max_pixels: tyro.conf.Suppress[int] = MAX_PIXELS  # no file is read
    truncated: tyro.conf.Suppress[Truncated] = "error"


def run(args: Sequence[str], command: str) -> int:
    """Exit code 0 once the table is out, 1 where a model does not take one of the sizes."""
    from facefind import __version__, weights
    from facefind.evaluation.cost import measure
    from facefind.protocols import parse_size
    from facefind.runtimes import open_model
    from facefind.runtimes.cpu import processor

    options = tyro.cli(_CostOfModels, args=args, prog="facefind evaluate cost")
    options.check_inference()
    if not options.model:
        raise DataError("--model: name at least one")
    sizes = [parse_size(text) for text in options.sizes]
    costs: list[Cost] = []
    left_out = 0
    for name in options.model:
        path = weights.find(name)
        fixed = open_model(path, options.runtime, 1).card.fixed_size
        fit = [s for s in sizes if fixed is None or (s[0] <= fixed[0] and s[1] <= fixed[1])]
        for height, width in [size for size in sizes if size not in fit]:
            left_out += 1
            print(
                f"facefind evaluate: {path.name} takes only {fixed}, not {width}x{height}",
                file=sys.stderr,
            )
        if fit:
            costs.append(measure(path, fit, rounds=options.rounds, **options.running()))
    rows = [row for cost in costs for row in _rows(cost)]
    text = options.table(_HEADER, rows, right=range(2, 7))
    notes = sorted(
        {f"{c.runtime}, {c.provider}, {c.precision}, {c.threads} threads" for c in costs}
    )
    text += f"\n\n{'; '.join(notes)}; {processor()}"
    report = {
        "measure": "cost",
        "protocol": f"decoded image of noise to faces, median of {options.rounds}",
        "models": [cost.to_dict() for cost in costs],
        "processor": processor(),
        "facefind": __version__,
        "command": command,
    }
    output.emit(report, text, as_json=options.json, out=options.out)
    return 1 if left_out else 0


def _rows(cost: Cost) -> list[tuple[str, ...]]:
    return [
        (
            cost.model,
            f"{timing.width}x{timing.height}",
            f"{cost.parameters / 1e6:.2f} M",
            f"{timing.multiply_adds / 1e9:.2f} G",
            f"{timing.milliseconds:.1f}",
            f"{1e3 / timing.milliseconds:.1f}",
            "-" if timing.peak_mib is None else f"{timing.peak_mib:.0f}",
        )
        for timing in cost.timings
    ]
