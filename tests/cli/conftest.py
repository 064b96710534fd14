"""A model and pictures for the commands to work on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facefind import weights


@pytest.fixture(scope="session")
def model(request: pytest.FixtureRequest) -> str:
    """The model that ships; where none does yet, a published one."""
    if weights.available():
        return weights.default()
    shared: Path = request.getfixturevalue("shared")
    return str(shared / "weights" / "scrfd_500m.onnx")


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """NASA's portrait of Eileen Collins, (512,512,3): one face, in the upper middle."""
    data = pytest.importorskip("skimage.data", reason="scikit-image holds the portrait")
    picture: np.ndarray = data.astronaut()
    return picture


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory, portrait: np.ndarray) -> Path:
    """The folder that `album` is a copy of: to encode pictures takes longer than to copy them."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "deep").mkdir()
    Image.fromarray(portrait).save(folder / "a.jpg", quality=95)
    Image.fromarray(portrait[:400, 60:420]).save(folder / "deep" / "b.png")
    Image.fromarray(np.full((120, 90, 3), 90, np.uint8)).save(folder / "blank.gif")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def album(tmp_path: Path, pictures: Path) -> Path:
    """A folder with the portrait in two places and sizes, a blank picture and no other file."""
    return Path(shutil.copytree(pictures, tmp_path / "album"))


@pytest.fixture
def broken(album: Path) -> Path:
    """The same folder with a picture that breaks off half way."""
    whole = (album / "a.jpg").read_bytes()
    (album / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    shutil.copy(album / "a.jpg", album / "z.jpg")
    return album


@pytest.fixture
def stub_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network is exported: a shipped file gets its card."""
    from reference import exported

    monkeypatch.setattr("facefind.export.export", exported.stub)
