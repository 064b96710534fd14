"""The example page: what it gives to the model, and what it makes of the answer."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facefind.images import letterbox

pytest.importorskip("cv2", reason="the page resizes as OpenCV does")

PAGE = Path(__file__).resolve().parents[2] / "examples" / "browser"
RUNTIME = """
export class Tensor { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } }
export const InferenceSession = {};
"""
DETECT = """async () => {
    const { detect } = await import("./faces.js");
    let given;
    const session = { run: async ({ image }) => {
        given = image;
        return { boxes: { data: [10, 20, 5000, 40, 0, 0, 0, 0] }, scores: { data: [0.9, 0] } };
    } };
    const picture = await createImageBitmap(await (await fetch("picture.png")).blob());
    const { faces } = await detect(session, picture);
    let text = "";
    for (let i = 0; i < given.data.length; i += 32768) {
        text += String.fromCharCode.apply(null, given.data.subarray(i, i + 32768));
    }
    return [given.dims, btoa(text), faces];
}"""


@pytest.fixture(scope="module")
def detect(chromium: Any) -> Any:
    """Has the page detect in a picture: the tensor that the model is given, and the faces."""
    pictures: dict[str, bytes] = {}

    def answer(route: Any) -> None:
        name = route.request.url.rpartition("/")[2]
        if name == "picture.png":
            route.fulfill(body=pictures[name], content_type="image/png")
        elif name.startswith("ort."):
            route.fulfill(body=RUNTIME, content_type="text/javascript")
        elif name == "faces.js":
            route.fulfill(body=(PAGE / name).read_text("utf-8"), content_type="text/javascript")
        else:
            route.fulfill(body="<title>empty</title>", content_type="text/html")

    page = chromium.new_page()
    page.route("**/*", answer)
    page.goto("http://example.test/")

    def run(picture: Any) -> Any:
        file = BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        pictures["picture.png"] = file.getvalue()
        shape, text, faces = page.evaluate(DETECT)
        return np.frombuffer(base64.b64decode(text), np.uint8).reshape(shape), faces

    yield run
    page.close()


@pytest.mark.parametrize(
    ("height", "width"), [(480, 640), (51, 37), (333, 1000), (900, 1300), (640, 1279), (1280, 1400)]
)
def test_the_model_is_given_what_python_gives_it(detect: Any, height: int, width: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    scale = 640 / max(height, width)
    canvas, placement = letterbox(picture, (int(height * scale + 0.5), int(width * scale + 0.5)))
    given, faces = detect(picture)
    np.testing.assert_array_equal(given, canvas.transpose(2, 0, 1)[None])
    (face,) = faces
    expected = [10 / placement.scale_x, 20 / placement.scale_y, width, 40 / placement.scale_y]
    assert face["box"] == pytest.approx(expected)
    assert face["score"] == 0.9
