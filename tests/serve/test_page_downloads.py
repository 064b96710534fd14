"""What the page downloads, against what the service and the command line make."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facefind.cli import main

LEAST = 0.6


@pytest.fixture(scope="module")
def shown(
    browse: Callable[..., Any], service: str, group_file: Path, portrait_file: Path
) -> Iterator[Any]:
    """The page with two pictures, the first one shown from a score of 0.6 on."""
    visit = browse(service).open()
    visit.add(group_file, portrait_file)
    visit.slide(LEAST)
    yield visit
    visit.close()


@pytest.fixture(scope="module")
def line(answer: Callable[..., Any], group_file: Path) -> Any:
    """What the service says of the first picture, from a score of 0.6 on."""
    found = answer(group_file, f"v1/detect?score={LEAST}")["images"][0]
    assert len(found["scores"]) >= 2
    return found | {"image": "group.png"}


def pixels(file: Path | BytesIO) -> np.ndarray:
    return np.asarray(Image.open(file).convert("RGB")).astype(int)


def test_json_is_the_answer_of_the_service(shown: Any, line: Any) -> None:
    path = shown.download("json")
    assert path.name == "group.json"
    assert json.loads(path.read_text()) == {
        "version": 1,
        "model": "scrfd-500m-kps",
        "protocol": "everyday",
        "images": [line],
    }


def test_json_lines_are_those_of_the_command(
    shown: Any, group_file: Path, portrait_file: Path, tmp_path: Path
) -> None:
    path = shown.download("lines")
    assert path.name == "faces.jsonl"
    out = tmp_path / "faces.jsonl"
    files = [str(group_file), str(portrait_file)]
    choice = ["--model", "scrfd-500m-kps", "--min-score", str(LEAST), "--threads", "1"]
    assert main(["detect", *files, *choice, "--out", str(out)]) == 0
    mine, theirs = (
        [json.loads(one) for one in file.read_text().splitlines()] for file in (path, out)
    )
    for one, other in zip(mine, theirs, strict=True):
        assert one["image"] == Path(other["image"]).name
        assert list(one) == list(other)
        np.testing.assert_allclose(one["boxes"], other["boxes"], atol=0.01)
        np.testing.assert_allclose(one["scores"], other["scores"], atol=1e-4)


@pytest.mark.parametrize("method", ["blur", "pixelate", "fill"])
def test_the_redacted_picture_is_that_of_the_service(
    shown: Any, answer: Callable[..., Any], group_file: Path, method: str
) -> None:
    shown.page.select_option("#method", method)
    path = shown.download("redacted")
    assert path.name == "group-redacted.png"
    assert path.read_bytes() == answer(group_file, f"v1/redact?score={LEAST}&with={method}")


def test_the_annotated_picture_is_changed_at_the_faces_only(
    shown: Any, line: Any, group_file: Path
) -> None:
    path = shown.download("annotated")
    assert path.name == "group-faces.png"
    before, after = pixels(group_file), pixels(path)
    assert after.shape == before.shape
    changed = (before != after).any(-1)
    near = np.zeros_like(changed)
    for x1, y1, x2, y2 in np.array(line["boxes"]).round().astype(int):
        near[max(0, y1 - 24) : y2 + 5, max(0, x1 - 5) : max(x2 + 5, x1 + 50)] = True
        middle = (y1 + y2) // 2
        assert changed[middle, max(0, x1 - 3) : x1 + 4].any()
        assert changed[middle, x2 - 3 : x2 + 4].any()
    assert not changed[~near].any()


def test_crops_are_the_faces(shown: Any, line: Any, group_file: Path) -> None:
    path = shown.download("crops")
    assert path.name == "group-crops.zip"
    whole = pixels(group_file)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            f"group-{face}-{score:.2f}.png" for face, score in enumerate(line["scores"], 1)
        ]
        for name, box in zip(archive.namelist(), line["boxes"], strict=True):
            x1, y1, x2, y2 = (int(value + 0.5) for value in np.maximum(box, 0))
            crop = pixels(BytesIO(archive.read(name)))
            np.testing.assert_array_equal(crop, whole[y1:y2, x1:x2])


def test_a_download_that_fails_says_why(shown: Any) -> None:
    shown.expected.append("ERR_FAILED")
    shown.page.route("**/v1/redact*", lambda route: route.abort())
    shown.page.click("[data-save=redacted]")
    note = shown.page.locator("#save-note")
    note.wait_for()
    assert note.inner_text() == "The service does not answer. Is it still running?"
    assert shown.page.locator("[data-save=redacted]").is_enabled()
