"""The page by keyboard and screen reader, in the dark, on small screens, zoomed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

TAB_LIMIT = 40
UNNAMED = """() => {
    const all = document.querySelectorAll("button, input, select, a, canvas, [role], [tabindex]");
    return [...all].filter((one) => one.checkVisibility()).filter((one) => {
        const label = one.ariaLabel ?? one.labels?.[0]?.textContent ?? one.textContent;
        return !label.trim() && one.role !== "status" && one.role !== "alert"
            && !one.closest("[role=option]") && one.tagName !== "MAIN";
    }).map((one) => one.outerHTML.slice(0, 120));
}"""
CONTRAST = """() => {
    const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (color) => {
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = color;
        pen.fillRect(0, 0, 1, 1);
        return [...pen.getImageData(0, 0, 1, 1).data];
    };
    const light = (color) => color.slice(0, 3).map((value) => value / 255)
        .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
        .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
    const behind = (one) => {
        for (; one; one = one.parentElement) {
            const color = rgba(getComputedStyle(one).backgroundColor);
            if (color[3] > 200) return color;
        }
        return [255, 255, 255, 255];
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const low = [];
    for (let node; (node = walker.nextNode()); ) {
        const one = node.parentElement;
        if (!node.data.trim() || !one.checkVisibility({ opacityProperty: true })) continue;
        if (one.closest(":disabled, template, script, #over")) continue;
        const pair = [light(rgba(getComputedStyle(one).color)), light(behind(one))];
        const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
        if (ratio < 4.5) low.push(`${node.data.trim()}: ${ratio.toFixed(2)}`);
    }
    return low;
}"""


def tab_to(shown: Any, selector: str) -> None:
    """Press Tab until an element has the focus, which must be seen there."""
    for _ in range(TAB_LIMIT):
        shown.page.keyboard.press("Tab")
        if shown.page.evaluate(f"document.activeElement.matches({selector!r})"):
            outline = shown.page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
            assert outline == "3px"
            return
    pytest.fail(f"{selector} is not reached by Tab")


def frame(shown: Any) -> None:
    """Wait for what was changed to be drawn."""
    shown.page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
    )


def percent(shown: Any) -> int:
    frame(shown)
    return int(shown.page.locator("#zoom-fit").inner_text().split()[0])


def test_all_is_done_by_keyboard(
    visit: Callable[..., Any], group_file: Path, portrait_file: Path
) -> None:
    shown = visit()
    keys = shown.page.keyboard
    tab_to(shown, "#choose")
    with shown.page.expect_file_chooser() as chooser:
        keys.press("Enter")
    chooser.value.set_files([group_file, portrait_file])
    shown.settle()
    assert shown.page.evaluate("document.activeElement.closest('#pictures li') !== null")
    keys.press("ArrowRight")
    frame(shown)
    assert shown.page.locator("#title").inner_text() == "collins.jpg"
    keys.press("Home")
    frame(shown)
    assert shown.page.locator("#title").inner_text() == "group.png"
    tab_to(shown, "#compare")
    keys.press("Enter")
    shown.settle()
    assert shown.page.evaluate("document.activeElement.matches('.pane:nth-child(2) .model')")
    tab_to(shown, ".pane:nth-child(2) [data-part=close]")
    keys.press("Space")
    assert len(shown.found()) == 1
    assert shown.page.evaluate("document.activeElement.id") == "compare"
    tab_to(shown, ".frame")
    fit = percent(shown)
    keys.press("+")
    assert percent(shown) > fit
    keys.press("ArrowLeft")
    keys.press("0")
    assert percent(shown) == fit
    keys.press("ArrowRight")
    frame(shown)
    assert shown.page.locator("#title").inner_text() == "collins.jpg"
    tab_to(shown, ".least input")
    keys.press("End")
    frame(shown)
    assert shown.found() == ["no faces"]
    keys.press("Home")
    frame(shown)
    tab_to(shown, "#faces li")
    keys.press("Enter")
    assert percent(shown) > fit
    keys.press("ArrowDown")
    frame(shown)
    assert shown.page.locator("#faces [aria-selected=true]").get_attribute("data-face") == "1"
    tab_to(shown, "[data-save=json]")
    with shown.page.expect_download() as info:
        keys.press("Enter")
    assert info.value.suggested_filename == "collins.json"


def test_controls_have_names_and_findings_are_spoken(
    visit: Callable[..., Any], group_file: Path
) -> None:
    shown = visit()
    assert shown.page.evaluate(UNNAMED) == []
    shown.add(group_file)
    assert shown.page.evaluate(UNNAMED) == []
    tree = shown.page.locator("body").aria_snapshot()
    for part in (
        'heading "group.png" [level=1]',
        'button "Scores" [pressed]',
        'combobox "Model"',
        'slider "Least score of scrfd-500m-kps"',
        'listbox "Pictures"',
        'option "group.png ',
        'button "Redacted"',
        'combobox "How faces are hidden"',
        'status: "group.png: scrfd-500m-kps found ',
    ):
        assert part in tree, tree
    assert re.search(r'option "0\.\d\d #1 \d+ × \d+ pixels"', tree), tree


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_in_light_and_dark(
    visit: Callable[..., Any], group_file: Path, broken_file: Path, scheme: str
) -> None:
    shown = visit(color_scheme=scheme)
    shown.expected.append("status of 422")
    paper = shown.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (int(paper.strip("rgb()").split(",")[0]) > 128) == (scheme == "light")
    assert shown.page.evaluate(CONTRAST) == []
    shown.add(broken_file, group_file)
    assert shown.page.evaluate(CONTRAST) == []
    shown.page.locator("#pictures li").nth(1).click()
    frame(shown)
    assert shown.page.evaluate(CONTRAST) == []


def test_small_screens_scroll_down_only(visit: Callable[..., Any], group_file: Path) -> None:
    shown = visit(viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)
    width = "document.documentElement.scrollWidth"
    assert shown.page.evaluate(width) == 360
    shown.add(*[group_file] * 8)
    shown.page.get_by_role("button", name="Compare").tap()
    shown.settle()
    assert shown.page.evaluate(width) == 360
    for button in shown.page.get_by_role("button").all():
        box = button.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
        assert box["height"] >= 36


def test_pictures_are_zoomed_and_moved(visit: Callable[..., Any], portrait_file: Path) -> None:
    shown = visit()
    shown.add(portrait_file)
    fit = percent(shown)
    view = "(async () => (await import('./static/state.js')).page.view)()"
    box = shown.page.locator(".frame").bounding_box()
    x, y = box["x"] + box["width"] / 2 + 60, box["y"] + box["height"] / 2 - 40
    sizes = "(async () => (await import('./static/state.js')).page.panes[0].places()[0])()"

    def under() -> list[float]:
        place = shown.page.evaluate(sizes)
        return [
            (x - box["x"] - place["left"]) / place["scale"],
            (y - box["y"] - place["top"]) / place["scale"],
        ]

    before = under()
    shown.page.mouse.move(x, y)
    shown.page.mouse.wheel(0, -800)
    assert percent(shown) > 3 * fit
    assert under() == pytest.approx(before, abs=1.2)
    shown.page.mouse.down()
    shown.page.mouse.move(x + 50, y + 30, steps=3)
    shown.page.mouse.up()
    frame(shown)
    scale = shown.page.evaluate(sizes)["scale"]
    assert under() == pytest.approx([before[0] - 50 / scale, before[1] - 30 / scale], abs=1.2)
    shown.page.get_by_role("button", name="Zoom in").click()
    shown.page.get_by_role("button", name="Fit the picture").click()
    assert percent(shown) == fit
    assert shown.page.evaluate(view)["zoom"] == 1
    touch = shown.context.new_cdp_session(shown.page)

    def fingers(kind: str, apart: float) -> None:
        points = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        touch.send(
            "Input.dispatchTouchEvent",
            {"type": kind, "touchPoints": [] if kind == "touchEnd" else points},
        )

    fingers("touchStart", 20)
    for apart in (30, 40, 60):
        fingers("touchMove", apart)
    fingers("touchEnd", 0)
    assert percent(shown) == pytest.approx(3 * fit, rel=0.05)


def test_nothing_moves_where_motion_is_unwelcome(
    visit: Callable[..., Any], portrait_file: Path
) -> None:
    shown = visit(reduced_motion="reduce")
    shown.page.route("**/v1/detect*", lambda route: None)  # it never ends
    shown.page.set_input_files("#files", portrait_file)
    shown.page.locator(".busy").wait_for()
    assert shown.page.evaluate("document.getAnimations().length") == 0
