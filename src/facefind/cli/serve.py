"""`facefind serve`: faces over HTTP, and a page that shows them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from facefind.cli.options import File, Inference, check_range
from facefind.errors import DataError
from facefind.serve.settings import PROTOCOLS, Settings

__all__ = ["main"]

_TOKEN = "FACEFIND_TOKEN"
_DEFAULTS = Settings()
_Names = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class _Serve(Inference):
    """Serve detection, redaction and alignment over HTTP, with a page at / that shows them.

    Pictures are never written, logged or kept. Beyond its limits the service answers 503 with
    Retry-After at once. SIGTERM ends it once the requests that have come are answered. Options that
    run a model are those of all requests; --test-protocol and --min-score are what a request gets
    that names none.
    """

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines in."""
    port: int = 8000
    """Port to listen on."""
    workers: int = 1
    """Processes; each has an equal part of the cores and limits. One takes all cores."""
    models: _Names = ()
    """Models that requests may name (see `facefind models`) or .onnx files, the default one first;
    all at hand if not given."""
    protocols: _Names = PROTOCOLS
    """Test protocols that requests may name, besides the default one."""
    loaded: int = _DEFAULTS.loaded
    """Models in memory at a time."""
    max_bytes: int = _DEFAULTS.max_bytes
    """Largest body of a request."""
    max_pixels: int = _DEFAULTS.max_pixels
    """Pictures of more pixels are refused."""
    max_pictures: int = _DEFAULTS.max_pictures
    """Most pictures of a request."""
    max_queue: int = _DEFAULTS.max_queue
    """Most pictures that are served at a time; requests beyond them are refused."""
    max_memory: int = _DEFAULTS.max_memory
    """Most bytes of bodies, and as many of decoded pictures."""
    max_wait: float = _DEFAULTS.max_wait
    """Seconds that a picture waits for others to go through the model together."""
    timeout: float = _DEFAULTS.timeout
    """Seconds to the answer; what takes longer is refused."""
    body_timeout: float = _DEFAULTS.body_timeout
    """Seconds in which a body must have come."""
    header_timeout: float = _DEFAULTS.header_timeout
    """Seconds in which headers must have come, and answers be taken."""
    max_connections: int = _DEFAULTS.max_connections
    """Most connections of clients."""
    drain: int = _DEFAULTS.drain
    """Seconds that requests may still take after SIGTERM."""
    token_file: File = None
    """File whose first line requests must send as Authorization: Bearer; or set $FACEFIND_TOKEN."""
    cors_origins: _Names = ()
    """Origins, such as https://example.org, whose pages may send requests."""


def main(args: Sequence[str]) -> int:
    """Exit code of `facefind serve` with these arguments."""
    options = tyro.cli(_Serve, args=args, prog="facefind serve")
    options.check_inference()
    check_range("--port", options.port, 0, 65535)
    check_range("--workers", options.workers, 1)
    shared = set(Settings.__dataclass_fields__) & set(_Serve.__dataclass_fields__)
    settings = Settings(
        protocol=options.test_protocol,
        token=_token(options),
        **{name: getattr(options, name) for name in shared},
    )
    from facefind.serve.running import serve

    serve(settings, host=options.host, port=options.port, workers=options.workers)
    return 0


def _token(options: _Serve) -> str | None:
    """The token that requests must send, of a file or the environment: never of the command."""
    if options.token_file is None:
        return os.environ.get(_TOKEN) or None
    lines = options.token_file.read_text(encoding="utf-8").splitlines()
    if not lines or not lines[0].strip():
        raise DataError(f"--token-file {options.token_file} is empty: expected a token on a line")
    return lines[0].strip()
