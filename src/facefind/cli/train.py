"""`facefind train`: a recipe, changed by options, becomes a run folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from facefind.cli import output, recipe
from facefind.cli.options import Flag
from facefind.learn.recipe import Recipe

__all__ = ["main"]

_TEXT = """Train a recipe: facefind train RECIPE --data SET --out runs/a
Every value of the recipe is an option.
facefind train --resume RUN resumes a run from its last checkpoint, with the same options.
Under torchrun, `torchrun --nproc-per-node N -m facefind train ...` shares each batch.
FACEFIND_MAX_STEPS=N in the environment finishes any training after N steps, to try a command."""


@dataclass(frozen=True, kw_only=True)
class _Train:
    """Train a recipe. Every value of it is an option, with the recipe's own as the default."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    resume: Annotated[Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="")] = None
    """Resume the run in this folder from its last checkpoint."""
    json: Flag = False
    """Print the run folder as JSON at the end."""


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind train` with these arguments."""
    chosen, rest = recipe.named(args)
    program = f"facefind train {args[0]}" if chosen else "facefind train"
    if chosen is None:
        run = _resumed(rest)
        if run is None:
            print(recipe.usage("train", _TEXT))
            return 0 if {"-h", "--help"} & set(rest) else 2
        from facefind.recipes import read_recipe

        chosen = read_recipe(run)
    options = tyro.cli(_Train, default=_Train(recipe=chosen), args=rest, prog=program)
    final = options.recipe
    if options.resume is not None:
        final = replace(final, run=replace(final.run, out=options.resume))
    recipe.build(final.network)  # before any image is read: it is the quickest thing to be wrong
    if final.run.init_from is not None:
        import facefind.interop  # noqa: F401  # so that --init-from knows the files of others

    from facefind.learn import checkpoints
    from facefind.learn.engine import train

    folder = train(final, resume=options.resume is not None)
    if os.environ.get("RANK", "0") == "0":
        text = f"{folder}: facefind export {folder} --out {final.name}.onnx makes it a model"
        if (best := folder / checkpoints.BEST).is_file():
            text += f"; {best} holds the weights of its best evaluation"
        output.emit({"run": str(folder)}, text, as_json=options.json, out=None)
    return 0


def _resumed(args: Sequence[str]) -> str | None:
    """The run that --resume names, read before the recipe, which lies in that run, is known."""
    for index, arg in enumerate(args):
        if arg.startswith("--resume="):
            return arg.partition("=")[2]
        if arg == "--resume" and index + 1 < len(args):
            return args[index + 1]
    return None
