"""What the documentation names is there: files, tests, what is in them, headings and options."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from facefind import recipes

ROOT = Path(__file__).resolve().parents[2]
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
PAGES = [*(ROOT / name for name in TOP), *sorted((ROOT / "docs").rglob("*.md"))]
NAMED = re.compile(r"`([\w./-]+\.py|[\w./-]+/)?((?:::[\w.]+)+)?`")
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"--(?:[a-z-]+\.)+[a-z0-9-]+")
BASES = (ROOT, ROOT / "src/facefind", ROOT / "tests")
EXAMPLES = {"utils.py", "mine.py", "my_file.py", "mixed.py", "toy.py", "found.py"}
"""Files of the reader's own, and one that must not be."""


def found(name: str) -> list[Path]:
    """Where a file or folder of the project is; tests may be named without their folder."""
    places = [base / name for base in BASES]
    if "/" not in name.rstrip("/"):
        places += list((ROOT / "tests").rglob(name))
    return [place for place in places if place.exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_and_tests_exist(page):
    text = page.read_text(encoding="utf-8")
    missing = []
    for name, members in NAMED.findall(text):
        if name in EXAMPLES or name.startswith(("runs/", "drawn/", "crops/")):
            continue
        places = found(name) if name else list((ROOT / "tests").rglob("test_*.py"))
        if not places and name.endswith(".py"):
            missing.append(name)
        for member in filter(None, re.split(r"::|\.", members)):
            defined = re.compile(rf"^\s*(def|class) {member}\b|^\s*{member}\b", re.MULTILINE)
            if not any(defined.search(place.read_text(encoding="utf-8")) for place in places):
                missing.append(f"{name}::{member}")
    assert missing == []


def anchors(page: Path) -> set[str]:
    """What links may name of a page: its headings as GitHub writes them, repeated ones numbered."""
    seen: Counter[str] = Counter()
    names = set()
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    for heading in re.findall(r"^#+ +(.+?)\s*$", text, re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        names.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    lost = []
    for file, anchor in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        target = page.parent / file if file else page
        there = target.exists() and (not anchor or anchor in anchors(target))
        lost += [] if there else [f"{file}#{anchor}"]
    assert lost == []


def options(config, prefix="--"):
    """The dotted options of a recipe, or of a part of it."""
    for field in fields(config):
        name, value = f"{prefix}{field.name.replace('_', '-')}", getattr(config, field.name)
        yield name
        if is_dataclass(value):
            yield from options(value, f"{name}.")


@pytest.fixture(scope="module")
def known():
    """Every option that the training of some system has."""
    named = {row for rows in recipes.by_system().values() for row in rows}
    return {option for name in named for option in options(recipes.get(name))}


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.name != "CHANGELOG.md"], ids=lambda p: p.name
)
def test_named_options_of_trainings_exist(page, known):
    named = set(OPTION.findall(page.read_text(encoding="utf-8")))
    switched_off = {option for option in named if option.replace(".no-", ".") in known}
    assert named - known - switched_off == set()
