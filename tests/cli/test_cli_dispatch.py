"""The front door: help, version, mistakes, exit codes."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import facefind.cli
from facefind.cli import COMMANDS, main
from facefind.errors import WeightsError


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"]])
def test_help_lists_every_command_on_a_line(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, text in COMMANDS.items():
        assert any(line.split() == [name, *text.split()] for line in lines)
    assert max(map(len, lines)) <= 80


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"facefind {facefind.__version__}\n"


@pytest.mark.parametrize(
    ("typed", "meant"), [("detct", "detect"), ("evalute", "evaluate"), ("trian", "train")]
)
def test_unknown_command_names_the_near_one(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([typed]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"did you mean {meant!r}" in said.err


def test_command_like_no_other_is_told_all_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["qqqq"]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in COMMANDS)


def test_every_command_has_its_file_and_no_file_is_left_over() -> None:
    folder = Path(importlib.import_module("facefind.cli").__file__ or "").parent
    files = {path.stem: path for path in folder.glob("*.py") if path.stem != "__init__"}
    files |= {path.parent.name: path for path in folder.glob("*/__init__.py")}
    commands = {
        name for name, path in files.items() if "def main(" in path.read_text(encoding="utf-8")
    }
    assert commands == set(COMMANDS)


@pytest.mark.parametrize(
    "name", sorted(set(COMMANDS) - {"batch", "data", "evaluate", "mesh", "search", "train", "cost"})
)
def test_help_of_a_command_comes_from_tyro(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert f"usage: facefind {name}" in said
    assert "default: None" not in said  # says nothing that the help does not
    assert "default: False" not in said


def test_option_that_is_not_there_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["doctor", "--jsn"])
    assert stop.value.code == 2
    assert "--jsn" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (WeightsError("no such\n  model"), 2, "facefind doctor: no such model\n"),
        (OSError("disk full"), 2, "facefind doctor: disk full\n"),
        (OSError(errno.ENOSPC, "No room"), 2, "No room: make room on the disk that is written to"),
        (ModuleNotFoundError("torch", name="torch._C"), 2, "pip install 'facefind[train]'"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_users_cause_is_one_line_and_a_code(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(args: list[str]) -> int:
        raise error

    monkeypatch.setattr("facefind.cli.doctor.main", fail)
    assert main(["doctor"]) == code
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(("command", "extra"), [("evaluate", "eval"), ("track", "video")])
def test_a_package_is_named_with_the_extra_that_the_command_needs(
    command: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(args: list[str]) -> int:
        raise ModuleNotFoundError("scipy", name="scipy")

    monkeypatch.setattr(f"facefind.cli.{command}.main", fail)
    assert main([command]) == 2
    assert f"pip install 'facefind[{extra}]'" in capsys.readouterr().err


def ended_at(moment: int, args: list[str], file: str | None = None) -> int | None:
    """Exit code of a command that gets SIGTERM in its N-th line of a file, or call of any.

    None: it has fewer.
    """
    left, event_of = moment, "call" if file is None else "line"

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal left
        counts = event == event_of and file in (None, frame.f_code.co_filename)
        if counts and signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGTERM)
        return trace

    former = sys.gettrace()
    sys.settrace(trace)
    try:
        code = main(args)
    finally:
        sys.settrace(former)
    return code if left <= 0 else None


posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@posix
def test_sigterm_at_any_line_of_the_start_ends_cleanly(capsys: pytest.CaptureFixture[str]) -> None:
    for moment in count(1):
        code = ended_at(moment, ["--version"], facefind.cli.__file__)
        said = capsys.readouterr()
        if code is None:
            break
        assert (code, said.err) == (143, "facefind: ended by SIGTERM\n")
    assert moment > 20
    assert said.out.startswith("facefind ")


@posix
def test_sigterm_at_many_moments_of_a_command_ends_cleanly(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for step in count():
        code = ended_at(int(1.6**step), ["models", "--json"])
        said = capsys.readouterr().err
        if code is None:
            break
        assert (code, said) == (143, "facefind models: ended by SIGTERM\n")
    assert step > 8


@pytest.fixture
def usual_signals() -> Iterator[None]:
    """Those of a program begun at a terminal: a shell's background jobs ignore SIGINT."""
    ways = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, way) for number, way in ways.items()}
    yield
    for number, way in before.items():
        signal.signal(number, way)


@posix
@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_that_comes_in_a_callback_is_not_lost(
    number: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An import has such a callback, and ends well whatever is raised there."""

    def command(args: list[str]) -> int:
        thing = threading.Event()
        finished = weakref.ref(thing, lambda gone: os.kill(os.getpid(), number))
        del thing
        threading.Event().wait(20)
        return int(finished() is None)

    monkeypatch.setattr("facefind.cli.doctor.main", command)
    assert main(["doctor"]) == code
    assert capsys.readouterr().err.startswith("facefind doctor: ")


@posix
@pytest.mark.usefixtures("usual_signals")
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGTERM, 143, "ended by SIGTERM"), (signal.SIGINT, 130, "interrupted")],
)
def test_a_signal_that_a_library_takes_for_its_own_error_is_told_as_such(
    number: int,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Modules in C that import others say they are not there, whatever comes in between."""

    def command(args: list[str]) -> int:
        try:
            os.kill(os.getpid(), number)
            threading.Event().wait(20)
        except KeyboardInterrupt:
            raise WeightsError("onnxruntime is not installed") from None
        return 0

    monkeypatch.setattr("facefind.cli.doctor.main", command)
    before = signal.getsignal(number)
    assert main(["doctor"]) == code
    assert capsys.readouterr().err == f"facefind doctor: {said}\n"
    assert signal.getsignal(number) is before


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(args: list[str]) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr("facefind.cli.doctor.main", fail)
    with pytest.raises(ZeroDivisionError):
        main(["doctor"])


def test_a_reader_that_stops_early_is_no_error() -> None:
    command = f"{sys.executable} -m facefind doctor --json | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert done.stdout == "{\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("args", "near"),
    [
        (["detect", "a.jpg", "--modle", "x"], "--model"),
        (["align", "a.jpg", "--out", "x", "--min-scor", "0.5"], "--min-score"),
        (["evaluate", "wider", "--data", "x", "--plt", "b"], "--plot"),
    ],
)
def test_a_typo_in_an_option_gets_the_near_ones(
    args: list[str], near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    suggestions = capsys.readouterr().err.partition("Perhaps you meant")[2]
    assert near in suggestions


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["evaluate", "fdbd"], "did you mean 'fddb'"),
        (["mesh", "pretrian"], "did you mean 'pretrain'"),
        (["evaluate", "qqqq"], "there are wider, fddb"),
    ],
)
def test_a_typo_in_an_action_gets_the_near_ones(
    args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 2
    assert said in capsys.readouterr().err


def test_help_is_there_at_once() -> None:
    """In processor time, which is what a free machine takes; a busy one lets everybody wait."""
    code = "import sys, facefind.cli; sys.exit(facefind.cli.main(['--help']))"
    seconds = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        after = os.times()
        used = after.children_user + after.children_system
        seconds.append(used - before.children_user - before.children_system)
    assert 0 < min(seconds) < 0.3
