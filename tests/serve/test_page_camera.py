"""The camera of the page: frame by frame, at the service's pace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

COUNT = """() => {
    window.seen = { open: 0, most: 0, count: 0 };
    const real = window.fetch;
    window.fetch = async (...given) => {
        seen.open += 1;
        seen.most = Math.max(seen.most, seen.open);
        const response = await real(...given);
        seen.count += 1;
        if (seen.count === 2) await new Promise((resolve) => setTimeout(resolve, 1800));
        seen.open -= 1;
        return response;
    };
}"""


def test_frames_are_sent_one_after_another(visit: Callable[..., Any]) -> None:
    shown = visit()
    shown.page.evaluate(COUNT)  # the second answer comes late
    shown.page.get_by_role("button", name="Use the camera").click()
    shown.page.locator("#size", has_text="frames a second").wait_for()
    shown.page.wait_for_function("() => seen.count > 5")
    assert shown.page.evaluate("seen.most") == 1
    assert {request.headers["content-type"] for request in shown.posts()} == {"image/jpeg"}
    assert shown.page.locator("#title").inner_text() == "Camera"
    assert shown.found()[0].split()[-1] in ("face", "faces")
    shown.page.get_by_role("button", name="Keep this frame").click()
    shown.settle()
    assert shown.page.locator("#title").inner_text() == "camera-1.jpg"
    sent_so_far = len(shown.posts())
    shown.page.wait_for_timeout(300)
    assert len(shown.posts()) == sent_so_far  # the camera is off


def test_the_camera_is_stopped(visit: Callable[..., Any]) -> None:
    shown = visit()
    button = shown.page.get_by_role("button", name="Camera", exact=True)
    button.click()
    shown.page.locator("#size", has_text="frames a second").wait_for()
    shown.page.get_by_role("button", name="Stop camera").click()
    shown.page.get_by_role("heading", name="Find the faces").wait_for()
    button.wait_for()
    assert shown.page.evaluate("document.activeElement.id") == "camera"


def test_a_camera_that_is_refused_is_named(visit: Callable[..., Any]) -> None:
    shown = visit()
    shown.page.evaluate(
        "void (navigator.mediaDevices.getUserMedia = async () => {"
        " throw new DOMException('no', 'NotAllowedError'); })"
    )
    shown.page.get_by_role("button", name="Use the camera").click()
    message = shown.page.locator("#message")
    message.wait_for()
    assert message.inner_text() == "The camera cannot be used: no"
    assert shown.page.get_by_role("heading", name="Find the faces").is_visible()
