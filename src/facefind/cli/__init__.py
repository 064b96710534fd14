"""The `facefind` command: names its subcommands, and loads the one that is run.

Nothing heavy is imported here, so that help and mistakes show at once. A subcommand is a module
of this package with a `main(args) -> exit code`, made from a typed function by tyro.

Exit codes: 0 all is done, 1 done in part (or `doctor` found a fault), 2 nothing done because of a
wrong option, a missing file or a missing package, 130 interrupted.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence

from facefind.cli.suggestions import suggest
from facefind.errors import FacefindError

__all__ = ["COMMANDS", "main"]

COMMANDS: dict[str, str] = {
    "detect": "find the faces in images, folders or globs",
    "align": "cut faces out, upright, for recognition",
    "models": "list the models that ship, with their cards",
    "evaluate": "evaluate a model, or detections, on a labeled set",
    "data": "convert, check and count labeled sets",
    "mesh": "pre-train a mesh decoder on a template of your own, write templates",
    "train": "train a recipe, or resume a run",
    "mining": "show how many images a run's hard image mining skipped",
    "search": "find the best network of a budget, or feature modules",
    "convert": "turn a published checkpoint into one of facefind",
    "export": "turn a run or checkpoint into one checked ONNX file",
    "cost": "count a recipe's parameters and multiply-adds by part",
    "samples": "count faces and positive anchors by scale over an epoch",
    "doctor": "report what is installed, what it can do and what clashes",
}
_EXTRAS = {
    "torch": "train",
    "yaml": "train",
    "onnx": "export",
    "onnxscript": "export",
    "scipy": "eval",
    "matplotlib": "eval",
    "onnxruntime": "onnx",
    "cv2": "cv",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of the command line `argv` (of `sys.argv` where None).

    Mistakes of the user end in one line on stderr. `SystemExit` comes only from tyro, for `--help`
    and for options it can't read.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may hold what it can't encode
        sys.stdout.reconfigure(errors="backslashreplace")
    name, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help", "help"):
        print(_help())
        return 0
    if name in ("-V", "--version", "version"):
        from facefind import __version__

        print(f"facefind {__version__}")
        return 0
    if name not in COMMANDS:
        return _fail(
            "facefind", f"there is no command {name!r}{suggest(name, COMMANDS, 'the commands are')}"
        )
    program = f"facefind {name}"
    try:
        code: int = importlib.import_module(f"facefind.cli.{name}").main(rest)
        sys.stdout.flush()
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        return _fail(program, f"needs {error.name}: pip install 'facefind[{extra}]'")
    except BrokenPipeError:  # the reader, as in `| head`, has what it needs
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (FacefindError, OSError) as error:
        return _fail(program, " ".join(str(error).split()))
    except KeyboardInterrupt:
        return _fail(program, "interrupted", code=130)
    return code


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: facefind COMMAND [OPTION ...]",
            "",
            "Find faces; train, measure and export the detectors that do it.",
            "",
            "commands:",
            *lines,
            "",
            "facefind COMMAND --help lists its options, facefind --version the version.",
        ]
    )


def _fail(program: str, message: str, code: int = 2) -> int:
    print(f"{program}: {message}", file=sys.stderr)
    return code
