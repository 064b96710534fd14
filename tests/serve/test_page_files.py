"""Folders that come into the page, and files of results beside their pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from facefind import images
from facefind.cli import main

MODEL = ("--model", "scrfd-500m-kps", "--threads", "1")
GATHER = """async (paths) => {
    const { gather } = await import("./static/files.js");
    const { pictures } = await gather(paths.map((path) => ({ webkitRelativePath: path })));
    return pictures.map(({ name }) => name);
}"""
DROP_UNREADABLE = """() => {
    const fail = (done, fail) => fail();
    const file = { fullPath: "/f/gone.jpg", isFile: true, file: fail };
    const folderOf = (fullPath, readEntries) => {
        return { fullPath, isDirectory: true, createReader: () => ({ readEntries }) };
    };
    const entries = [[file, folderOf("/f/b", fail)]];
    const folder = folderOf("/f", (done) => done(entries.pop() ?? []));
    const dataTransfer = { items: [{ webkitGetAsEntry: () => folder }] };
    document.ondrop(Object.assign(new Event("drop"), { dataTransfer }));
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, portrait_file: Path) -> Path:
    """Four frames of two faces that pass each other, and what `facefind track` found in them."""
    folder = tmp_path_factory.mktemp("given") / "frames"
    folder.mkdir()
    face = Image.open(portrait_file).crop((120, 0, 320, 300)).resize((120, 180))
    for number in range(4):
        frame = Image.new("RGB", (480, 400), (90, 110, 130))
        frame.paste(face, (10 + 60 * number, 10))
        frame.paste(face, (330 - 60 * number, 210))
        frame.save(folder / f"{number}.png")
    out = folder / "faces.jsonl"
    assert main(["track", str(folder), *MODEL, "--out", str(out)]) == 0
    return folder


@pytest.fixture(scope="module")
def shown(browse: Callable[..., Any], service: str) -> Iterator[Any]:
    visit = browse(service, viewport={"width": 1280, "height": 800}).open()
    yield visit
    visit.close()


def states(shown: Any) -> list[tuple[str, str]]:
    options = shown.page.locator("#pictures li").all()
    return [(one.inner_text().split()[-1], one.get_attribute("data-state")) for one in options]


def choose(shown: Any, folder: Path) -> None:
    """Choose a folder by its button, and wait until all of it is done."""
    before = shown.page.locator("#pictures li").count()
    with shown.page.expect_file_chooser() as chooser:
        shown.page.get_by_role("button", name="Add folder").click()
    chooser.value.set_files(folder)
    shown.page.locator("#pictures li").nth(before).wait_for()
    shown.settle()


def test_results_beside_pictures_are_shown_with_their_ids(shown: Any, folder: Path) -> None:
    lines = [json.loads(one) for one in (folder / "faces.jsonl").read_text().splitlines()]
    assert [sorted(line["ids"]) for line in lines] == [[1, 2]] * 4
    choose(shown, folder)
    assert states(shown) == [("2", "done")] * 4
    assert not shown.posts()
    assert shown.page.get_by_role("button", name="Ids").get_attribute("aria-pressed") == "true"
    for number, line in enumerate(lines):
        shown.page.locator("#pictures li").nth(number).click()
        shown.page.evaluate("() => new Promise(requestAnimationFrame)")
        assert shown.page.locator("#title").inner_text() == f"frames/{number}.png"
        listed = shown.page.locator("#faces small").all_inner_texts()
        assert [text.split()[0] for text in listed] == [f"#{id}" for id in line["ids"]]
    assert shown.page.get_by_role("button", name="Redacted").is_disabled()
    written = shown.download("lines").read_text().splitlines()
    assert [json.loads(one) for one in written] == lines


def test_results_are_compared_with_a_model(shown: Any) -> None:
    shown.page.get_by_role("button", name="Compare").click()
    shown.settle()
    assert states(shown) == [("2", "done")] * 4
    assert len(shown.posts()) == 4
    assert shown.found() == ["2 faces", "2 faces"]
    shown.page.get_by_role("button", name="Remove this model").nth(1).click()


