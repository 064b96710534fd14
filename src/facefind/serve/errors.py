"""What a request is refused with: a status, a code for programs, and a message for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from facefind.errors import FacefindError

__all__ = ["Disconnected", "Overloaded", "RequestError", "body"]


class RequestError(FacefindError):
    """A request that is not answered; the message says what was given, expected and what to do.

    Attributes:
        status: HTTP status.
        code: One word or more in kebab-case, the same for the same cause in every version.
        headers: Headers of the answer.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        self.headers = dict(headers or {})


class Overloaded(RequestError):  # noqa: N818 - a state
    """There is no room for another request now; `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: int, code: str = "overloaded") -> None:
        super().__init__(503, code, message, {"Retry-After": str(retry_after)})


class Disconnected(Exception):  # noqa: N818 - no error of anybody's
    """The client is gone: nobody reads the answer."""


def body(code: str, message: str, request_id: str, **more: Any) -> bytes:
    """The JSON of an error; `more` goes beside it."""
    error = {"code": code, "message": message, "request_id": request_id}
    return json.dumps({"error": error, **more}).encode()
