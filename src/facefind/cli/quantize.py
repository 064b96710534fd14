"""`facefind quantize`: an exported model becomes an int8 file, its loss measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from facefind.cli.options import Flag, Whole, check_written
from facefind.errors import DataError

__all__ = ["main", "quantize"]


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind quantize` with these arguments."""
    return tyro.cli(quantize, args=args, prog="facefind quantize")


def quantize(
    model: Annotated[str, tyro.conf.arg(metavar="MODEL")],
    /,
    *,
    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SET...")],
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.onnx")],
    images: int = 300,
    hold_out: float = 0.1,
    max_drop: float = 0.5,
    test_protocol: Annotated[str, tyro.conf.arg(metavar="NAME")] = "vga",
    threads: Whole = None,
    json: Flag = False,
) -> int:
    """Write an int8 file of a model: faster on a CPU, a third of the size.

    AP is measured before and after, on pictures of the set that are held out. Weights first have 7
    bits, which give the same results on every CPU. If more than .2 is lost they have 8 bits; if
    that does not help, the convolutions of the outputs stay in floats, then also the first one or
    those of the neck. If more than --max-drop is lost even so, nothing is written.

    Args:
        model: A model that ships (see `facefind models`) or an .onnx file of facefind.
        data: Labeled sets, as for `facefind train`: such pictures as the model will see.
        out: The file to write. Called NAME-int8.onnx beside NAME.onnx, it is what NAME with
            --precision int8 means.
        images: Pictures that scales are chosen on.
        hold_out: The part of the first set that AP is measured on.
        max_drop: Most points of AP (of 100) that may be lost, of faces of any height.
        test_protocol: The test protocol that AP is measured under.
        threads: CPU threads; all cores if not given.
        json: Print the card as JSON.
    """
    from facefind import datasets, protocols, quantization, weights

    if out.suffix != ".onnx":
        raise DataError(f"--out {out}: the name of the file must end in .onnx")
    file = weights.find(model)
    check_written([*data, file], out=out)
    protocols.get(test_protocol)
    samples, held_out = datasets.read_sets(data, hold_out=hold_out)
    made = quantization.quantize(
        file,
        out,
        samples,
        held_out,
        count=images,
        max_drop=max_drop / 100,
        protocol=test_protocol,
        threads=threads,
    )
    if json:
        print(made.card.to_json())
        return 0
    size = made.path.stat().st_size / 1e6
    how = f"{made.quantized}, weights of {made.bits} bits, {made.scales} scales"
    print(f"{made.path}: {how}, {size:.1f} MB")
    for name, ap in made.after.items():
        print(f"AP, {name}: {100 * ap:.2f}, before {100 * made.before[name]:.2f}")
    return 0