def test_results_of_other_pictures_are_not_shown(
    shown: Any, folder: Path, portrait_file: Path
) -> None:
    shown.page.evaluate("document.getElementById('files').webkitdirectory = false")
    shown.add(portrait_file)
    note = shown.page.locator(".note p")
    text = "faces.jsonl has lines of 4 frames: add a folder of as many pictures."
    assert note.inner_text() == text
    single = folder.parent / "single.jsonl"
    name = f"pictures/{portrait_file.name}"
    line = {"image": name, "width": 512, "height": 512, "boxes": [[9, 9, 50, 60]], "scores": [0.01]}
    single.write_text(json.dumps(line) + "\n")
    shown.page.set_input_files("#files", single)
    shown.page.locator(".found strong", has_text="1 face").wait_for()
    shown.page.locator("#pictures li").first.click()
    shown.settle()
    assert note.inner_text() == "single.jsonl has no lines of frames/0.png."
    single.write_text('{"image": "a.jpg", "faces": 3}\n')
    shown.page.set_input_files("#files", single)
    message = shown.page.locator("#message")
    message.filter(has_text="single.jsonl has no lines as facefind detect --out").wait_for()


def test_a_folder_is_dropped(visit: Callable[..., Any], folder: Path, broken_file: Path) -> None:
    dropped = folder.parent / "dropped"
    (dropped / "b").mkdir(parents=True)
    for name in ("b/1.png", "b.png", "a.png"):
        (dropped / name).write_bytes((folder / "0.png").read_bytes())
    (dropped / "a.jpg").write_bytes(broken_file.read_bytes())
    shown = visit()
    shown.expected.append("status of 422")
    session = shown.context.new_cdp_session(shown.page)
    data = {"items": [], "files": [str(dropped)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        place = {"type": kind, "x": 640, "y": 400, "data": data}
        session.send("Input.dispatchDragEvent", place)
    shown.page.locator("#pictures li").nth(3).wait_for()
    shown.settle()
    titles = [one.get_attribute("aria-label") for one in shown.page.locator("#pictures li").all()]
    assert [title.split()[0] for title in titles] == [
        f"dropped/{found.name}" for found in images.find(dropped)
    ]
    assert states(shown) == [("!", "failed"), *[("2", "done")] * 3]
    assert shown.page.locator("#progress").inner_text() == "3 of 4 done, 1 failed"


def test_pictures_of_folders_are_those_that_the_library_finds(shown: Any, tmp_path: Path) -> None:
    names = [f"{number}{suffix}" for number, suffix in enumerate(sorted(images.SUFFIXES))]
    names += ["A.JPG", "a-b.png", "a/z.png", "a/b/y.png", "a.png", "é.png", "a/.b.png"]
    names += ["notes.txt", "x.jsonl.gz", "jpg", "a/c.png.txt", ".hidden.png", ".deep/a.png"]
    for name in names:
        file = tmp_path / "f" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    found = shown.page.evaluate(GATHER, [f"f/{name}" for name in reversed(names)])
    assert found == [f"f/{one.name}" for one in images.find(tmp_path / "f")]


def test_what_cannot_be_read_is_named(shown: Any) -> None:
    shown.page.evaluate(DROP_UNREADABLE)
    texts = "f/gone.jpg cannot be read. f/b cannot be read. There are no pictures."
    shown.page.locator("#message", has_text=texts).wait_for()


def test_a_file_that_is_gone_is_named(
    visit: Callable[..., Any], folder: Path, tmp_path: Path
) -> None:
    shown = visit()
    shown.expected.append("ERR_FILE_NOT_FOUND")
    files = [tmp_path / "here.png", tmp_path / "gone.png"]
    for file in files:
        file.write_bytes((folder / "0.png").read_bytes())

    def remove(route: Any) -> None:
        files[1].unlink(missing_ok=True)
        route.continue_()

    shown.page.route("**/v1/detect*", remove)
    shown.add(*files)
    assert states(shown) == [("2", "done"), ("!", "failed")]
    why = shown.page.locator("#pictures li").nth(1).get_attribute("title")
    assert "could not be" in why
