"""Around every request: its id, who may send it, its line in the log, its count, its errors."""

from __future__ import annotations

import hmac
import json
import logging
import re
import uuid
from time import perf_counter
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from facefind.serve import errors
from facefind.serve.errors import Disconnected, RequestError
from facefind.serve.metrics import Metrics

__all__ = ["Guard", "JsonFormatter", "broken", "refusal"]

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_OPEN = re.compile(r"/|/static/.*|/healthz|/readyz")
_log = logging.getLogger("facefind.serve")
_QUIET = ("/healthz", "/readyz", "/metrics")


class Guard:
    """An ASGI application around that of the service.

    Args:
        app: It.
        metrics: Where requests are counted.
        token: What a request must send for all but the page and the checks of health; None lets
            everybody in.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, token: str | None) -> None:
        self._app, self._metrics = app, metrics
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        request = Request(scope, receive)
        given = request.headers.get("x-request-id", "")
        request.state.id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        status = 499  # what is noted where the client left
        whole = False

        async def noted(message: Message) -> None:
            nonlocal status, whole
            whole = message["type"] == "http.response.body" and not message.get("more_body")
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request.state.id.encode()),
                ]
            await send(message)

        try:
            if not self._let_in(request):
                raise RequestError(
                    401,
                    "unauthorized",
                    "the token is missing or wrong: send Authorization: Bearer TOKEN",
                    {"WWW-Authenticate": "Bearer"},
                )
            await self._app(scope, receive, noted)
        except Disconnected:
            pass
        except RequestError as error:
            await refusal(request, error)(scope, receive, noted)
        except Exception as error:
            line = {"request_id": request.state.id}
            _log.error("request failed", exc_info=error, extra={"line": line})
            if status == 499:
                await broken(request, error)(scope, receive, noted)
            elif not whole:
                raise  # the connection is closed in the middle of the answer
        finally:
            self._note(request, status, perf_counter() - started)

    def _let_in(self, request: Request) -> bool:
        if self._token is None or _OPEN.fullmatch(request.url.path):
            return True
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("latin-1"), self._token)
        return same and kind.lower() == "bearer"

    def _note(self, request: Request, status: int, seconds: float) -> None:
        route = request.scope.get("route")
        path = getattr(route, "path", "other")
        self._metrics.requests.labels(path, str(status)).inc()
        self._metrics.seconds.labels(path).observe(seconds)
        if path in _QUIET and status < 400:
            return
        line: dict[str, Any] = {
            "request_id": request.state.id,
            "method": request.method[:16],
            "path": path,
            "status": status,
            "ms": round(1000 * seconds, 1),
        }
        for name in ("pictures", "faces", "code"):
            if (value := getattr(request.state, name, None)) is not None:
                line[name] = value
        _log.info("request", extra={"line": line})


def refusal(request: Request, error: RequestError, **more: Any) -> Response:
    """The answer of an error; `more` goes beside it."""
    request.state.code = error.code
    return Response(
        errors.body(error.code, str(error), request.state.id, **more),
        error.status,
        error.headers,
        "application/json",
    )


def broken(request: Request, error: Exception) -> Response:
    """The answer where the service has failed."""
    text = "the service has failed: give its operator the request id"
    return refusal(request, RequestError(500, "internal", text))


class JsonFormatter(logging.Formatter):
    """Lines of JSON: time, level, event, and what belongs to it."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, errors with their traceback in it."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "line", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)
