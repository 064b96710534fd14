"""The page in a browser: pictures come in, faces are shown, sliders choose among them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

pytestmark = pytest.mark.slow

FILE = """async ([url, name, type]) => {
    const blob = await (await fetch(url)).blob();
    const transfer = new DataTransfer();
    transfer.items.add(new File([blob], name, { type }));
    return transfer;
}"""


def transfer(visit: Any, file: Path) -> Any:
    """A DataTransfer of a file, as a drop has it."""
    visit.page.route("**/given", lambda route: route.fulfill(body=file.read_bytes()))
    return visit.page.evaluate_handle(FILE, [visit.address + "given", file.name, "image/jpeg"])


def query_of(request: Any) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(request.url).query).items()}


@pytest.fixture
def lines(answer: Callable[..., Any]) -> Callable[..., Any]:
    """The service's line of a file by a model, its faces from a score on."""

    def line(file: Path, model: str, score: float) -> Any:
        return answer(file, f"v1/detect?model={model}&score={score}")["images"][0]

    return line


def test_chosen_pictures_are_shown_with_what_was_found(
    visit: Callable[..., Any], group_file: Path, lines: Callable[..., Any]
) -> None:
    shown = visit()
    with shown.page.expect_file_chooser() as chooser:
        shown.page.get_by_role("button", name="Choose pictures").click()
    chooser.value.set_files(group_file)
    shown.settle()
    line = lines(group_file, "scrfd-500m-kps", 0.51)
    assert len(line["scores"]) >= 3
    assert shown.found() == [f"{len(line['scores'])} faces"]
    assert shown.page.locator("#title").inner_text() == "group.png"
    assert shown.page.locator("#size").inner_text() == "800 × 300"
    listed = shown.page.locator("#faces li:visible b").all_inner_texts()
    assert listed == [f"{score:.2f}" for score in line["scores"]]
    said = shown.page.locator("#live").inner_text()
    assert (
        said
        == f"group.png: scrfd-500m-kps found {len(line['scores'])} faces from a score of 0.51 on"
    )


def test_boxes_lie_where_the_service_says(
    visit: Callable[..., Any], portrait_file: Path, lines: Callable[..., Any]
) -> None:
    shown = visit()
    shown.add(portrait_file)
    x1, y1, x2, y2 = lines(portrait_file, "scrfd-500m-kps", 0.51)["boxes"][0]
    frame = shown.page.locator(".frame").bounding_box()
    scale = (frame["height"] - 28) / 512
    left = frame["x"] + (frame["width"] - 512 * scale) / 2
    top = frame["y"] + 14
    chosen = shown.page.locator("#faces [aria-selected=true]")
    for x, y, inside in [
        (x1 + 4, y1 + 4, True),
        (x2 - 4, y2 - 4, True),
        (x1 - 6, y1 + 9, False),
        (x2 - 9, y2 + 6, False),
    ]:
        shown.page.mouse.click(left + scale * x, top + scale * y)
        shown.page.evaluate("() => new Promise(requestAnimationFrame)")
        assert chosen.count() == inside, (x, y)
    edge = (round(left + scale * x1 - frame["x"]), round(top + scale * (y1 + y2) / 2 - frame["y"]))
    color = shown.page.evaluate(
        "([x, y]) => [...document.querySelector('.frame canvas').getContext('2d')"
        ".getImageData(x - 2, y, 5, 1).data]",
        list(edge),
    )
    greens = [at for at in range(0, len(color), 4) if color[at + 1] > 1.6 * color[at]]
    assert greens, color


def test_dropped_pictures_are_added(visit: Callable[..., Any], portrait_file: Path) -> None:
    shown = visit()
    files = transfer(shown, portrait_file)
    body = shown.page.locator("body")
    for event, dropping in [("dragover", True), ("dragleave", False), ("dragover", True)]:
        body.dispatch_event(event, {"dataTransfer": files})
        assert ("dropping" in (body.get_attribute("class") or "")) == dropping
    body.dispatch_event("drop", {"dataTransfer": files})
    shown.page.locator("#pictures li").wait_for()
    shown.settle()
    assert "dropping" not in (body.get_attribute("class") or "")
    assert shown.found() == ["1 face"]
    assert shown.page.locator("#title").inner_text() == "collins.jpg"


def test_a_picture_is_pasted_from_the_clipboard(
    visit: Callable[..., Any], group_file: Path, lines: Callable[..., Any]
) -> None:
    shown = visit(permissions=["clipboard-read", "clipboard-write"])
    shown.page.route("**/given", lambda route: route.fulfill(body=group_file.read_bytes()))
    shown.page.evaluate(
        """async (url) => {
            const blob = new Blob([await (await fetch(url)).blob()], { type: "image/png" });
            await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
        }""",
        shown.address + "given",
    )
    shown.page.keyboard.press("Control+V")
    shown.page.locator("#pictures li").wait_for()
    shown.settle()
    assert shown.page.locator("#title").inner_text() == "image.png"
    count = len(lines(group_file, "scrfd-500m-kps", 0.51)["scores"])
    assert shown.found() == [f"{count} faces"]


