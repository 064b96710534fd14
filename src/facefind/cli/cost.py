"""`facefind cost`: parameters and multiply-adds of a recipe's network, by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from facefind.cli import output, recipe
from facefind.cli.options import File, Flag
from facefind.errors import DataError
from facefind.learn.recipe import NetworkConfig
from facefind.protocols import parse_size

__all__ = ["main"]


@dataclass(frozen=True, kw_only=True)
class _Cost:
    """Count the parameters and multiply-adds of a recipe's network, by part."""

    network: NetworkConfig
    size: Annotated[str, tyro.conf.arg(metavar="WIDTHxHEIGHT")] = "640x480"
    """Size of the one image that is counted, in pixels."""
    json: Flag = False
    """Print JSON instead of a table."""
    out: File = None
    """Write the same as JSON to this file."""


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind cost` with these arguments."""
    chosen, rest = recipe.named(args)
    if chosen is None:
        print(recipe.usage("cost", "Count parameters and multiply-adds by part."))
        return 0 if {"-h", "--help"} & set(rest) else 2
    program = f"facefind cost {args[0]}"
    options = tyro.cli(_Cost, default=_Cost(network=chosen.network), args=rest, prog=program)
    height, width = parse_size(options.size)
    if width % 32 or height % 32:
        raise DataError(
            f"--size {options.size}: both sides must be multiples of 32, which networks take"
        )

    from facefind.nn.cost import measure

    cost = measure(recipe.build(options.network), height, width)
    found = {"recipe": chosen.name, "width": width, "height": height} | cost.to_dict()
    rows = [
        (name, f"{part['parameters']:,}", f"{part['multiply_adds']:,}")
        for name, part in [
            *cost.parts.items(),
            ("all", {"parameters": cost.parameters, "multiply_adds": cost.multiply_adds}),
        ]
    ]
    text = output.table(("part", "parameters", "multiply-adds"), rows, right=(1, 2))
    output.emit(found, text, as_json=options.json, out=options.out)
    return 0
