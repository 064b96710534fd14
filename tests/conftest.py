"""Fixtures that every test file may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Tables are as wide as they like, whatever runs the tests.
os.environ.pop("COLUMNS", None)

# A busy machine is no failure: time is what `slow` and the whole suite's limit are for.
settings.register_profile("facefind", deadline=None)
settings.load_profile("facefind")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of reference images, labels and published weights beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "weights").is_dir():
        pytest.skip("no ../shared folder with reference data beside the checkout")
    return folder
