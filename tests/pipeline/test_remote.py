"""Pictures in buckets: S3 as moto has it, and fsspec's own memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from test_containers import picture, tar, values

from facefind.errors import DataError, ImageError, RuntimeUnavailableError
from facefind.images.listing import is_remote
from facefind.outputs import check_outputs
from facefind.pipeline import image_folders, list_images, output_path, remote
from facefind.video import is_video

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def memory() -> Iterator[str]:
    yield "memory://photos"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture(params=["memory", "bucket"])
def store(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


def put(url: str, content: bytes) -> None:
    place = remote.Place.of(url)
    place.system.pipe_file(place.path, content)


def test_pictures_come_from_a_store_as_from_a_folder(store: str, tmp_path: Path) -> None:
    for number, name in enumerate(("a.png", "deep/b.png", "deep/c.txt", ".x/d.png", "z/e.png")):
        put(f"{store}/album/{name}", picture(number))
    put(f"{store}/album2/a.png", picture(8))
    found = {"a.png": 0, "deep/b.png": 1, "z/e.png": 4}
    assert values(list_images([f"{store}/album"])) == found
    assert values(list_images([f"{store}/album/"])) == found
    assert values(list_images([f"{store}/album/*/*.png"])) == {"deep/b.png": 1, "z/e.png": 4}
    assert values(list_images([f"{store}/**/b.png"])) == {"album/deep/b.png": 1}
    single = f"{store}/album2/a.png"
    assert values(list_images([single])) == {single: 8}
    path = tar(tmp_path / "a.tar", {"x.png": picture(5), "y.png": picture(6)})
    put(f"{store}/shards/a.tar", path.read_bytes())
    below = {"a.tar/x.png": 5, "a.tar/y.png": 6}
    assert values(list_images([f"{store}/shards/*.tar"])) == below
    one = f"{store}/shards/a.tar"
    assert values(list_images([one])) == {f"{one}/x.png": 5, f"{one}/y.png": 6}


def test_what_is_not_there_is_said_with_its_address(store: str) -> None:
    gone = next(list_images([f"{store}/a.png"]))
    with pytest.raises(ImageError, match=r"a\.png' cannot be read"):
        gone.open()
    with pytest.raises(ImageError, match=r"nothing' cannot be listed|no pictures in '.*nothing'"):
        list(list_images([f"{store}/nothing"]))
    with pytest.raises(ImageError, match="cannot be opened"):
        list(list_images([f"{store}/a.tar"]))


def test_s3_is_listed_page_by_page(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        put(f"{s3_bucket}/{number}.png", picture(number))
    system = fsspec.filesystem("s3", use_listings_cache=False)
    calls: list[dict[str, Any]] = []
    real = system.call_s3

    def call(method: str, **options: Any) -> Any:
        calls.append(options)
        return real(method, **options, MaxKeys=2)

    monkeypatch.setattr(system, "call_s3", call)
    found = list_images([s3_bucket])
    assert [next(found).name for _ in range(2)] == ["0.png", "1.png"]
    assert len(calls) == 1
    assert [one.name for one in found] == [f"{n}.png" for n in range(2, 7)]
    assert len(calls) == 4


def test_a_picture_comes_by_a_signed_address(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="https:// needs aiohttp")
    (tmp_path / "a.png").write_bytes(picture(7))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert values(list_images([f"{address}/a.png?signature=12"])) == {f"{address}/a.png": 7}
        (gone,) = list_images([f"{address}/b.png"])
        with pytest.raises(ImageError, match=r"b\.png' cannot be read"):
            gone.open()
        server.shutdown()


def test_what_is_missing_for_an_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ImportError("Please install it")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    for url, package in (
        ("gs://b/a.png", r"pip install 'facefind\[google\]'"),
        ("az://b/a.png", r"pip install 'facefind\[azure\]'"),
        ("s3://b/a.png", r"pip install 'facefind\[cloud\]'"),
    ):
        with pytest.raises(RuntimeUnavailableError, match=package):
            list_images([url])
    monkeypatch.undo()
    with pytest.raises(ImageError, match="no address that is known"):
        list_images(["nonesuch://b/a.png"])


def test_streams_are_videos_and_pictures_by_address_are_not() -> None:
    for source in ("s3://b/photos", "gs://b/a.jpg", "https://h/a.JPG?x=1", "http://h/s.tar"):
        assert is_remote(source)
        assert not is_video(source)
    for source in ("rtsp://cam/1", "http://h/live", "https://h/a.m3u8"):
        assert not is_remote(source)
        assert is_video(source)
    assert not is_remote("photos/a.jpg")


def test_names_hold_no_password_and_outputs_lie_inside_their_folder() -> None:
    url = "https://me:secret@h/deep/a.jpg?X-Amz-Signature=12"
    assert remote.name_of(url) == "https://h/deep/a.jpg"
    assert output_path("s3://bucket/deep/a.jpg") == Path("a.jpg")
    assert image_folders(["s3://bucket/photos", "-"]) == {
        "image_folders": ["-", "s3://bucket/photos"]
    }


def test_an_address_that_is_read_is_not_written() -> None:
    with pytest.raises(DataError, match="is an address"):
        check_outputs(["a.jpg"], folders={"--draw": Path("s3://bucket/drawn")})
    with pytest.raises(DataError, match="is read"):
        check_outputs(["s3://b/a.parquet"], files={"--out": "s3://b/a.parquet"})
    assert check_outputs(["s3://b/photos", "-"], files={"--out": "s3://b/faces.parquet"}) == []
    for read in (
        "s3://b/photos",
        "s3://b/photos/",
        "s3://b/photos/a.jpg",
        "s3://b/photos/*/a*.jpg",
    ):
        for out in ("s3://b/photos", "s3://b/"):
            with pytest.raises(DataError, match=r"--draw .* is or holds"):
                check_outputs([read], folders={"--draw": out})
    inside = {"--draw": "s3://b/photos/drawn", "--out": "s3://b/photos2"}
    assert check_outputs(["s3://b/photos"], folders=inside) == ["s3://b/photos/drawn"]
    assert check_outputs(["s3://b/photos/a.jpg"], folders={"--out": "s3://b/photos/a"}) == []
    with pytest.raises(DataError, match="is an address"):
        check_outputs(["a.jpg"], folders={"--out": "https://host/drawn"})
