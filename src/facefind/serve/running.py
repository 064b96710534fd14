"""The service as processes: its socket, its workers, its log, and its end on SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial

import uvicorn
from starlette.types import ASGIApp
from uvicorn.supervisors.multiprocess import Multiprocess

from facefind.files import scratch
from facefind.serve.app import make_app
from facefind.serve.connections import Connection
from facefind.serve.guard import JsonFormatter
from facefind.serve.models import Models
from facefind.serve.settings import Settings

__all__ = ["configuration", "serve"]

_BACKLOG = 2048
_OTHER_FILES = 256  # that a process has open besides its connections
_SILENCE = 60  # seconds without a sign of life after which a worker is ended and started again
_SWITCH = 0.001  # seconds a thread of Python holds up the network's thread: 5 would be seen
_log = logging.getLogger("facefind.serve")


def serve(
    settings: Settings, *, host: str = "127.0.0.1", port: int = 8000, workers: int = 1
) -> None:
    """Serve until SIGTERM or SIGINT, and then until the requests that have come are answered.

    Args:
        settings: Models and limits of all workers together.
        host: Address to listen on.
        port: Port; 0 is a free one, which the log says.
        workers: Processes. One that ends is started again.

    Raises:
        FacefindError: a model or protocol is not there, or a setting out of its range.
        OSError: the address is not this machine's, or the port is taken.
    """
    with ExitStack() as stack:
        stack.callback(_log_to_stderr())
        Models(settings)  # what is wrong with them is said here, once
        own = settings.share(workers)
        listener = stack.enter_context(_listener(host, port))
        if workers > 1:
            folder = stack.enter_context(scratch())
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
            own = replace(own, metrics_folder=str(folder))
        config = configuration(own, workers)
        sys.setswitchinterval(_SWITCH)
        where = listener.getsockname()
        _log.info("listening", extra={"line": {"host": where[0], "port": where[1]}})
        with suppress(KeyboardInterrupt):  # what uvicorn raises again once all is answered
            if workers > 1:
                Multiprocess(config, [listener]).run()
            else:
                _allow_files(own.max_connections)
                uvicorn.Server(config).run([listener])


def configuration(settings: Settings, workers: int = 1) -> uvicorn.Config:
    """What uvicorn runs a service, or each of its workers, with."""
    return uvicorn.Config(
        partial(_app, settings, os.getpid() if workers > 1 else None),
        factory=True,
        workers=workers,
        http=partial(Connection, limits=settings),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=settings.drain,
        timeout_worker_healthcheck=_SILENCE,
    )


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise OSError(
            f"--host {host} --port {port}: cannot listen there ({error.strerror or error}); name "
            "another address of this machine, or a port that is free"
        ) from None


def _app(settings: Settings, parent: int | None) -> ASGIApp:
    """The application of a worker, which ends when its parent does."""
    if parent is not None:
        _log_to_stderr()
        sys.setswitchinterval(_SWITCH)
        _allow_files(settings.max_connections)
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    return make_app(settings)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def _allow_files(connections: int) -> None:
    """Raise the limit of open files where so many connections need it, as far as that goes."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _log_to_stderr() -> Callable[[], None]:
    """Lines of JSON on stderr, plain ones on a terminal, and no others; returns what undoes it."""
    handler = logging.StreamHandler(sys.stderr)
    if not sys.stderr.isatty():
        handler.setFormatter(JsonFormatter())
    # Of uvicorn and the parser of forms only errors: they warn of what clients send.
    levels = {"facefind": logging.INFO, "uvicorn.error": logging.ERROR}
    levels |= {"python_multipart": logging.ERROR, "": logging.WARNING}
    root = logging.getLogger()
    handlers, before = root.handlers[:], {name: logging.getLogger(name).level for name in levels}

    def undo() -> None:
        root.handlers[:] = handlers
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)

    root.handlers[:] = [handler]
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    return undo
