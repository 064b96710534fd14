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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no process is left with them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
