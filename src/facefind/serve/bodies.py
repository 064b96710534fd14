"""The pictures in a request's body, kept in memory within limits and never on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from email.message import Message
from typing import Any

from starlette.requests import ClientDisconnect, Request

from facefind.serve.engine import Admission, Part
from facefind.serve.errors import Disconnected, RequestError
from facefind.serve.settings import Settings

__all__ = ["pictures"]

_LONGEST_BOUNDARY = 70  # RFC 2046
_MOST_FIELDS = 16  # of a form, besides its files
_CLOSE = {"Connection": "close"}


async def pictures(request: Request, settings: Settings, held: Admission) -> list[Part]:
    """The pictures of a request: one that is its body, or the `file` parts of a form.

    Their bytes are added to what the request holds.

    Raises:
        RequestError: there is none, it is too large or too slow, or of another kind.
        Disconnected: the client left.
    """
    kind, boundary = _content_type(request)
    held.add(pictures=1)
    try:
        async with asyncio.timeout(settings.body_timeout):
            if kind == "multipart/form-data":
                form = _Form(boundary, settings.max_pictures)
                await _read(request, settings, held, form.write)
                parts = form.end()
                held.add(pictures=len(parts) - 1)
                return parts
            data = bytearray()
            await _read(request, settings, held, data.extend)
    except TimeoutError:
        raise RequestError(
            408,
            "slow-body",
            f"the body did not come within {settings.body_timeout:g} s: send it faster, or less",
            _CLOSE,
        ) from None
    if not data:
        raise RequestError(
            400,
            "no-picture",
            "the body is empty: send the bytes of a picture, or a form with parts called file",
        )
    return [Part("image", bytes(data))]


def _content_type(request: Request) -> tuple[str, str]:
    """The kind of body, and the boundary of a form; only those that are served."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise RequestError(
            415,
            "content-encoding",
            f"Content-Encoding {encoding!r}: send the body as it is, pictures are compressed",
        )
    text = request.headers.get("content-type", "application/octet-stream")
    kind = text.partition(";")[0].strip().lower()
    if kind.startswith("image/") or kind == "application/octet-stream":
        return kind, ""
    if kind == "multipart/form-data":
        message = Message()
        message["content-type"] = text
        return kind, str(message.get_param("boundary", ""))
    raise RequestError(
        415,
        "content-type",
        f"Content-Type {kind[:100]!r}: expected image/jpeg (or another picture), "
        "application/octet-stream or multipart/form-data; with curl, -H 'Content-Type: image/jpeg'",
    )


async def _read(
    request: Request, settings: Settings, held: Admission, write: Callable[[bytes], Any]
) -> None:
    """Hand the body on as it comes; memory for all that is announced is taken first."""
    announced = request.headers.get("content-length", "")
    expected = int(announced) if announced.isdecimal() else 0
    if expected > settings.max_bytes:
        raise _too_large(f"{expected}", settings)
    held.add(size=expected)
    came = 0
    try:
        async for chunk in request.stream():
            came += len(chunk)
            if came > settings.max_bytes:
                raise _too_large(f"more than {settings.max_bytes}", settings)
            if came > held.size:
                held.add(size=max(came - held.size, min(1 << 20, settings.max_bytes - held.size)))
            write(chunk)
    except ClientDisconnect:
        raise Disconnected from None


def _too_large(size: str, settings: Settings) -> RequestError:
    return RequestError(
        413,
        "too-many-bytes",
        f"the body has {size} bytes, and at most {settings.max_bytes} are taken: send fewer or "
        "smaller pictures",
        _CLOSE,
    )


class _Form:
    """The files of a multipart/form-data body, parsed as it comes.

    Parts without a file name are fields: they are passed over, for options are in the address.
    """

    def __init__(self, boundary: str, most: int) -> None:
        from python_multipart.multipart import MultipartParser

        if not 1 <= len(boundary) <= _LONGEST_BOUNDARY:
            raise RequestError(
                400,
                "bad-form",
                f"multipart/form-data with a boundary of {len(boundary)} characters: expected 1 to "
                f"{_LONGEST_BOUNDARY}, let your library set it",
            )
        self._parts: list[Part] = []
        self._most, self._fields = most, 0
        self._headers: dict[str, bytes] = {}
        self._field = self._value = b""
        self._data: bytearray | None = None
        self._whole = False
        self._parser = MultipartParser(
            boundary.encode("latin-1", "replace"),
            {
                "on_part_begin": self._headers.clear,
                "on_header_field": self._on_field,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._begin,
                "on_part_data": self._on_data,
                "on_part_end": self._end,
                "on_end": self._on_end,
            },
        )

    def write(self, chunk: bytes) -> None:
        from python_multipart.exceptions import FormParserError

        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise RequestError(
                400, "bad-form", f"the body is no multipart/form-data: {error}", _CLOSE
            ) from None

    def end(self) -> list[Part]:
        """The files, once all has come."""
        if not self._whole:
            raise RequestError(
                400, "bad-form", "the form ends before its last boundary: send all of it"
            )
        if not self._parts:
            raise RequestError(
                400,
                "no-picture",
                "the form has no file: expected parts called file, each a picture",
            )
        return self._parts

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._field.decode("latin-1").lower()] = self._value
        self._field = self._value = b""

    def _begin(self) -> None:
        message = Message()
        disposition = self._headers.get("content-disposition", b"")
        message["content-disposition"] = disposition.decode("utf-8", "replace")
        name = message.get_param("name", header="content-disposition")
        file = message.get_filename()
        if file is None:
            self._data = None
            self._fields += 1
            if self._fields > _MOST_FIELDS:
                raise RequestError(
                    400, "bad-form", f"the form has more than {_MOST_FIELDS} fields", _CLOSE
                )
            return
        if name != "file":
            raise RequestError(
                400,
                "bad-form",
                f"the form has a file in a part called {str(name)[:100]!r}: expected file",
                _CLOSE,
            )
        if len(self._parts) == self._most:
            raise RequestError(
                413,
                "too-many-pictures",
                f"the form has more than {self._most} pictures: send them in several requests",
                _CLOSE,
            )
        self._name = file
        self._data = bytearray()

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._data is not None:
            self._data += data[start:end]

    def _end(self) -> None:
        if self._data is not None:
            self._parts.append(Part(self._name, bytes(self._data)))
            self._data = None

    def _on_end(self) -> None:
        self._whole = True
