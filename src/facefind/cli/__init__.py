"""The `facefind` command: names its subcommands, and loads the one that is run.

Nothing heavy is imported here, so that help and mistakes show at once. A subcommand is a module
of this package with a `main(args) -> exit code`, made from a typed function by tyro.

Exit codes: 0 all is done, 1 done in part (or a check found a fault), 2 stopped by a wrong option, a
file that is missing or in the way, no room to write or a missing package, 130 interrupted, 141 the
reader of stdout is gone with work undone, 143 ended by SIGTERM.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from facefind.cli.subcommands import usage
from facefind.errors import FacefindError, did_you_mean

__all__ = ["COMMANDS", "main"]

COMMANDS: dict[str, str] = {
    "detect": "find the faces in images, folders, globs or a video",
    "track": "follow the faces of a video, each under its number",
    "redact": "hide the faces in pictures and videos",
    "align": "cut faces out, upright, for recognition",
    "serve": "serve all of this over HTTP, with a page that shows it",
    "batch": "do millions of pictures with many processes or machines",
    "models": "list the models that ship, with their cards",
    "evaluate": "evaluate a model, or detections, on a labeled set",
    "data": "convert, check and count labeled sets",
    "mesh": "pre-train a mesh decoder on a template of your own, write templates",
    "train": "train a recipe, or resume a run",
    "mining": "show how many images a run's hard image mining skipped",
    "search": "find the best network of a budget, or feature modules",
    "convert": "turn a published checkpoint into one of facefind",
    "export": "turn a run or checkpoint into one checked ONNX file",
    "quantize": "turn an exported model into an int8 file, its loss measured",
    "cost": "count a recipe's parameters and multiply-adds by part",
    "samples": "count faces and positive anchors by scale over an epoch",
    "doctor": "report what is installed, what it can do and what clashes",
}
_EXTRAS = {
    "torch": "train",
    "yaml": "train",
    "onnx": "export",
    "onnxscript": "export",
    "nncf": "quantize",
    "scipy": "eval",
    "matplotlib": "eval",
    "onnxruntime": "onnx",
    "cv2": "cv",
    "av": "video",
    **dict.fromkeys(("fastapi", "uvicorn", "python_multipart", "prometheus_client"), "serve"),
    "pyarrow": "tables",
    "fsspec": "cloud",
    "s3fs": "cloud",
    "ray": "ray",
}
_FOLLOWING = ("detect", "track", "redact")  # commands that need SciPy for videos alone


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code of the command line `argv` (of `sys.argv` where None).

    Mistakes of the user end in one line on stderr. `SystemExit` comes only from tyro, for `--help`
    and for options it can't read.
    """
    name, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    program = f"facefind {name}" if name in COMMANDS else "facefind"
    try:
        with _noted() as came:
            _open_streams()
            return _run(program, name, rest, came)
    except _Terminated:
        return _fail(program, "ended by SIGTERM", code=143)
    except KeyboardInterrupt:
        return _fail(program, "interrupted", code=130)


class _Terminated(KeyboardInterrupt):
    """SIGTERM has come: what is open is closed, and the command ends."""


def _run(program: str, name: str, rest: Sequence[str], came: list[int]) -> int:
    try:
        try:
            code = _command(name, rest)
            sys.stdout.flush()
        except Exception:
            if came:  # a library, importing another, has made an error of its own of it
                raise _error(came[-1]) from None
            raise
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        if extra == "eval" and name in _FOLLOWING:
            extra = "video"
        return _fail(program, f"needs {error.name}: pip install 'facefind[{extra}]'")
    except BrokenPipeError:  # the reader has enough, but not all was done
        from facefind.cli import output

        output.drop_stdout()
        return 141
    except (FacefindError, OSError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = ": make room on the disk that is written to, and run it again" if full else ""
        return _fail(program, " ".join(str(error).split()) + advice)
    return code


def _command(name: str, args: Sequence[str]) -> int:
    if name in ("-h", "--help", "help"):
        text = "Find faces; train, measure and export the detectors that do it."
        print(usage("facefind", text, "command", COMMANDS))
        print("facefind --version prints the version.")
        return 0
    if name in ("-V", "--version", "version"):
        from facefind import __version__

        print(f"facefind {__version__}")
        return 0
    if name not in COMMANDS:
        near = did_you_mean(name, COMMANDS) or f"; the commands are {', '.join(COMMANDS)}"
        return _fail("facefind", f"there is no command {name!r}{near}")
    code: int = importlib.import_module(f"facefind.cli.{name}").main(args)
    return code


def _open_streams() -> None:
    """See that the standard streams are there, whatever the parent has closed, and take any name.

    Otherwise the next file that is opened would get their numbers, and what libraries print.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names may hold what it can't encode
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def _noted() -> Iterator[list[int]]:
    """The signals that came: SIGTERM ends the block as SIGINT does, a second one at once.

    What is raised in a callback, such as each import has, is lost: then the signal is sent again.
    """
    ways = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    came: list[int] = []
    mine = threading.current_thread() is threading.main_thread()
    before = {n: way for n, way in ways.items() if mine and signal.getsignal(n) is way}
    owner, unraisable = os.getpid(), sys.unraisablehook

    def end(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            signal.signal(number, signal.SIG_DFL)
            if os.getpid() != owner:  # a fork, which the parent means to end
                os.kill(os.getpid(), number)
        came.append(number)
        raise _error(number)

    def again(lost: sys.UnraisableHookArgs) -> None:
        if came and isinstance(lost.exc_value, _error(came[-1])):
            signal.signal(came[-1], end)
            threading.Timer(0.1, os.kill, (owner, came[-1])).start()
        else:
            unraisable(lost)

    sys.unraisablehook = again if before else unraisable
    try:
        try:
            for number in before:  # whose way is another, has plans of its own
                signal.signal(number, end)
            yield came
        finally:
            if signal.SIGTERM in before:  # from here on it does not come in between
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
    finally:
        for number, way in before.items():
            signal.signal(number, way)
        sys.unraisablehook = unraisable


def _error(number: int) -> type[KeyboardInterrupt]:
    return _Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _fail(program: str, message: str, code: int = 2) -> int:
    from facefind.cli import output

    output.say(f"{program}: {message}")
    return code
