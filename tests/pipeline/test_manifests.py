"""Crops and copies at addresses: as in a folder, each whole, by one process at a time."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reference.seeing_runtimes import Seeing

from facefind import FaceDetector
from facefind.cropping import CropOptions
from facefind.errors import DataError, FacefindError
from facefind.faces import Faces
from facefind.images import Found
from facefind.pipeline import CropFolder, DrawingFolder, RedactedFolder, manifests
from facefind.pipeline.leases import Expiry
from facefind.pipeline.stores import open_store
from facefind.redaction import Redaction

fsspec = pytest.importorskip("fsspec")

POINTS = np.array([[[30, 30], [50, 30], [40, 42], [32, 52], [48, 52]]], np.float32)
FACES = Faces([[20, 15, 60, 65]], [0.75], POINTS, image_size=(80, 100))
IMAGE = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
LIST = "manifest.jsonl"


@pytest.fixture
def memory() -> Iterator[str]:
    yield "memory://results"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture(params=["memory", "bucket"])
def where(request: pytest.FixtureRequest) -> str:
    return f"{request.getfixturevalue(request.param)}/crops"


def there(where: str) -> set[str]:
    """Names of the files below an address that are not hidden."""
    system, path = fsspec.core.url_to_fs(where)
    names = {name[len(path) :].lstrip("/") for name in system.find(path)}
    return {name for name in names if not name.startswith(".")}


def read(where: str, name: str) -> bytes:
    content = open_store(where).get(name)
    assert content is not None
    return content


def listed(where: str) -> list[str]:
    return [json.loads(line)["image"] for line in read(where, LIST).splitlines()]


def kill(folder: CropFolder) -> None:
    """Leaves a folder as a kill does: nothing is said, put or released any more."""
    folder._manifest._lease.stop()  # type: ignore[attr-defined]


def test_crops_at_an_address_are_those_of_a_folder(where: str, tmp_path: Path) -> None:
    how = CropOptions(size=64, format="jpg")
    for place in (where, tmp_path / "crops"):
        with CropFolder(place, how, settings={"model": "m"}) as folder:
            for name in ("a.jpg", "deep/b.jpg"):
                folder.write(name, IMAGE, FACES)
            folder.write("c.jpg", IMAGE, FACES[:0])
    local = {p.relative_to(tmp_path / "crops").as_posix(): p for p in tmp_path.rglob("*.*")}
    assert there(where) == set(local) == {"a_0.jpg", "deep/b_0.jpg", LIST, "settings.json"}
    for name, path in local.items():
        assert read(where, name) == path.read_bytes()
    with CropFolder(where, how, settings={"model": "m"}, resume=True) as folder:
        assert folder.names == {"a.jpg", "deep/b.jpg", "c.jpg"}
        folder.write("d.jpg", IMAGE, FACES)
    assert listed(where) == ["a.jpg", "deep/b.jpg", "c.jpg", "d.jpg"]
    with pytest.raises(DataError, match="crops has crops already"):
        CropFolder(where, how, settings={"model": "m"})
    with pytest.raises(DataError, match="made with size 64, not 112"):
        CropFolder(where, settings={"model": "m"}, resume=True)
    with pytest.raises(DataError, match="no drawn copies of facefind"):
        DrawingFolder(where, overwrite=True)
    before = there(where)
    with pytest.raises(DataError, match="holds files that are no crops"):
        CropFolder(f"{where}/deep", resume=True)
    with pytest.raises(DataError, match="as a str"):
        CropFolder(Path(where))
    assert there(where) == before


def test_what_a_kill_leaves_is_taken_over_once_its_lease_is_over(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "_LEASE", 0.4)
    first = CropFolder(memory)
    first.write("a.jpg", IMAGE, FACES)
    assert "a_0.png" in there(memory)
    with pytest.raises(DataError, match=r"is being written by .*: wait for it"):
        CropFolder(memory, resume=True)
    kill(first)
    began = time.monotonic()
    with CropFolder(memory, resume=True) as second:
        assert time.monotonic() - began > 0.3
        assert second.names == set()  # what was not listed is made again
        second.write("a.jpg", IMAGE, FACES)
        first._manifest._lease.renew()  # type: ignore[attr-defined]
        with pytest.raises(FacefindError, match="taken over by another process"):
            first.write("b.jpg", IMAGE, FACES)
        with pytest.raises(FacefindError, match="taken over by another process"):
            first.close()
        assert (LIST in there(memory), second._manifest._lease.lost) == (False, False)  # type: ignore[attr-defined]
    assert listed(memory) == ["a.jpg"]
    hidden = list(open_store(memory).names(".lock"))
    assert hidden == ["writer.2"]
    assert Expiry(open_store(memory), 60).has_expired(".lock/writer.2")


def test_the_list_is_put_as_it_grows(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "_EVERY", 0.0)
    uploads: list[str] = []
    lost = [True]
    folder = CropFolder(memory)
    store = folder._store
    real = store.upload

    def upload(key: str, file: Path) -> None:
        uploads.append(key)
        if lost:
            lost.pop()
            raise OSError("no answer")
        real(key, file)

    folder.begin()
    monkeypatch.setattr(store, "upload", upload)
    folder.write("0.jpg", IMAGE, FACES)  # its upload fails, and is made up for
    assert LIST not in there(memory)
    monkeypatch.setattr(folder._manifest, "_next", 0.0)
    for name in ("a.jpg", "b.jpg"):
        folder.write(name, IMAGE, FACES)
    assert LIST in uploads
    assert {"0.jpg", "a.jpg"} <= set(listed(memory))
    kill(folder)
    monkeypatch.setattr(manifests, "_LEASE", 0.1)
    with CropFolder(memory, resume=True) as second:
        assert "a.jpg" in second.names
    folder._manifest._new = folder._manifest._lease.lost = True  # type: ignore[attr-defined]
    with pytest.raises(FacefindError):
        folder.close()


def test_tar_files_are_uploaded_whole_before_they_are_listed(memory: str) -> None:
    with CropFolder(memory, per_tar=2) as folder:
        folder.write("a.jpg", IMAGE, FACES)
        assert there(memory) == {"settings.json"}
        for name in ("b.jpg", "c.jpg"):
            folder.write(name, IMAGE, FACES)
    with CropFolder(memory, per_tar=2, resume=True) as folder:
        folder.write("d.jpg", IMAGE, FACES)
    late = CropFolder(memory, per_tar=2, resume=True)
    late.write("e.jpg", IMAGE, FACES)
    late._manifest._lease.lost = True  # type: ignore[attr-defined]
    with pytest.raises(FacefindError, match="taken over by another process"):
        late.close()  # and puts no tar file over another's
    tars = {f"{n:05}.tar" for n in range(3)}
    assert there(memory) == {*tars, LIST, "settings.json"}
    with tarfile.open(fileobj=io.BytesIO(read(memory, "00002.tar"))) as tar:
        assert tar.getnames() == ["d_0.png", "d_0.json"]


def test_drawn_copies_are_added_to_or_replaced_only_when_asked(where: str) -> None:
    with DrawingFolder(where, settings={"min_score": 0}) as folder:
        assert folder.write("deep/a.gif", IMAGE, FACES) == Path("deep/a.gif.png")
    assert there(where) == {"deep/a.gif.png", "settings.json"}
    assert Image.open(io.BytesIO(read(where, "deep/a.gif.png"))).size == (100, 80)
    with pytest.raises(DataError, match="has drawn copies already"):
        DrawingFolder(where, settings={"min_score": 0})
    DrawingFolder(where, settings={"min_score": 0}, resume=True)
    DrawingFolder(where, settings={"min_score": 1}, overwrite=True)


def test_redacted_copies_go_to_an_address(memory: str, tmp_path: Path) -> None:
    image = np.full((60, 80, 3), 60, np.uint8)
    image[20:44, 20:40] = 250
    Image.fromarray(image).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    files = [Found(tmp_path / name, name) for name in ("a.png", "b.png")]
    detector = FaceDetector(Seeing(), protocol="original", min_score=0.5, batch_size=1)
    how = Redaction(method="fill", shape="box", color=(255, 0, 0))
    expected = {"a.png", "report.jsonl", "review/sheet-0001.jpg", "settings.json"}
    try:
        from reference import videos
    except ImportError:  # the extra `video` brings PyAV
        pass
    else:
        videos.write(tmp_path / "c.mp4", videos.moving(6))
        files.append(Found(tmp_path / "c.mp4", "c.mp4"))
        expected.add("c.mp4")
    with RedactedFolder(memory, detector, how, review=True) as folder:
        results = list(folder.redact(files))
    assert [r.source.name for r in results if r.error is not None] == ["b.png"]
    assert there(memory) == expected
    copy = np.asarray(Image.open(io.BytesIO(read(memory, "a.png"))))
    assert (copy[22:42, 22:38] == (255, 0, 0)).all()
    if "c.mp4" in expected:
        (tmp_path / "copy.mp4").write_bytes(read(memory, "c.mp4"))
        assert len(list(videos.images(tmp_path / "copy.mp4"))) == 6
    with RedactedFolder(memory, detector, how, resume=True, review=True) as folder:
        assert folder.names == expected & {"a.png", "c.mp4"}
