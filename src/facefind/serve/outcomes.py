"""A request from its body to the outcome of each picture, in limits of time and memory."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from time import monotonic
from typing import Any

from starlette.requests import Request

from facefind.errors import ImageError
from facefind.serve.bodies import pictures
from facefind.serve.engine import Engine, Finish
from facefind.serve.errors import Disconnected, Overloaded, RequestError
from facefind.serve.models import Choice

__all__ = ["Outcome", "run"]

Outcome = tuple[str, Any]
"""Name of a picture, and what was made of it, or its error."""


async def run(
    engine: Engine, request: Request, choice: Choice, finish: Finish, *, single: str | None = None
) -> list[Outcome]:
    """The outcome of each picture of a request, in their order.

    Args:
        engine: Runs them.
        request: It.
        choice: How they are run.
        finish: Makes of each what comes back.
        single: What takes one picture, for the message where there are more; None takes many.

    Raises:
        RequestError: nothing of the request is answered.
        Disconnected: the client left; what has not begun of its pictures is not run.
    """
    settings = engine.settings
    with engine.admission() as held:
        parts = await pictures(request, settings, held)
        if single is not None and len(parts) > 1:
            raise RequestError(
                422,
                "one-picture",
                f"{single} is made of one picture, and the form has {len(parts)}: send them one by "
                "one",
            )
        deadline = monotonic() + settings.timeout
        futures = [engine.submit(part, choice, finish, deadline) for part in parts]
        request.state.pictures = len(parts)
        names = [part.name for part in parts]
        del parts
        await _wait(request, futures, engine)
    outcomes: list[Outcome] = []
    for name, future in zip(names, futures, strict=True):
        error = future.exception()
        if error is not None and not isinstance(error, ImageError | RequestError):
            raise error
        if isinstance(error, Overloaded):
            raise error
        outcomes.append((name, future.result() if error is None else error))
    return outcomes


async def _wait(request: Request, futures: list[Future[Any]], engine: Engine) -> None:
    """Wait for the pictures, the deadline, or until the client leaves."""
    work = asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait(
            (work, leaving),
            timeout=engine.settings.timeout + 0.05,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if work.done():
            return
        if leaving.done():
            raise Disconnected
        raise Overloaded(
            f"there was no answer within {engine.settings.timeout:g} s: send the request again "
            "later, with fewer pictures",
            engine.retry_after(),
            "deadline",
        )
    finally:
        leaving.cancel()
        work.cancel()
        for future in futures:
            future.cancel()
        with suppress(asyncio.CancelledError):
            await leaving


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
