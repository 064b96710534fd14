"""The service: faces over HTTP, in limits of time and memory, and the page that shows them.

>>> from facefind import serve
>>> app = serve.make_app(serve.Settings())     # for an ASGI server of your own
>>> serve.serve(serve.Settings(), port=8000)   # what `facefind serve` does

Pictures are never written, logged or kept, and no address or path in a request is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from facefind.serve.settings import Settings

if TYPE_CHECKING:
    from facefind.serve.app import make_app
    from facefind.serve.running import serve

__all__ = ["Settings", "make_app", "serve"]


def __getattr__(name: str) -> Any:
    """What needs FastAPI and uvicorn, imported on first use."""
    if name == "make_app":
        from facefind.serve.app import make_app

        return make_app
    if name == "serve":
        from facefind.serve.running import serve

        return serve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
