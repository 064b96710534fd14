"""What is refused, with which status and words; and who is let in."""

from __future__ import annotations

import json
import logging
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from reference.services import encoded, served

from facefind.serve import Settings

KEYS = {"code", "message", "request_id"}


def error(answer: requests.Response) -> dict[str, Any]:
    """The error of an answer, which has the form that all errors have."""
    found: dict[str, Any] = answer.json()["error"]
    assert set(found) == KEYS
    assert answer.headers["X-Request-ID"] == found["request_id"]
    assert answer.headers["Content-Type"] == "application/json"
    return found


def post(where: str, data: bytes = b"", kind: str | None = "image/jpeg", **more: Any) -> Any:
    headers = {**({} if kind is None else {"Content-Type": kind}), **more.pop("headers", {})}
    return requests.post(where, data=data, headers=headers, **more)


@pytest.mark.parametrize(
    ("query", "status", "code", "words"),
    [
        ("model=nothing", 404, "unknown-model", "Here are: scrfd"),
        ("model=scrfd-500m", 404, "unknown-model", "did you mean 'scrfd-500m-kps'"),
        ("model=/etc/passwd", 404, "unknown-model", "there is no model"),
        ("protocol=99999", 422, "unknown-protocol", "everyday, vga"),
        ("protocol=tinaface-multiscale", 422, "unknown-protocol", "take one of"),
        ("score=2", 422, "bad-option", "score"),
        ("score=nan", 422, "bad-option", "score"),
        ("max_faces=0", 422, "bad-option", "max_faces"),
        ("scoer=0.5", 422, "bad-option", "scoer"),
        ("mesh=true", 422, "no-mesh", "retinaface-mobile"),
    ],
)
def test_options_that_are_not_served(
    address: str, jpeg: bytes, query: str, status: int, code: str, words: str
):
    answer = post(f"{address}/v1/detect?{query}", jpeg)
    assert answer.status_code == status
    assert error(answer)["code"] == code
    assert words in error(answer)["message"]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("redact?with=image", "bad-option"),
        ("redact?with=fill&color=1,2,256", "bad-option"),
        ("redact?grow=0.5", "bad-option"),
        ("align?size=5000", "bad-option"),
        ("align?model=smallhardface-light", "no-landmarks"),
    ],
)
def test_options_of_other_addresses(address: str, jpeg: bytes, query: str, code: str):
    answer = post(f"{address}/v1/{query}", jpeg)
    assert answer.status_code == 422
    assert error(answer)["code"] == code


