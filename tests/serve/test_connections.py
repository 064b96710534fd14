"""Connections that are slow, broken or too many, over sockets of the test's own."""

from __future__ import annotations

import random
import socket
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
from reference import malformed_requests
from reference.services import body, encoded, served

from facefind.serve import Settings

GOOD = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
SECONDS = 1.0
"""The timeouts of the service here."""


@pytest.fixture(scope="module")
def impatient() -> Iterator[str]:
    settings = Settings(
        models=("scrfd-500m-kps",),
        header_timeout=SECONDS,
        body_timeout=SECONDS,
        max_connections=30,
    )
    with served(settings) as (address, _):
        yield address


def connect(address: str) -> socket.socket:
    parts = urlsplit(address)
    return socket.create_connection((parts.hostname, parts.port), timeout=10)


def rest(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    data = b""
    with suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            data += chunk
    return data


def is_closed(connection: socket.socket, seconds: float) -> bool:
    """Whether the other side closes within so many seconds, though nothing is read."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            connection.sendall(b"x")
        except TimeoutError:
            pass
        except ConnectionError:
            return True
        time.sleep(0.1)
    return False


def post(length: int) -> bytes:
    head = "POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    return f"{head}Content-Length: {length}\r\n\r\n".encode()


@pytest.mark.parametrize("begin", [b"", b"GET /healthz HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_headers_that_do_not_come_end_the_connection(impatient: str, begin: bytes):
    with connect(impatient) as connection:
        started = time.monotonic()
        connection.sendall(begin)
        assert rest(connection) == b""
        assert SECONDS - 0.1 < time.monotonic() - started < SECONDS + 2


def test_headers_a_byte_at_a_time_do_not_win_time(impatient: str):
    with connect(impatient) as connection:
        started = time.monotonic()
        with suppress(OSError):  # reset, or broken pipe
            for byte in GOOD[:-1] + bytes(1000):
                connection.sendall(bytes([byte]))
                time.sleep(0.1)
        assert time.monotonic() - started < SECONDS + 2


def test_the_second_request_of_a_connection_has_as_much_time_as_the_first(impatient: str):
    with connect(impatient) as connection:
        for _ in range(3):
            connection.sendall(GOOD)
            while b"alive" not in connection.recv(65536):
                pass
            time.sleep(SECONDS / 2)
        connection.sendall(GOOD[:9])
        started = time.monotonic()
        assert rest(connection) == b""
        assert time.monotonic() - started < SECONDS + 2


def test_a_body_that_does_not_come_is_told_so(impatient: str):
    with connect(impatient) as connection:
        connection.sendall(post(1000) + b"\xff\xd8")
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"code": "slow-body"' in answer


def test_a_body_may_not_go_on_for_ever_after_its_refusal(impatient: str):
    with connect(impatient) as connection:
        connection.sendall(post(10**12))
        started = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - started < 10:
                connection.sendall(bytes(1000))
                time.sleep(0.02)
        assert time.monotonic() - started < SECONDS + 5


@pytest.mark.parametrize(
    "text",
    [
        b"\x16\x03\x01 this is no HTTP\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
    ],
)
def test_what_is_no_http_is_told_so(impatient: str, text: bytes):
    with connect(impatient) as connection:
        with suppress(OSError):
            connection.sendall(text)
        answer = rest(connection)
    if answer:  # it may be lost with what was not read
        assert answer.startswith(b"HTTP/1.1 400")
        assert b'"code": "bad-http"' in answer


def test_an_answer_that_nobody_reads_is_dropped(impatient: str, portrait: np.ndarray):
    large = encoded(portrait.repeat(5, 0).repeat(5, 1), "JPEG")
    parts = urlsplit(impatient)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((parts.hostname, parts.port))
        connection.settimeout(1)
        request = post(len(large)).replace(b"\r\n", b"\r\nAccept: image/png\r\n", 1) + large
        with suppress(OSError):
            connection.sendall(request * 6)
        assert is_closed(connection, 10 * SECONDS)


def test_connections_beyond_the_most_are_refused_and_then_welcome_again(impatient: str):
    held = [connect(impatient) for _ in range(30)]
    for connection in held:
        connection.sendall(GOOD)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    with connect(impatient) as one_more:
        answer = rest(one_more)
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"Retry-After" in answer
    for connection in held:
        connection.close()
    until = time.monotonic() + 5
    while True:
        with connect(impatient) as connection:
            connection.sendall(GOOD)
            if connection.recv(65536).startswith(b"HTTP/1.1 200"):
                break
        assert time.monotonic() < until


def test_malformed_requests_end_with_a_service_that_answers(impatient: str, jpeg: bytes):
    chance = random.Random(0)

    def status(request: bytes) -> bytes:
        with connect(impatient) as connection:
            with suppress(OSError):
                connection.sendall(request)
            return rest(connection)[9:12]

    with ThreadPoolExecutor(8) as senders:
        many = [malformed_requests.make(chance, [jpeg]) for _ in range(200)]
        statuses = set(senders.map(status, many))
    assert {b"200", b"400", b"404", b"415", b"422"} <= statuses
    assert b"500" not in statuses
    answer = requests.post(f"{impatient}/v1/detect", **body(jpeg))
    assert len(answer.json()["images"][0]["boxes"]) == 1


def test_the_end_of_an_answer_does_not_wait_for_a_receipt_of_its_beginning(address: str):
    """Nagle's algorithm and a client's delayed ACK would cost 40 ms a request, whatever it is."""
    seconds = []
    with connect(address) as connection:
        for _ in range(15):
            started = time.perf_counter()
            connection.sendall(GOOD)
            data = b""
            while not data.endswith(b"}"):
                data += connection.recv(65536)
            seconds.append(time.perf_counter() - started)
    assert statistics.median(seconds) < 0.03
