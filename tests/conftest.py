"""Fixtures that every test file may use."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of reference images, labels and published weights beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "weights").is_dir():
        pytest.skip("no ../shared folder with reference data beside the checkout")
    return folder
