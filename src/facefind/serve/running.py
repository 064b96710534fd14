"""The service as processes: sockets, timeouts of connections, workers, the end on SIGTERM."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from facefind.serve.app import make_app
from facefind.serve.guard import JsonFormatter
from facefind.serve.settings import Settings

__all__ = ["serve"]


def serve(
    settings: Settings, *, host: str = "127.0.0.1", port: int = 8000, workers: int = 1
) -> None:
    """Serve until SIGTERM or SIGINT, and then until the requests that have come are answered.

    Args:
        settings: Models and limits of all workers together.
        host: Address to listen on.
        port: Port; 0 is a free one.
        workers: Processes.

    Raises:
        FacefindError: a model or protocol is not there, or a setting out of its range.
    """
    own = settings.share(workers)
    config = uvicorn.Config(
        partial(_start, own),
        factory=True,
        host=host,
        port=port,
        workers=workers,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=settings.drain,
    )
    _log_to_stderr()
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run()


def _start(settings: Settings) -> ASGIApp:
    _log_to_stderr()
    return make_app(settings)


def _log_to_stderr() -> None:
    """Lines of JSON on stderr, and no others."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("facefind").setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.INFO)
