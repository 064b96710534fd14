"""Fixtures that every test file may use."""

from __future__ import annotations

import gc
import hashlib
import os
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Tables are as wide as they like, whatever runs the tests.
os.environ.pop("COLUMNS", None)

# What faces are found does not depend on the processor, nor on what an earlier run has kept.
os.environ["FACEFIND_PRECISION"] = "fp32"
os.environ["FACEFIND_CACHE"] = ""

# A busy machine is no failure: time is what `slow` and the suite's limit are for. Examples are the
# same each time, so that what passed stays so: --hypothesis-profile default draws new ones.
settings.register_profile("facefind", deadline=None, derandomize=True)
settings.load_profile("facefind")

COMPILED_MODELS = 32  # kept by `compiled_once`


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of reference images, labels and published weights beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "weights").is_dir():
        pytest.skip("no ../shared folder with reference data beside the checkout")
    return folder


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """What OpenVINO compiles of a file for a shape is kept: it takes far longer than to run it.

    Sessions stay the tests' own; one that compiles the same for the same shape gets what is there.
    """
    from facefind import forking
    from facefind.runtimes.ov import OpenvinoSession

    kept: OrderedDict[Any, Any] = OrderedDict()
    begin = OpenvinoSession.__init__

    def begun(session: OpenvinoSession, path: Path, *args: Any, **options: Any) -> None:
        begin(session, path, *args, **options)
        make = session._for_shape._make  # a partial call
        _, device, config, keeps = make.args
        model = hashlib.blake2b(path.read_bytes()).digest(), device, keeps, *sorted(config.items())

        def made(shape: Any) -> Any:
            key = model, shape, forking.generation()
            found = kept.pop(key, None) or make(shape)
            kept[key] = found
            if len(kept) > COMPILED_MODELS:
                kept.popitem(last=False)
            return found

        session._for_shape._make = made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OpenvinoSession, "__init__", begun)
        yield


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


def pytest_collection_finish() -> None:
    """Search for garbage rarely, and not in what imports made: it takes a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
