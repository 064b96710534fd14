"""The example page in headless Chromium beside Python: boxes, and milliseconds of the model's run.

npm install --prefix examples/browser onnxruntime-web
facefind export scrfd-500m-kps-int8 --with-nms --out examples/browser/model.onnx
python benchmarks/browser.py IMAGES... --count 50
"""

from __future__ import annotations

import argparse
import functools
import http.server
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from facefind import FaceDetector
from facefind.images import read
from facefind.pipeline import list_images
from facefind.protocols import get

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
def served(paths: list[Path]) -> Iterator[str]:
    """The address at which the page and the pictures are."""
    Quiet.paths = paths
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(PAGE))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--runtime", default="onnxruntime", help="of Python")
    args = parser.parse_args()
    found = [one.path for one in list_images(args.images)]
    paths = found[:: max(1, len(found) // args.count)][: args.count]
    detector = FaceDetector(PAGE / "model.onnx", runtime=args.runtime, threads=1)
    times: dict[str, list[float]] = {"browser": [], "python": []}
    gaps, other, far, count = [], [], [], 0
    with served(paths) as address, sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"))
        page = chromium.new_page()
        page.goto(address)
        for number, path in enumerate(paths):
            ours = detector.detect(path)
            theirs = page.evaluate(DETECT, f"{address}pictures/{number}")
            view = get(detector.protocol).views(ours.image_size)[0]
            canvas, _ = view.render(read(path), None, 32)
            batch = np.ascontiguousarray(canvas.transpose(2, 0, 1)[None])
            start = time.perf_counter()
            detector.runtime(batch)
            times["python"].append(1000 * (time.perf_counter() - start))
            times["browser"].append(theirs["milliseconds"])
            boxes = np.array([face["box"] for face in theirs["faces"]]).reshape(-1, 4)
            if len(boxes) != len(ours):
                other.append(f"{path.name}: {len(boxes)}, {len(ours)}")
                continue
            # Two faces of nearly equal scores may come in either order.
            apart = np.abs(boxes[:, None] - ours.boxes).max(2)
            nearest = apart.argmin(0) if len(boxes) else []
            gaps += apart.min(0, initial=np.inf).tolist()
            for row in np.flatnonzero(apart.min(0, initial=np.inf) > 1):
                theirs_score = theirs["faces"][nearest[row]]["score"]
                far.append(
                    f"{path.name}: {apart[nearest[row], row]:.1f} pixels of "
                    f"{np.ptp(ours.boxes[row][[0, 2]]):.0f}, scores {theirs_score:.4f} "
                    f"and {ours.scores[row]:.4f}"
                )
            count += len(ours)
        chromium.close()
    print(
        f"{len(paths)} images, {count} faces: boxes at most {max(gaps):.2f} pixels apart, median "
        f"{np.median(gaps):.3f}, {np.mean(np.array(gaps) <= 1):.1%} within a pixel"
    )
    print(f"another number of faces (browser, Python): {'; '.join(other) or 'nowhere'}")
    print(f"further than a pixel: {'; '.join(far) or 'none'}")
    for name, values in times.items():
        print(f"{name}: median {np.median(values):.1f} ms of the model, one thread")


if __name__ == "__main__":
    main()
