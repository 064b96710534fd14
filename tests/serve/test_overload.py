"""More requests than there is room for, requests that take too long, clients that leave."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from reference.services import body, encoded, served

from facefind.serve import Settings
from facefind.serve.engine import Engine


class Service:
    """A service whose network waits while it is held."""

    def __init__(self, address: str, engine: Engine) -> None:
        self.address, self.engine = address, engine
        self.let = threading.Event()
        self.let.set()
        self.ran = 0
        detect = engine._detect

        def held(jobs: list[Any]) -> None:
            self.let.wait(30)
            self.ran += sum(not job.future.cancelled() for job in jobs)
            detect(jobs)

        engine._detect = held  # type: ignore[method-assign]

    def post(self, data: bytes) -> requests.Response:
        return requests.post(f"{self.address}/v1/detect", **body(data))

    def until(self, true: Callable[[], bool]) -> None:
        ends = time.monotonic() + 20
        while not true():
            assert time.monotonic() < ends
            time.sleep(0.01)


@pytest.fixture(scope="module")
def one() -> Iterator[Service]:
    settings = Settings(models=("scrfd-500m-kps",), max_queue=2, max_pictures=2, timeout=5)
    with served(settings) as (address, app):
        yield Service(address, app._app.state.service.engine)


@pytest.fixture
def service(one: Service) -> Iterator[Service]:
    one.until(lambda: not one.engine.pictures)
    one.ran = 0
    one.let.clear()
    yield one
    one.let.set()


def test_beyond_the_queue_the_answer_is_503_at_once(service: Service, jpeg: bytes):
    with ThreadPoolExecutor(2) as clients:
        first = [clients.submit(service.post, jpeg) for _ in range(2)]
        service.until(lambda: service.engine.pictures == 2)
        started = time.monotonic()
        parts = urlsplit(service.address)
        with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
            head = "POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
            connection.sendall(f"{head}Content-Length: 100000\r\n\r\n".encode())
            answer = connection.recv(65536)  # though none of the body has come
        assert time.monotonic() - started < 3
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"\r\nretry-after: " in answer.lower()
        refused = service.post(jpeg)
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.json()["error"]["code"] == "overloaded"
        service.let.set()
        assert [one.result().status_code for one in first] == [200, 200]
    assert service.post(jpeg).ok
    assert service.engine.bodies.held == service.engine.decoded.held == 0


def test_a_form_of_more_pictures_than_there_is_room_for_is_refused(service: Service, jpeg: bytes):
    with ThreadPoolExecutor(1) as clients:
        first = clients.submit(service.post, jpeg)
        service.until(lambda: service.engine.pictures == 1)
        two = requests.post(f"{service.address}/v1/detect", files=[("file", ("a.jpg", jpeg))] * 2)
        assert two.status_code == 503
        service.let.set()
        assert first.result().ok


def test_what_takes_too_long_is_refused_and_not_run_later(service: Service, jpeg: bytes):
    started = time.monotonic()
    with ThreadPoolExecutor(2) as clients:
        answers = list(clients.map(service.post, [jpeg, jpeg]))
    assert 4.5 < time.monotonic() - started < 20
    for answer in answers:
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "deadline"
        assert "longer than" in answer.text or "within" in answer.text
    assert service.engine.pictures == 0
    service.let.set()
    service.until(lambda: service.engine.decoded.held == 0)
    assert service.ran <= 1  # the one that had begun


def test_a_client_that_leaves_gives_its_place_to_others(service: Service, jpeg: bytes):
    parts = urlsplit(service.address)
    head = "POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    request = f"{head}Content-Length: {len(jpeg)}\r\n\r\n".encode() + jpeg
    leaving = []
    for _ in range(2):
        connection = socket.create_connection((parts.hostname, parts.port))
        connection.sendall(request)
        leaving.append(connection)
    service.until(lambda: service.engine.pictures == 2 and len(service.engine._batches) == 1)
    for connection in leaving:
        connection.close()
    service.until(lambda: service.engine.pictures == 0)
    assert service.engine.bodies.held == 0
    service.let.set()
    assert service.post(jpeg).ok
    assert service.ran <= 2  # the new one, and what had begun of the others


def test_requests_at_a_time_get_what_each_alone_would(service: Service, jpeg: bytes, portrait: Any):
    service.let.set()
    pictures = [jpeg, encoded(portrait[:200], "PNG"), b"no picture", encoded(portrait, "WEBP")]
    alone = [service.post(data).json() for data in pictures]

    def again(number: int) -> dict[str, Any]:
        while (answer := service.post(pictures[number % 4])).status_code == 503:
            time.sleep(0.01)
        found: dict[str, Any] = answer.json()
        return found

    with ThreadPoolExecutor(6) as clients:
        together = list(clients.map(again, range(24)))
    for number, answer in enumerate(together):
        expected = alone[number % 4]
        answer.get("error", {}).pop("request_id", None)
        expected.get("error", {}).pop("request_id", None)
        assert json.dumps(answer) == json.dumps(expected)
