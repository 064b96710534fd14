"""Services in threads of this process, and pictures to send."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image


@contextlib.contextmanager
def served(settings: Any) -> Iterator[tuple[str, Any]]:
    """The address of a service, and its application, within the block."""
    import uvicorn

    from facefind.serve.running import configuration

    listener = socket.create_server(("127.0.0.1", 0))
    config = configuration(settings)
    config.load()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    until = time.monotonic() + 60
    while not server.started and thread.is_alive() and time.monotonic() < until:
        time.sleep(0.01)
    assert server.started
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", config.loaded_app
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def encoded(pixels: np.ndarray, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def body(data: bytes, **headers: str) -> dict[str, Any]:
    """What `requests` sends a picture with."""
    return {"data": data, "headers": {"Content-Type": "image/jpeg", **headers}}
