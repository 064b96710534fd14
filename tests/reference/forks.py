"""Python code that is run in a process of its own, which forks or ends as it likes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

FORK = """
import os, pathlib, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on: threads are what is tried

def child(work, seconds=20):
    "Exit code of a forked process that does the work; -1 where it hangs."
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            print("child:", repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return code_of(pid, seconds)

def code_of(pid, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return -1
"""


def run(code: str) -> None:
    """Run Python code in a process of its own, in which `child` forks."""
    paths = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, "-c", FORK + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
