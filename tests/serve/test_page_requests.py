"""The page and its service: limits of what it is, waiting, tokens, failures, what it never does."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import facefind.serve

FOLDER = Path(facefind.serve.__file__).parent / "page"


def test_the_page_is_small_and_whole() -> None:
    files = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    assert sum(map(len, files.values())) < 60_000
    texts = {name: data.decode() for name, data in files.items()}
    assert not re.search(
        r"\bstyle=|\bon\w+=|<style|<script(?! type=\"module\" src=)", texts["index.html"]
    )
    for name, text in texts.items():
        assert not re.findall(r"https?://(?!www\.w3\.org)[\w.]+", text), name
    imported = {one for text in texts.values() for one in re.findall(r'from "\./(\w+\.js)"', text)}
    named = set(re.findall(r"static/([\w.]+)", texts["index.html"]))
    assert imported | named | {"index.html"} == set(files)


def test_nothing_from_elsewhere_may_run(service: str) -> None:
    with urllib.request.urlopen(service) as response:
        policy = response.headers["Content-Security-Policy"]
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
    assert rules["default-src"] == "'self'"
    assert "unsafe" not in policy
    for kind in ("script-src", "style-src", "connect-src"):
        assert rules.get(kind, "'self'") == "'self'"


def test_the_policy_stops_what_is_injected(visit: Callable[..., Any]) -> None:
    shown = visit()
    shown.expected += ["policy", "Content Security Policy"]
    shown.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.injected = true";
            document.body.append(script);
        }"""
    )
    assert shown.page.evaluate("window.injected") is None
    assert any("script-src" in problem for problem in shown.problems)


def test_a_busy_service_is_waited_for(visit: Callable[..., Any], portrait_file: Path) -> None:
    shown = visit()
    shown.expected.append("status of 503")
    times: list[float] = []

    def busy_twice(route: Any) -> None:
        times.append(time.monotonic())
        if len(times) > 2:
            return route.continue_()
        error = {"error": {"code": "overloaded", "message": "busy", "request_id": "1"}}
        return route.fulfill(status=503, headers={"Retry-After": "1"}, json=error)

    shown.page.route("**/v1/detect*", busy_twice)
    shown.page.set_input_files("#files", portrait_file)
    shown.page.locator(".note", has_text="The service is busy: again in 1 s").wait_for()
    shown.settle()
    assert shown.found() == ["1 face"]
    assert len(times) == 3
    assert all(after - before >= 0.95 for before, after in pairwise(times))


def test_a_service_that_is_gone_is_named_and_tried_again(
    visit: Callable[..., Any], portrait_file: Path
) -> None:
    shown = visit()
    shown.expected.append("ERR_CONNECTION_REFUSED")
    shown.page.route("**/v1/detect*", lambda route: route.abort("connectionrefused"))
    shown.add(portrait_file)
    note = shown.page.locator(".note p")
    assert note.inner_text() == "The service does not answer. Is it still running?"
    shown.page.unroute("**/v1/detect*")
    shown.page.get_by_role("button", name="Try again").click()
    shown.settle()
    assert shown.found() == ["1 face"]


def test_a_token_is_requested_once_it_is_needed(
    visit: Callable[..., Any],
    browse: Callable[..., Any],
    start: Callable[..., str],
    portrait_file: Path,
) -> None:
    assert not visit().page.locator("#token").is_visible()
    shown = browse(start(models=("scrfd-500m-kps",), token="sesame") + "/")
    shown.expected.append("status of 401")
    shown.page.goto(shown.address)
    field = shown.page.get_by_label("This service needs a bearer token.")
    field.fill("wrong")
    field.press("Enter")
    shown.page.locator("#message", has_text="The service did not take that one.").wait_for()
    field.fill("sesame")
    shown.page.get_by_role("button", name="Continue").click()
    shown.page.locator(".pane").wait_for(state="attached")
    assert not shown.page.locator("#token").is_visible()
    shown.add(portrait_file)
    assert shown.found() == ["1 face"]
    shown.close()
