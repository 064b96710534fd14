"""Services in threads of this process, and pictures to send."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from visits import (  # noqa: F401
    answer,
    broken_file,
    browse,
    chromium,
    group_file,
    portrait_file,
    service,
    visit,
)

pytest.importorskip("fastapi", reason="the extra serve is not installed")

import uvicorn

from facefind.serve import Settings
from facefind.serve.running import configuration

Start = Callable[..., str]


@contextlib.contextmanager
def served(settings: Settings) -> Iterator[tuple[str, Any]]:
    """The address of a service, and its application, within the block."""
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


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """NASA's portrait of Eileen Collins: (256,256,3), one face."""
    data = pytest.importorskip("skimage.data", reason="scikit-image holds the portrait")
    picture: np.ndarray = data.astronaut()[:256, 94:350]
    return picture


@pytest.fixture(scope="session")
def jpeg(portrait: np.ndarray) -> bytes:
    return encoded(portrait, "JPEG", quality=90)


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """A service with the settings that `facefind serve` has, and small limits."""
    settings = Settings(max_bytes=1 << 20, max_pixels=1_000_000, max_pictures=4)
    with served(settings) as (where, _):
        yield where


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts services with settings of their own."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(served(Settings(**settings)))[0]


def encoded(pixels: np.ndarray, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def body(data: bytes, **headers: str) -> dict[str, Any]:
    """What `requests` sends a picture with."""
    return {"data": data, "headers": {"Content-Type": "image/jpeg", **headers}}
