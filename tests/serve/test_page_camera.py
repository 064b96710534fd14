"""The camera of the page: frame by frame, at the service's pace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_frames_are_sent_one_after_another(visit: Callable[..., Any]) -> None:
    shown = visit()
    open_now, most = set(), []

    def sent(request: Any) -> None:
        if "v1/detect" in request.url:
            open_now.add(request)
            most.append(len(open_now))

    shown.page.on("request", sent)
    shown.page.on("requestfinished", lambda request: open_now.discard(request))
    shown.page.get_by_role("button", name="Use the camera").click()
    shown.page.locator("#size", has_text="frames a second").wait_for()
    shown.page.wait_for_function("() => performance.getEntriesByType('resource').length > 20")
    assert len(most) > 3
    assert max(most) == 1
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
    assert shown.page.get_by_role("heading", name="Find the faces").is_visible()
    assert button.is_visible()
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
    assert message.inner_text() == "The browser does not let this page use the camera."
    assert shown.page.get_by_role("heading", name="Find the faces").is_visible()
