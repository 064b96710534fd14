"""Services in threads of this process, and pictures to send."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from reference.services import encoded, served
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

from facefind.serve import Settings

Start = Callable[..., str]


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