def test_bodies_that_hold_no_picture(address: str, jpeg: bytes):
    where = f"{address}/v1/detect"
    for answer, status, code in (
        (post(where), 400, "no-picture"),
        (post(where, jpeg, "text/html"), 415, "content-type"),
        (post(where, jpeg, "application/x-www-form-urlencoded"), 415, "content-type"),
        (post(where, jpeg, headers={"Content-Encoding": "gzip"}), 415, "content-encoding"),
        (post(where, b"text"), 422, "unreadable-picture"),
        (post(where, jpeg[: len(jpeg) // 2]), 422, "unreadable-picture"),
        (post(where, jpeg, "multipart/form-data"), 400, "bad-form"),
        (post(where, jpeg, "multipart/form-data; boundary=x"), 400, "bad-form"),
        (post(where, jpeg, "multipart/form-data; boundary=" + "x" * 300), 400, "bad-form"),
        (post(where, b"--x\r\n\r\n", "multipart/form-data; boundary=x"), 400, "bad-form"),
        (requests.post(where, files={"other": ("a.jpg", jpeg)}), 400, "bad-form"),
        (requests.post(where, files={"file": (None, "a field")}), 400, "no-picture"),
    ):
        assert answer.status_code == status, answer.text
        assert error_code(answer) == code


def error_code(answer: requests.Response) -> str:
    code: str = answer.json()["error"]["code"]
    return code


def test_addresses_and_methods_that_are_not_served(address: str):
    for answer, status, code in (
        (requests.get(f"{address}/nothing"), 404, "not-found"),
        (requests.get(f"{address}/static/../app.py"), 404, "not-found"),
        (requests.get(f"{address}/static/%2e%2e/app.py"), 404, "not-found"),
        (requests.get(f"{address}/v1/detect"), 405, "method-not-allowed"),
    ):
        assert answer.status_code == status
        assert error(answer)["code"] == code


def test_too_many_bytes_pixels_and_pictures(address: str, jpeg: bytes, portrait: np.ndarray):
    where = f"{address}/v1/detect"
    large = bytes(1 << 20) + b"x"
    assert error_code(post(where, large)) == "too-many-bytes"
    chunked = requests.post(
        where, data=iter([bytes(1 << 19)] * 3), headers={"Content-Type": "image/jpeg"}
    )
    assert chunked.status_code == 413
    assert error_code(chunked) == "too-many-bytes"
    wide = post(where, encoded(np.zeros((10, 100_001, 3), np.uint8), "PNG"), "image/png")
    assert wide.status_code == 413
    assert (
        "100001 x 10 pixels, and at most 1000000"
        in error(requests.post(f"{address}/v1/redact", data=wide.request.body))["message"]
    )
    many = requests.post(where, files=[("file", ("a.jpg", jpeg))] * 5)
    assert many.status_code == 413
    assert error_code(many) == "too-many-pictures"
    two = requests.post(f"{address}/v1/redact", files=[("file", ("a.jpg", jpeg))] * 2)
    assert two.status_code == 422
    assert error(two)["code"] == "one-picture"
    crops = post(f"{address}/v1/align?size=1024&score=0", jpeg)
    assert crops.status_code == 413
    assert error_code(crops) == "too-many-crops"


def test_a_bomb_is_refused_by_its_header(address: str):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(10 << 20))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)
    answer = post(f"{address}/v1/detect", bomb + chunk(b"IEND", b""), "image/png")
    assert answer.status_code == 413
    assert error_code(answer) == "too-many-pixels"


def test_what_no_picture_is_accepted_as(address: str, jpeg: bytes):
    answer = post(f"{address}/v1/detect", jpeg, headers={"Accept": "text/html"})
    assert answer.status_code == 406
    assert error(answer)["code"] == "not-acceptable"


def test_request_ids_are_the_client_s_where_they_are_harmless(address: str):
    for given, kept in (("trip-7.a_B", True), ("x" * 65, False), ('"}{', False)):
        answer = requests.get(f"{address}/healthz", headers={"X-Request-ID": given})
        assert (answer.headers["X-Request-ID"] == given) is kept
        assert len(answer.headers["X-Request-ID"]) <= 64


@pytest.fixture(scope="module")
def closed() -> Iterator[str]:
    """A service with a token, open to one other origin."""
    settings = Settings(
        token="secret \u00e9", cors_origins=("https://example.org",), models=("scrfd-500m-kps",)
    )
    with served(settings) as (where, _):
        yield where


def test_a_token_is_needed_for_all_but_page_and_health(closed: str, jpeg: bytes):
    assert requests.get(f"{closed}/healthz").ok
    assert requests.get(f"{closed}/readyz").ok
    for path in ("v1/models", "metrics", "openapi.json", "nothing"):
        for value in (None, "Bearer wrong", "Basic secret", "secret", "Bearer"):
            headers = {} if value is None else {"Authorization": value}
            answer = requests.get(f"{closed}/{path}", headers=headers)
            assert answer.status_code == 401
            assert error(answer)["code"] == "unauthorized"
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    right = {"Authorization": "Bearer secret \u00e9".encode()}
    assert requests.get(f"{closed}/v1/models", headers=right).ok
    assert post(f"{closed}/v1/detect", jpeg, headers=right).ok
    assert post(f"{closed}/v1/detect", jpeg).status_code == 401


def test_pages_of_other_origins_are_let_in_only_where_they_are_named(closed: str, address: str):
    origin = {"Origin": "https://example.org"}
    preflight_of = origin | {"Access-Control-Request-Method": "POST"}
    allowed = "Access-Control-Allow-Origin"
    assert allowed not in requests.get(f"{address}/v1/models", headers=origin).headers
    assert not requests.options(f"{address}/v1/detect", headers=preflight_of).ok
    preflight = requests.options(f"{closed}/v1/detect", headers=preflight_of)
    assert preflight.headers[allowed] == "https://example.org"
    other = requests.options(
        f"{closed}/v1/detect", headers=preflight_of | {"Origin": "https://a.b"}
    )
    assert allowed not in other.headers
    refused = requests.get(f"{closed}/v1/models", headers=origin)
    assert refused.status_code == 401
    assert refused.headers[allowed] == "https://example.org"


def test_nothing_of_a_picture_is_logged_or_written(
    address: str, jpeg: bytes, caplog, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    written = []
    real = os.open
    monkeypatch.setattr(
        os, "open", lambda *args, **more: written.append(args) or real(*args, **more)
    )
    with caplog.at_level(logging.DEBUG, logger="facefind"):
        files = [("file", ("holiday-in-rome.jpg", jpeg)), ("file", ("broken-rome.jpg", jpeg[:900]))]
        assert requests.post(f"{address}/v1/detect", files=files).ok
        assert requests.post(f"{address}/v1/align", files=files).ok
        assert requests.post(f"{address}/v1/redact", files=files[:1]).ok
    lines = [json.dumps(vars(record), default=str) for record in caplog.records]
    assert any('"pictures": 2' in line for line in lines)
    assert not any("rome" in line for line in lines)
    assert list(tmp_path.iterdir()) == []
    assert [args for args in written if args[1] & (os.O_WRONLY | os.O_RDWR)] == []


def test_a_mistake_of_the_service_is_an_error_like_others(
    closed: str, jpeg: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("of the service")

    monkeypatch.setattr("facefind.serve.service.to_record", fail)
    right = {"Authorization": "Bearer secret \u00e9".encode()}
    answer = post(f"{closed}/v1/detect", jpeg, headers=right)
    assert answer.status_code == 500
    assert error(answer)["code"] == "internal"
    assert "of the service" not in answer.text
    assert sum("ZeroDivisionError" in str(record.exc_text) for record in caplog.records) >= 1
    monkeypatch.undo()
    assert post(f"{closed}/v1/detect", jpeg, headers=right).ok
