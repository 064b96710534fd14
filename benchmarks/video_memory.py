"""Memory of a long video by its frames: `read_video` with tracks, and the two passes of `redact`.

    python benchmarks/video_memory.py --frames 18000 --faces 4
    python benchmarks/video_memory.py --frames 90000 --faces 4 --held

A video of 160x96 pixels at 25 frames a second is rendered, an hour where there are 90,000 frames.
In place of a model, which would take days, boxes and landmarks are made up that move as people do
and are away for some seconds each minute. The memory is what the process has in RAM, after so many
frames of each pass; `KiB a frame` is its rise from a pass's first tenth to its end. With `--held`
no video is made: only what `redact` holds of one is measured, and what is made of it between its
passes.
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
from facefind.pipeline.redacted_videos import Detected, Hiding, redact_file, tracker_config
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
    print("| step | frames | MiB | KiB a frame |\n|---|---|---|---|")
    (held if options.held else whole)(options.frames, options.faces)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak: {peak:.0f} MiB")


def held(frames: int, faces: int) -> None:
    found, model = Detected(), detector(faces)
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    step = Step("held", frames)
    for number in range(frames):
        found.append(number / RATE, model.detect(picture))
        step.see(number)
    tracks = found.follow(tracker_config(model), Hiding())
    print(f"| followed: {len(tracks)} tracks | {frames} | {resident():.1f} | |", flush=True)


def whole(frames: int, faces: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = render(folder / "long.mp4", frames)
        step = Step("read_video", frames)
        with read_video(str(source), detector(faces), track=True) as video:
            for frame in video:
                step.see(frame.index)
        finding, writing = Step("finding", frames), Step("writing", frames)
        with FrameLines(folder / "lines.jsonl", "long.mp4", settings={}) as lines:
            copy = redact_file(source, folder / "out.mp4", detector(faces), Redaction(), lines)
            for index, decoded, _ in copy:
                (finding if decoded is None else writing).see(index)


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
    parser.add_argument("--held", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
