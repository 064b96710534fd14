"""`facefind cost`: parameters and multiply-adds of a recipe's network, by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from facefind.cli import output, recipe
from facefind.cli.options import File, Flag
from facefind.learn.recipe import NetworkConfig
from facefind.protocols import parse_size

__all__ = ["main"]


@dataclass(frozen=True, kw_only=True)
class _Cost:
    """Count the parameters and multiply-adds of a recipe's network, by part."""

    network: NetworkConfig
    size: Annotated[str, tyro.conf.arg(metavar="WIDTHxHEIGHT")] = "640x480"
    """Size of the one image that is counted, in pixels; sides are rounded up to what the network
    takes, as detection pads images."""
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
    requested = parse_size(options.size)

    from facefind.nn.cost import measure

    network = recipe.build(options.network)
    multiple = network.size_multiple
    height, width = (-(-side // multiple) * multiple for side in requested)
    cost = measure(network, height, width)
    found = {"recipe": chosen.name, "width": width, "height": height} | cost.to_dict()
    rows = [
        (name, f"{part['parameters']:,}", f"{part['multiply_adds']:,}")
        for name, part in [
            *cost.parts.items(),
            ("all", {"parameters": cost.parameters, "multiply_adds": cost.multiply_adds}),
        ]
    ]
    text = output.table(("part", "parameters", "multiply-adds"), rows, right=(1, 2))
    if (height, width) != requested:
        text += f"\n\ncounted at {width}x{height}: sides are multiples of {multiple}"
    output.emit(found, text, as_json=options.json, out=options.out)
    return 0
