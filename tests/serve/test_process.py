"""`facefind serve` as processes: two workers, one of them killed, metrics of both, the end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from reference.services import body, encoded

from facefind.cli import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc of Linux"),
]


class Running:
    """The command, in a process of its own."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.log = folder / "log"
        command = [
            sys.executable,
            "-m",
            "facefind",
            "serve",
            "--port",
            "0",
            "--threads",
            "1",
            *words,
        ]
        more = {"FACEFIND_TOKEN": "", "TMPDIR": str(folder)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, env=os.environ | more)
        self.until(lambda: "listening" in self.log.read_text())
        self.address = f"http://127.0.0.1:{self.lines()[0]['port']}"
        self.until(lambda: self.get("/readyz") == 200)

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def until(self, true: Callable[[], bool], seconds: float = 60) -> None:
        ends = time.monotonic() + seconds
        while not true():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < ends, self.log.read_text()
            time.sleep(0.05)

    def get(self, path: str) -> int | None:
        with suppress(requests.ConnectionError):
            return requests.get(self.address + path, timeout=20).status_code
        return None

    def workers(self) -> set[int]:
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        found = {int(child) for task in tasks for child in task.read_text().split()}
        return {pid for pid in found if b"spawn_main" in _command(pid)}

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def start(*words: str) -> Running:
        running.append(Running(tmp_path, *words))
        return running[-1]

    yield start
    for one in running:
        one.close()


def test_on_sigterm_what_has_come_is_answered(start, portrait):
    service = start("--models", "scrfd-500m-kps")
    large = encoded(portrait.repeat(5, 0).repeat(5, 1), "PNG")
    with ThreadPoolExecutor(4) as clients:
        answers = [
            clients.submit(requests.post, f"{service.address}/v1/detect", **body(large))
            for _ in range(4)
        ]
        text = ""
        while "queue_pictures 4" not in text and not answers[0].done():
            text = requests.get(f"{service.address}/metrics").text
        service.process.terminate()
        assert [answer.result().status_code for answer in answers] == [200] * 4
    assert service.process.wait(20) == 0
    events = [line["event"] for line in service.lines()]
    assert events.count("request") == 4
    assert all(line["level"] == "info" for line in service.lines())


def test_a_worker_that_is_killed_comes_back_and_the_metrics_are_of_both(start, jpeg, tmp_path):
    service = start("--workers", "2", "--models", "scrfd-500m-kps")
    service.until(lambda: len(service.workers()) == 2)

    def total() -> float:
        text = requests.get(f"{service.address}/metrics").text
        counts = re.findall(r'requests_total{path="/v1/detect",status="200"} (\S+)', text)
        return sum(map(float, counts))

    def post(_: int) -> bool:
        return requests.post(f"{service.address}/v1/detect", **body(jpeg)).ok

    with ThreadPoolExecutor(4) as clients:
        assert all(clients.map(post, range(20)))
    service.until(lambda: total() == 20)
    before = service.workers()
    killed = min(before)
    os.kill(killed, signal.SIGKILL)
    for _ in range(5):
        with suppress(requests.ConnectionError):  # one that the killed had taken
            post(0)
    service.until(lambda: len(service.workers() - {killed}) == 2)
    assert before - {killed} < service.workers()
    time.sleep(0.5)
    answered = total()
    assert answered >= 24
    assert all(map(post, range(3)))
    assert total() == answered + 3
    assert len(list(tmp_path.glob("facefind-*"))) == 1
    service.close()
    assert service.process.returncode == 0
    assert list(tmp_path.glob("facefind-*")) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--models", "nothing"], "there is no model 'nothing'"),
        (["--protocols", "nothing"], "no protocol is called 'nothing'"),
        (["--max-queue", "4"], "--max-pictures 32 of a request never fit"),
        (["--timeout", "0"], "--timeout 0.0: expected seconds above 0"),
        (["--workers", "0"], "--workers 0: expected at least 1"),
        (["--host", "203.0.113.1"], "cannot listen there"),
        (["--token-file", "{empty}"], "is empty"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_served(words, message, tmp_path, capsys):
    (tmp_path / "empty").write_text("\n")
    words = [word.format(empty=tmp_path / "empty") for word in words]
    assert main(["serve", "--port", "0", "--threads", "1", *words]) == 2
    assert message in capsys.readouterr().err
