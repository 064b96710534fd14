"""Requests that are wrong in some way, or right with a damaged picture; the same for a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

from reference import malformed

PATHS = ("/v1/detect", "/v1/redact", "/v1/align", "/v1/models", "/", "/static/a.js", "/%2e%2e/%00")
QUERIES = (
    *(
        "",
        "",
        "",
        "score=0.3",
        "score=nan",
        "score=1e400",
        "model=../../etc/passwd",
        "protocol=vga",
    ),
    *(
        "mesh=true&model=retinaface-mobile",
        "max_faces=-1",
        "with=fill&color=1,2,3",
        "size=0",
        "%zz",
    ),
    *("model=%00", "score=0.5&score=0.6", "a" * 4000, "protocol=" + "9" * 300, "=&&=;"),
)
KINDS = (
    *("image/jpeg",) * 20,
    *("image/png", "application/octet-stream", "text/plain", "", "image/", "/", "a/b; c"),
    *("multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary="x'),
    *("multipart/form-data; boundary=" + "b" * 500, "application/json", "a" * 3000),
)
ACCEPTS = (
    *("*/*",) * 20,
    "application/json",
    "image/png",
    "image/webp;q=x",
    "image/*;q=0",
    ",;,;q=",
    "",
)


def make(chance: random.Random, pictures: Sequence[bytes]) -> bytes:
    """The bytes of a request: any of the kinds below, half of them broken once more."""
    body = picture(chance, pictures)
    kind = chance.choice(KINDS)
    if chance.random() < 0.4:
        body, kind = form(chance, pictures)
    headers = {
        "Host": "x",
        "Content-Type": kind,
        "Accept": chance.choice(ACCEPTS),
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    if chance.random() < 0.25:
        spoil(chance, headers)
    query = chance.choice(QUERIES)
    method = chance.choice(("POST",) * 60 + ("GET", "PUT", "HEAD", "\x00", "post"))
    target = chance.choice(PATHS[:3] * 4 + PATHS) + (f"?{query}" if query else "")
    if headers.pop("chunked", None):
        body = chunked(chance, body)
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items())]
    data = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body
    if chance.random() < 0.15:
        data = data[: chance.randrange(len(data))]
    if data and chance.random() < 0.1:
        broken = bytearray(data)
        for _ in range(chance.randrange(1, 30)):
            broken[chance.randrange(min(len(broken), 400))] = chance.randrange(256)
        data = bytes(broken)
    return data


def picture(chance: random.Random, pictures: Sequence[bytes]) -> bytes:
    """A good picture, a part of one, one with wrong bytes, one that lies, or noise."""
    good = chance.choice(pictures)
    way = chance.randrange(6)
    if way == 0:
        return good
    if way == 1:
        return good[: chance.randrange(len(good))]
    if way == 2:
        return chance.randbytes(chance.randrange(3000))
    if way == 3:
        broken = bytearray(good)
        for _ in range(chance.randrange(1, 20)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        return bytes(broken)
    return chance.choice(bad())


def form(chance: random.Random, pictures: Sequence[bytes]) -> tuple[bytes, str]:
    """A form of some parts, and its kind."""
    mark = chance.choice(("x", "----boundary" + "7" * 20, "a b", "c:d"))
    parts = []
    for _ in range(chance.randrange(5)):
        name = chance.choice(("file", "file", "file", "other", "", 'fi"le', "x" * 9000))
        file = chance.choice(
            ('; filename="a.jpg"', "; filename=", '; filename="../../a"', "", ";;")
        )
        head = f'Content-Disposition: form-data; name="{name}"{file}\r\n'
        if chance.random() < 0.1:
            head = chance.choice(("", "no colon\r\n", "A: b\r\n" * 50, "\x00: \x00\r\n"))
        head = f"--{mark}\r\n{head}\r\n"
        parts.append(head.encode("latin-1", "replace") + picture(chance, pictures) + b"\r\n")
    end = chance.choice((f"--{mark}--\r\n", f"--{mark}--\r\n", "", f"--{mark}", "--other--\r\n"))
    return b"".join(parts) + end.encode("latin-1"), f'multipart/form-data; boundary="{mark}"'


def spoil(chance: random.Random, headers: dict[str, str]) -> None:
    """Make one header wrong, or add one."""
    name, text = chance.choice(
        (
            ("Content-Length", "-1"),
            ("Content-Length", "1e3"),
            ("Content-Length", "9" * 30),
            ("Content-Length", "0"),
            ("Content-Length", "5000000"),
            ("Content-Encoding", "gzip"),
            ("Transfer-Encoding", "gzip, chunked"),
            ("chunked", "yes"),
            ("chunked", "yes"),
            ("X-Request-ID", "\x7f" * 40),
            ("Authorization", "Bearer " + "é" * 100),
            ("Expect", "100-continue"),
            ("Upgrade", "websocket"),
            ("Cookie", "a" * 80_000),
            ("Range", "bytes=0-"),
        )
    )
    headers[name] = text
    if name == "chunked":
        del headers["Content-Length"]
        headers["Transfer-Encoding"] = "chunked"
    if name == "Upgrade":
        headers["Connection"] = "upgrade"


def chunked(chance: random.Random, body: bytes) -> bytes:
    """The body in chunks, some with a wrong length, some without their end."""
    data, at = b"", 0
    while at < len(body):
        size = chance.randrange(1, 5000)
        piece = body[at : at + size]
        said = len(piece) if chance.random() < 0.97 else chance.randrange(10**6)
        data += f"{said:x}\r\n".encode() + piece + b"\r\n"
        at += size
    return data + (b"0\r\n\r\n" if chance.random() < 0.9 else b"")


@cache
def bad() -> list[bytes]:
    """Damaged, odd and lying files."""
    return [data for _, data in malformed.every()]