def test_the_slider_chooses_among_faces_without_a_request(
    visit: Callable[..., Any], group_file: Path, lines: Callable[..., Any]
) -> None:
    shown = visit()
    shown.add(group_file)
    slider = shown.page.locator(".least input")
    assert float(slider.input_value()) == pytest.approx(0.51)
    assert query_of(shown.posts()[0])["score"] == "0.05"
    before = len(shown.requests)
    counts = []
    for least in (0.05, 0.3, 0.6, 0.95):
        shown.slide(least)
        counts.append(len(lines(group_file, "scrfd-500m-kps", least)["scores"]))
        text = "1 face" if counts[-1] == 1 else f"{counts[-1] or 'no'} faces"
        assert shown.found() == [text]
        assert slider.get_attribute("aria-valuetext") == f"{least:.2f} {text}"
        assert shown.page.locator("#faces li:visible").count() == counts[-1]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) >= 3
    assert len(shown.requests) == before


def test_models_are_compared_on_one_picture(
    visit: Callable[..., Any], group_file: Path, portrait_file: Path, lines: Callable[..., Any]
) -> None:
    shown = visit()
    shown.add(group_file, portrait_file)
    shown.page.get_by_role("button", name="Compare").click()
    shown.settle()
    models = shown.page.locator(".pane .model")
    assert [models.nth(one).input_value() for one in (0, 1)] == [
        "scrfd-500m-kps",
        "retinaface-mobile",
    ]
    counts = [
        len(lines(group_file, model, least)["scores"])
        for model, least in (("scrfd-500m-kps", 0.51), ("retinaface-mobile", 0.85))
    ]
    assert shown.found() == [f"{count} faces" for count in counts]
    times = shown.page.locator(".found span").all_inner_texts()
    assert all(one.endswith((" ms", " s")) for one in times)
    boxes = [shown.page.locator(".frame").nth(one).bounding_box() for one in (0, 1)]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    assert shown.page.locator("#pictures .state").all_inner_texts()[1] == "1 / 1"
    shown.slide(0.99, pane=1)
    assert shown.found()[0] == f"{counts[0]} faces"
    shown.page.get_by_role("button", name="Remove this model").nth(1).click()
    assert len(shown.found()) == 1


def test_another_protocol_and_a_mesh_are_requested(
    visit: Callable[..., Any], portrait_file: Path
) -> None:
    shown = visit()
    shown.add(portrait_file)
    assert not shown.page.get_by_role("button", name="Mesh").is_visible()
    shown.page.get_by_label("Protocol").select_option("vga")
    shown.settle()
    assert query_of(shown.posts()[-1])["protocol"] == "vga"
    shown.page.get_by_label("Model", exact=True).select_option("retinaface-mobile")
    shown.settle()
    plain = shown.page.locator(".frame canvas").screenshot()
    shown.page.get_by_role("button", name="Mesh").click()
    shown.settle()
    query = query_of(shown.posts()[-1])
    assert (query["model"], query["mesh"]) == ("retinaface-mobile", "true")
    assert shown.page.locator(".frame canvas").screenshot() != plain
    requests = len(shown.posts())
    shown.page.get_by_label("Model", exact=True).select_option("scrfd-500m-kps")
    shown.page.get_by_label("Protocol").select_option("vga")
    shown.settle()
    assert len(shown.posts()) == requests  # both are known already


def test_a_picture_that_fails_says_why_and_the_others_are_done(
    visit: Callable[..., Any], broken_file: Path, portrait_file: Path, group_file: Path
) -> None:
    shown = visit()
    shown.expected.append("status of 422")
    shown.add(broken_file, portrait_file, group_file)
    options = shown.page.locator("#pictures li")
    states = [options.nth(one).get_attribute("data-state") for one in range(3)]
    assert states == ["failed", "done", "done"]
    assert "broken.jpg ! " in options.nth(0).get_attribute("aria-label")
    assert shown.page.locator("#progress").inner_text() == "2 of 3 done, 1 failed"
    note = shown.page.locator(".note p").inner_text()
    assert len(note) > 20
    assert "broken.jpg" not in note
    assert shown.page.locator("[data-save=annotated]").is_disabled()
    posts = len(shown.posts())
    shown.page.get_by_role("button", name="Try again").click()
    shown.settle()
    assert len(shown.posts()) == posts + 1


def test_pictures_that_the_browser_cannot_read_are_shown_by_the_service(
    visit: Callable[..., Any], portrait_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "collins.tiff"
    Image.open(portrait_file).save(file)
    shown = visit()
    shown.add(file)
    shown.page.wait_for_function("() => document.getElementById('size').textContent")
    assert shown.page.locator("#size").inner_text() == "512 × 512"
    assert shown.found() == ["1 face"]
    shown.page.wait_for_function("() => document.querySelector('#pictures img').naturalWidth")


def test_turned_pictures_are_upright(
    visit: Callable[..., Any], portrait_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the picture is at the right
    upright = Image.open(portrait_file).crop((40, 0, 440, 300))
    upright.rotate(90, expand=True).save(file, exif=exif, quality=92)
    shown = visit()
    shown.add(file)
    assert shown.page.locator("#size").inner_text() == "400 × 300"
    assert shown.found() == ["1 face"]
    x1, y1, x2, y2 = json.loads(shown.download("json").read_text())["images"][0]["boxes"][0]
    assert 0 < x1 < x2 < 400
    assert y2 - y1 > x2 - x1


def test_pictures_are_removed(
    visit: Callable[..., Any], portrait_file: Path, group_file: Path
) -> None:
    shown = visit()
    shown.add(portrait_file, group_file)
    shown.page.get_by_role("button", name="Remove picture").click()
    assert shown.page.locator("#title").inner_text() == "group.png"
    shown.page.keyboard.press("Delete")
    assert shown.page.get_by_role("heading", name="Find the faces").is_visible()
    assert shown.page.evaluate("document.activeElement.id") == "choose"
