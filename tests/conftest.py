"""Fixtures that every test file may use."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Tables are as wide as they like, whatever runs the tests.
os.environ.pop("COLUMNS", None)

# A busy machine is no failure: time is what `slow` and the suite's limit are for. Examples are the
# same each time, so that what passed stays so: --hypothesis-profile default draws new ones.
settings.register_profile("facefind", deadline=None, derandomize=True)
settings.load_profile("facefind")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of reference images, labels and published weights beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "weights").is_dir():
        pytest.skip("no ../shared folder with reference data beside the checkout")
    return folder


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of an S3 that s3:// leads to."""
    pytest.importorskip("moto", reason="moto is the S3 of these tests")
    pytest.importorskip("s3fs", reason="s3:// needs s3fs")
    from reference.buckets import served

    with served() as address:
        yield address


@pytest.fixture
def s3_bucket(s3: str) -> str:
    """The address of an empty bucket of S3, such as s3://bucket-12."""
    import fsspec

    url = f"s3://bucket-{uuid.uuid4().hex[:12]}"
    fsspec.filesystem("s3").mkdir(url)
    return url


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    """The address of an empty place in a store: a bucket of S3, or one below $FACEFIND_TEST_STORE.

    That may be any other store, such as az://container with the credentials that adlfs takes.
    """
    store = os.environ.get("FACEFIND_TEST_STORE")
    if store is None:
        url: str = request.getfixturevalue("s3_bucket")
        return url
    return f"{store.rstrip('/')}/{uuid.uuid4().hex[:12]}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no process is left with them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
