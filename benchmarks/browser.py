"""The example page in headless Chromium beside Python: boxes, and milliseconds of the model's run.

npm install --prefix examples/browser onnxruntime-web
facefind export scrfd-500m-kps-int8 --with-nms --out examples/browser/model.onnx
python benchmarks/browser.py IMAGES... --count 50

With `--beside openvino` that is compared with Python's onnxruntime instead of the browser.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import sync_playwright

from facefind import FaceDetector
from facefind.images import read
from facefind.pipeline import list_images
from facefind.protocols import get
from facefind.runtimes import RuntimeName

Found = tuple[NDArray[np.floating], NDArray[np.floating], float]
"""Boxes (N, 4), their scores (N,), and milliseconds of the network."""
Detect = Callable[[int], Found]
"""Of a picture by its number."""

PAGE = Path(__file__).resolve().parents[1] / "examples" / "browser"
DETECT = """async (bytes) => {
    const { detect, load } = await import("./faces.js");
    globalThis.session ??= await load("model.onnx");
    const blob = await (await fetch(bytes)).blob();
    return detect(globalThis.session, await createImageBitmap(blob));
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves the page, and the pictures under /pictures/NUMBER."""

    paths: list[Path] = []  # noqa: RUF012

    def translate_path(self, path: str) -> str:
        if path.startswith("/pictures/"):
            return str(self.paths[int(path.rpartition("/")[2])])
        return super().translate_path(path)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def in_browser(paths: list[Path]) -> Iterator[Detect]:
    """Detects in the page, by the numbers of the pictures."""
    Quiet.paths = paths
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(PAGE))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        with sync_playwright() as driver:
            chromium = driver.chromium.launch(executable_path=shutil.which("chromium"))
            page = chromium.new_page()
            page.goto(address)

            def detect(number: int) -> Found:
                found = page.evaluate(DETECT, f"{address}pictures/{number}")
                boxes = np.array([face["box"] for face in found["faces"]]).reshape(-1, 4)
                scores = np.array([face["score"] for face in found["faces"]])
                return boxes, scores, found["milliseconds"]

            yield detect
            chromium.close()
        server.shutdown()


@contextmanager
def in_python(paths: list[Path], runtime: RuntimeName) -> Iterator[Detect]:
    """Detects by a runtime of Python; the milliseconds are those of the network alone."""
    detector = FaceDetector(PAGE / "model.onnx", runtime=runtime, threads=1)

    def detect(number: int) -> Found:
        found = detector.detect(paths[number])
        view = get(detector.protocol).views(found.image_size)[0]
        canvas, _ = view.render(read(paths[number]), None, 32)
        batch = np.ascontiguousarray(canvas.transpose(2, 0, 1)[None])
        start = time.perf_counter()
        detector.runtime(batch)
        return found.boxes, found.scores, 1000 * (time.perf_counter() - start)

    yield detect


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--runtime", default="onnxruntime", help="of Python")
    parser.add_argument("--beside", default="browser", help="browser, or another runtime of Python")
    args = parser.parse_args()
    found = [one.path for one in list_images(args.images)]
    paths = found[:: max(1, len(found) // args.count)][: args.count]
    times: list[tuple[float, float]] = []
    gaps, other, far, count = [], [], [], 0
    beside = in_browser(paths) if args.beside == "browser" else in_python(paths, args.beside)
    with in_python(paths, args.runtime) as ours, beside as theirs:
        for number, path in enumerate(paths):
            our_boxes, our_scores, our_time = ours(number)
            boxes, scores, their_time = theirs(number)
            times.append((their_time, our_time))
            if len(boxes) != len(our_boxes):
                other.append(f"{path.name}: {len(boxes)}, {len(our_boxes)}")
                continue
            # Two faces of nearly equal scores may come in either order.
            apart = np.abs(boxes[:, None] - our_boxes).max(2)
            nearest = apart.argmin(0) if len(boxes) else []
            gaps += apart.min(0, initial=np.inf).tolist()
            far += [
                f"{path.name}: {apart[nearest[row], row]:.1f} pixels of "
                f"{np.ptp(our_boxes[row][[0, 2]]):.0f}, scores {scores[nearest[row]]:.4f} "
                f"and {our_scores[row]:.4f}"
                for row in np.flatnonzero(apart.min(0, initial=np.inf) > 1)
            ]
            count += len(our_boxes)
    print(
        f"{len(paths)} images, {count} faces: boxes at most {max(gaps):.2f} pixels apart, median "
        f"{np.median(gaps):.3f}, {np.mean(np.array(gaps) <= 1):.1%} within a pixel"
    )
    print(
        f"another number of faces ({args.beside}, {args.runtime}): {'; '.join(other) or 'nowhere'}"
    )
    print(f"further than a pixel: {'; '.join(far) or 'none'}")
    for name, values in zip((args.beside, args.runtime), np.median(times, 0), strict=True):
        print(f"{name}: median {values:.1f} ms of the model, one thread")


if __name__ == "__main__":
    main()
