"""One connection of a client, in limits of time: nobody holds one without using it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from facefind.serve import errors
from facefind.serve.settings import Settings

__all__ = ["Connection"]


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1 by h11, with deadlines.

    Headers must have come `header_timeout` after their first byte, or after the connection was
    made; a body some seconds after the service has refused it as too slow, so that the client reads
    that first; and what is written must be read within `body_timeout`. Between requests uvicorn's
    own keep-alive timeout counts.

    Args:
        limits: Timeouts, and the most connections.
        options: Those of uvicorn.
    """

    def __init__(self, *, limits: Settings, **options: Any) -> None:
        super().__init__(**options)
        self._limits = limits
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._awaits = ""  # what the timer of reading is for: headers or a body

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or refuse where there are too many."""
        super().connection_made(transport)  # type: ignore[arg-type]
        # An answer never waits for the receipt of what went before it. asyncio sees
        # to that itself, but not for listeners made by `socket.create_server`.
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > self._limits.max_connections:
            self._answer(503, "too-many-connections", "send the request again later")
        else:
            self._await("headers")

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._await("")
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Hand bytes on, and see whether more are due."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """Be ready for the next request."""
        super().on_response_complete()
        self._look(idle=not self.conn.trailing_data[0])

    def pause_writing(self) -> None:
        """The client reads slower than is written."""
        super().pause_writing()
        if self._writing is None:
            self._writing = self.loop.call_later(self._limits.body_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._answer(400, "bad-http", f"{msg} Expected HTTP/1.1 with headers of at most 64 kB.")

    def _look(self, idle: bool = False) -> None:
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            self._await("body")
        elif state is h11.IDLE and not idle:
            self._await("headers")
        else:
            self._await("")

    def _await(self, what: str) -> None:
        if what == self._awaits:
            return
        self._awaits = what
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        if what:
            limits = self._limits
            seconds = limits.header_timeout if what == "headers" else limits.body_timeout + 2
            self._reading = self.loop.call_later(seconds, self.transport.abort)

    def _answer(self, status: int, code: str, message: str) -> None:
        """Write an answer that is no application's, and close."""
        body = errors.body(code, message, "none")
        phrase = {400: "Bad Request", 503: "Service Unavailable"}[status]
        head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json\r\n"
        if status == 503:
            head += "Retry-After: 1\r\n"
        head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()
