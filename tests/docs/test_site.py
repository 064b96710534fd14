"""The documentation's site has every page, and its check finds what leads nowhere."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")


@pytest.fixture(scope="module")
def check_site():
    spec = importlib.util.spec_from_file_location("check_site", ROOT / "docs" / "check_site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def listed(nav):
    """The pages of a navigation, in its order."""
    if isinstance(nav, str):
        return [nav]
    entries = nav.values() if isinstance(nav, dict) else nav
    return [page for entry in entries for page in listed(entry)]


def test_every_page_is_in_the_navigation_once():
    config = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    pages = [page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed(config["nav"])) == sorted([*TOP, *pages])


def test_what_is_copied_holds_all_that_pages_link_to():
    copied = re.search(r"\tcp -R (.*) build/docs\n", (ROOT / "Makefile").read_text())[1].split()
    assert {*TOP, "docs"} <= set(copied)
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ('<a href="b.html#here">', ""),
        ('<a href="/sub/b.html">', "/sub/b.html is no file of the site"),
        ('<a href="/b.html#here"><a href="#top"><a href="sub/">', ""),
        ('<a href="https://example.org/x">', ""),
        ('<a href="c.html">', "c.html is no file of the site"),
        ('<a href="b.html#there">', "b.html#there names no heading there"),
        ('<a href="#there">', "#there names no heading there"),
        ('<img src="face.jpg">', "face.jpg is no file of the site"),
        ('<img src="data.txt"><a href="data.txt#L3">', ""),
        ('<script src="https://example.org/x.js">', "fetches https://example.org/x.js"),
        ('<link href="//example.org/x.css">', "fetches //example.org/x.css"),
    ],
)
def test_the_check_finds_what_leads_nowhere(check_site, tmp_path, body, wrong):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "index.html").write_text('<a href="../b.html">')
    (tmp_path / "a.html").write_text(f'<p id="top">{body}')
    (tmp_path / "b.html").write_text('<h2 id="here">')
    (tmp_path / "data.txt").write_text("")
    assert [line.partition(": ")[2] for line in check_site.problems(tmp_path)] == [wrong][
        : len(wrong)
    ]


def test_a_site_without_pages_is_a_problem(check_site, tmp_path):
    assert "make docs" in check_site.problems(tmp_path)[0]
