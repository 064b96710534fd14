"""Signals, closed streams, readers that leave, and environments with little in them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and shells of POSIX")

FACEFIND = [sys.executable, "-m", "facefind"]
DETECT = [*FACEFIND, "detect", "p", "--model", "scrfd-500m-kps", "--protocol", "160"]
DETECT += ["--threads", "1"]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `p` of 40 pictures in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(os.path.abspath, sys.path)))
    (tmp_path / "p").mkdir()
    for number in range(40):
        image = Image.fromarray(np.full((80, 96, 3), number, np.uint8))
        image.save(tmp_path / "p" / f"{number:02}.png")
    return tmp_path / "p"


def names(path: str = "o.jsonl") -> list[str]:
    return [json.loads(line)["image"] for line in Path(path).read_text().splitlines()]


def shell(command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    words = " ".join(DETECT)
    return subprocess.run(
        ["bash", "-c", command.replace("DETECT", words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        **options,
    )


def test_sigterm_ends_a_run_that_can_be_resumed(photos: Path) -> None:
    for number in range(360):
        os.link(photos / "00.png", photos / f"more-{number}.png")
    command = [*DETECT, "--out", "o.jsonl", "--draw", "d"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as job:
        deadline = time.monotonic() + 60
        while not (os.path.exists("o.jsonl") and Path("o.jsonl").read_text().count("\n") > 2):
            assert job.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        job.send_signal(signal.SIGTERM)
        _, said = job.communicate(timeout=60)
    assert job.returncode == 143
    assert said == "facefind detect: ended by SIGTERM\n"
    done = names()
    assert 2 < len(done) < 400
    assert not os.path.exists("o.jsonl.lock")
    assert not [path for path in Path("d").iterdir() if path.name.endswith(".tmp")]
    assert subprocess.run([*command, "--resume"], capture_output=True, check=False).returncode == 0
    assert names()[: len(done)] == done
    assert len(set(names())) == len(names()) == 400


def test_a_reader_that_leaves_costs_nothing_that_is_written(photos: Path) -> None:
    done = shell("DETECT --out o.jsonl | head -n 1; exit ${PIPESTATUS[0]}")
    assert done.returncode == 0
    assert len(names()) == 40
    assert done.stderr.startswith("40 images, 0 faces in ")


def test_a_reader_that_leaves_before_all_is_printed_ends_the_command(photos: Path) -> None:
    done = shell("DETECT --json | head -n 1; exit ${PIPESTATUS[0]}")
    assert done.returncode == 141
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_matter(closed: str, photos: Path) -> None:
    done = shell(f"DETECT --out o.jsonl {closed}")
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert len(names()) == 40


def test_little_environment_is_enough(photos: Path) -> None:
    os.rename(photos / "00.png", os.fsencode(photos) + b"/caf\xe9 \xe2\x98\x95.png")
    kept = {name: os.environ[name] for name in ("PYTHONPATH",)}
    lean = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [*DETECT, "--out", "o.jsonl", "--draw", "d"],
        capture_output=True,
        check=False,
        timeout=100,
        env=kept | lean,
    )
    assert done.returncode == 0, done.stderr
    assert len(names()) == 40
    assert b"caf\xe9 \xe2\x98\x95.png" in os.listdir(b"d")
