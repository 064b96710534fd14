"""Memory of a long video by its frames: `read_video` with tracks, and the two passes of `redact`.

    python benchmarks/video_memory.py --frames 90000 --faces 4

A video of 160x96 pixels at 25 frames a second is rendered, an hour where there are 90,000 frames.
In place of a model, which would take days, boxes and landmarks are made up that move as people do
and are away for some seconds each minute. The memory is what the process has in RAM, after so many
frames of each pass; `KiB a frame` is its rise from a pass's first tenth to its end.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from facefind import FaceDetector
from facefind.pipeline.redacted_videos import redact_file
from facefind.pipeline.videos import FrameLines
from facefind.redaction import Redaction
from facefind.runtimes import Candidates, Card
from facefind.video import read_video

HEIGHT, WIDTH, RATE = 96, 160, 25


class Walking:
    """A runtime that finds faces where they would be, one after the other, in no time."""

    name, precision, threads, provider = "walking", "fp32", 1, "none"

    def __init__(self, faces: int) -> None:
        self.card = Card(name="walking", system="test", landmarks=True)
        self._faces, self._frame = faces, 0

    def __call__(self, images: np.ndarray) -> Candidates:
        self._frame += 1
        second, who = self._frame / RATE, np.arange(self._faces)
        x = WIDTH * (who + 0.5) / self._faces + 6 * np.sin(second + who)
        y = HEIGHT / 2 + 20 * np.sin(second / 2 + 2 * who)
        boxes = np.stack([x - 6, y - 8, x + 6, y + 8], axis=1)[None].astype(np.float32)
        away = (second + 13 * who) % 60 < 5
        scores = np.where(away, 0, 0.8)[None].astype(np.float32)
        points = np.repeat(np.stack([x, y], axis=1)[:, None], 5, axis=1)[None]
        return Candidates(boxes, scores, points.astype(np.float32))


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = render(folder / "long.mp4", options.frames)
        print("| step | frames | MiB | KiB a frame |\n|---|---|---|---|")
        step = Step("read_video", options.frames)
        with read_video(str(source), detector(options.faces), track=True) as video:
            for frame in video:
                step.see(frame.index)
        finding, writing = (Step(name, options.frames) for name in ("finding", "writing"))
        with FrameLines(folder / "lines.jsonl", "long.mp4", settings={}) as lines:
            out = folder / "out.mp4"
            for index, frame, _ in redact_file(
                source, out, detector(options.faces), Redaction(), lines
            ):
                (finding if frame is None else writing).see(index)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak: {peak:.0f} MiB")


class Step:
    """Prints the memory at a tenth of the frames and at the last one."""

    def __init__(self, name: str, frames: int) -> None:
        self._name, self._frames = name, frames
        self._early = 0.0

    def see(self, index: int) -> None:
        if index not in (0, self._frames // 10, self._frames - 1):
            return
        now, rise = resident(), ""
        if index == self._frames // 10:
            self._early = now
        elif index:
            rise = f"{1024 * (now - self._early) / (index - self._frames // 10):.2f}"
        print(f"| {self._name} | {index + 1} | {now:.1f} | {rise} |", flush=True)


def resident() -> float:
    """MiB that the process has in RAM."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def detector(faces: int) -> FaceDetector:
    return FaceDetector(Walking(faces), protocol="original", min_score=0.5, batch_size=1)


def render(path: Path, frames: int) -> Path:
    import av

    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        picture = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
        for number in range(frames):
            picture[:HEIGHT, number % WIDTH] = number % 200
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="yuv420p")))
        out.mux(stream.encode(None))
    return path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=90_000)
    parser.add_argument("--faces", type=int, default=4, help="in each frame")
    return parser.parse_args()


if __name__ == "__main__":
    main()
