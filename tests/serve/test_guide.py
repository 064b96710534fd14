"""The lines of docs/guides/serve.md: commands are parsed, requests are sent to a service."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from reference.services import served

from facefind.cli import main
from facefind.serve import Settings

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "guides" / "serve.md"
SERVE = ROOT / "src" / "facefind" / "serve"
TEXT = GUIDE.read_text(encoding="utf-8")
HERE = "localhost:8000"


def lines(first: str) -> list[str]:
    blocks = re.findall(r"^```bash\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith(first)]


@pytest.fixture
def folder(tmp_path: Path, portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the lines are run: with the pictures that they name."""
    for name in ("people.jpg", "photo.jpg"):
        Image.fromarray(portrait).save(tmp_path / name, quality=90)
    (tmp_path / "token.txt").write_text("secret\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def where() -> Iterator[str]:
    with served(Settings(models=("scrfd-500m-kps",))) as (address, _):
        yield address.removeprefix("http://")


def test_all_lines_are_of_these_kinds():
    assert len(lines("")) == len(lines("facefind serve ")) + len(lines("curl "))
    assert len(lines("facefind serve ")) == 4
    assert len(lines("curl ")) == 6


@pytest.mark.parametrize("line", lines("facefind serve "))
def test_commands_are_understood(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    from facefind.serve import running

    taken: list[Any] = []
    monkeypatch.setattr(running, "serve", lambda settings, **more: taken.append((settings, more)))
    assert main(shlex.split(line)[1:]) == 0
    ((settings, more),) = taken
    assert more["workers"] == (2 if "--workers" in line else 1)
    assert settings.token == ("secret" if "--token-file" in line else None)
    assert more["host"] == ("0.0.0.0" if "--host" in line else "127.0.0.1")


@pytest.mark.parametrize("line", lines("curl "))
def test_requests_by_curl(line: str, where: str, folder: Path):
    if shutil.which("curl") is None:
        pytest.skip("curl is not here")
    words = shlex.split(line.replace(HERE, where))
    done = subprocess.run([*words, "--silent", "--fail"], capture_output=True)
    assert done.returncode == 0, done.stderr
    if "-o" not in words:
        found = json.loads(done.stdout)
        assert "models" in found or all(image["boxes"] for image in found["images"])
        return
    out = folder / words[words.index("-o") + 1]
    if out.suffix == ".json":
        assert len(json.loads(out.read_text())["images"][0]["crops"]) == 1
    else:
        with Image.open(out) as picture:
            assert picture.format == {".png": "PNG", ".jpg": "JPEG"}[out.suffix]


def test_requests_by_python(where: str, folder: Path, capsys: pytest.CaptureFixture[str]):
    (block,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    exec(compile(block.replace(HERE, where), str(GUIDE), "exec"), {})
    assert capsys.readouterr().out == "people.jpg 1 faces\n"


def test_codes_of_errors_are_all_there():
    table = TEXT.partition("| status | codes |")[2].partition("\n\n")[0]
    listed = set(re.findall(r"`([a-z-]+)`", table))
    source = "".join(path.read_text() for path in SERVE.glob("*.py"))
    raised = set(re.findall(r'(?:RequestError|_answer)\(\s*\d{3},\s*"([a-z-]+)"', source))
    raised |= {"overloaded", "deadline", "method-not-allowed", "bad-request"}  # elsewhere in a call
    assert listed == raised
