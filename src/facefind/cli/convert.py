"""`facefind convert`: a published checkpoint becomes one of ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from facefind.cli.options import Flag, Text, check_written
from facefind.errors import DataError

__all__ = ["convert", "main"]


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind convert` with these arguments."""
    return tyro.cli(convert, args=args, prog="facefind convert")


def convert(
    checkpoint: Annotated[Path, tyro.conf.arg(metavar="CHECKPOINT")],
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.pt")],
    row: Text = None,
    format: Text = None,
    json: Flag = False,
) -> int:
    """Turn a checkpoint that others published into one of facefind.

    What the file is, is detected from the names of its tensors. facefind export makes a model of
    the result, as of any checkpoint. The weights stay under their authors' license, which is
    printed here and written into the card of the export.

    Args:
        checkpoint: The published file: .pth, .onnx, .caffemodel.
        out: The checkpoint to write.
        row: Which network it is, such as scrfd-2.5g, where the file leaves that open.
        format: What kind of file it is, where it fits several; a wrong name lists all kinds.
        json: Print JSON instead of text.
    """
    from facefind import interop

    if out.suffix == ".onnx":
        raise DataError(f"--out {out}: this writes a checkpoint; facefind export makes it .onnx")
    check_written([checkpoint], out=out)
    done = interop.convert(checkpoint, out, format=format, row=row)
    if json:
        import json as json_text

        print(json_text.dumps({"checkpoint": str(out)} | done.to_dict(), indent=2))
        return 0
    print(f"{out}: {done.recipe}, from {done.format}")
    print(f"license of the weights: {done.license}")
    print(f"next: facefind export {out} --out {out.with_suffix('.onnx').name}")
    return 0
