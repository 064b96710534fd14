"""Every Python and Bash block of README and the guides runs, in order, on tiny files.

The blocks of one page share a folder, and its Python blocks their names. A Python block whose first
line is a file's name in a comment is also written to that file. The lines of a Bash block are
commands of `facefind`, run with all their options; trainings end after two steps of small windows.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from reference import exported

from facefind.cli import main

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = {"new-detector.md", "serve.md"}
"""Guides whose blocks other tests run, and look at what comes out: `systems/test_new_detector.py`
and `serve/test_guide.py`."""
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
PAGES = [ROOT / "README.md", *(guide for guide in GUIDES if guide.name not in ELSEWHERE)]
NOT_RUN = {
    "make": "sets up an environment; `make test` would run this test again",
    "pip": "installs packages",
    "torchrun": "starts four processes; tests/learn/test_engine.py trains with two",
}
"""First words of lines that are not run, with the reason."""
WINDOWS = ("--augment.size", "96", "--run.threads", "1")
"""What trainings get besides: what is tried is the command, not its speed."""
EXPORTS = {"README.md"}
"""Pages whose exports are real, which takes long; elsewhere a shipped file is in their place."""
SHALLOW = (*("--network.depths", "1", "1", "1", "1"), "--network.head-depth", "1")
"""What trainings get there as well: exporting takes its time with each layer."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.name}:{self.line}"


@dataclass
class Page:
    """What the blocks of a page share."""

    folder: Path
    names: dict[str, Any] = field(default_factory=dict)


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    fences = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [
        Block(page, text.count("\n", 0, fence.start(2)) + 1, fence[1], fence[2]) for fence in fences
    ]


BLOCKS = [b for page in PAGES for b in blocks(page) if b.language in ("python", "bash")]


def commands(text: str) -> Iterator[list[str]]:
    """Words of each command of a Bash block; lines that end in a backslash continue."""
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def run(words: list[str], page: str) -> int | str | None:
    """Exit code of `facefind` with these arguments of a page.

    One thread computes, as in every test: a second one on a busy processor waits at full speed.
    """
    if words[0] == "train" and "--resume" not in words:
        words = [*words, *WINDOWS, *(SHALLOW if page in EXPORTS else ())]
    if words[0] == "search":
        words = [*words, "--threads", "1"]
    try:
        return main(words)
    except SystemExit as stop:  # --help ends so
        return stop.code


@pytest.fixture(scope="module")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("skimage", reason="scikit-image holds the face")
    from materials import build

    folder = tmp_path_factory.mktemp("materials")
    build(folder)
    return folder


@pytest.fixture(scope="module")
def pages(materials: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    def page(path: Path) -> Page:
        folder = tmp_path_factory.mktemp(path.stem) / "work"
        shutil.copytree(materials, folder)
        return Page(folder, {"__name__": path.stem})

    return {path: page(path) for path in PAGES}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_block_runs(block: Block, pages: dict[Path, Page], monkeypatch: pytest.MonkeyPatch) -> None:
    page = pages[block.page]
    monkeypatch.chdir(page.folder)
    monkeypatch.setenv("FACEFIND_MAX_STEPS", "2")
    if block.page.name not in EXPORTS:
        monkeypatch.setattr("facefind.export.export", exported.stub)
    if block.language == "bash":
        for words in commands(block.text):
            if words[0] not in NOT_RUN:
                assert words[0] == "facefind", f"{block.name}: {words[0]} is not run by this test"
                assert run(words[1:], block.page.name) == 0, f"{block.name}: {shlex.join(words)}"
        return
    code = "\n" * (block.line - 1) + block.text
    exec(compile(code, str(block.page), "exec"), page.names)
    if file := re.match(r"# (\S+\.py)\n", block.text):
        Path(file[1]).write_text(block.text, encoding="utf-8")


def test_every_page_has_blocks_and_every_fence_a_language() -> None:
    for page in PAGES:
        found = blocks(page)
        assert any(block.language in ("python", "bash") for block in found), page
        assert {block.language for block in found} <= {"python", "bash", "json", "text"}, page
        assert page.read_text(encoding="utf-8").count("```") == 2 * len(found), page


def test_what_is_not_run_is_still_in_the_docs() -> None:
    first = {words[0] for b in BLOCKS if b.language == "bash" for words in commands(b.text)}
    assert first == {"facefind", *NOT_RUN}
