"""Frames a second of `facefind redact`, by the parts of the work, beside those of deface.

    python benchmarks/video.py --seconds 4 --rounds 3
    python benchmarks/video.py --deface /path/to/venv/bin/deface

A video of 1280x720 is rendered: the people of `examples/demo.py` walk before a still picture. Each
round runs, one after the other, so that whatever else the machine does hits all alike:

- decode: the file alone, `VideoReader`;
- network: the model's runtime on the canvases of as many frames, ready in memory;
- encode: `VideoWriter` alone, on frames in memory;
- detect: `read_video(track=True)`, with every=1 and with every=5;
- redact: `facefind.pipeline.RedactedFolder`, both of its passes, with every=1 and with every=5;
- deface, with its own command line and process, start included; `start` is that of a process that
  imports facefind and opens the model, which redact's figures leave out.

The bound is what two decodings, the network and one encoding take by themselves; a share above
100 % comes of their running side by side.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facefind import FaceDetector, images
from facefind.images import Found
from facefind.pipeline import RedactedFolder
from facefind.redaction import Redaction
from facefind.video import VideoReader, VideoWriter, read_video

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
import demo

HEIGHT, WIDTH, RATE = 720, 1280, 25


def main() -> None:
    options = arguments()
    detector = FaceDetector(options.model, threads=options.threads)
    frames = options.seconds * RATE
    with tempfile.TemporaryDirectory() as folder:
        source = render(Path(folder) / "walk.mp4", frames)
        steps = parts(source, Path(folder), detector)
        if options.deface is not None:
            out = Path(folder) / "deface.mp4"
            command = [str(options.deface), str(source), "-o", str(out), "--keep-audio"]
            steps["deface"] = lambda: subprocess.run(
                command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(options.rounds + 1):
            for name, step in steps.items():
                start = time.perf_counter()
                step()
                if turn:  # the first one warms up
                    seconds[name].append(time.perf_counter() - start)
    print(f"{detector!r}\n{frames} frames of {WIDTH}x{HEIGHT}, medians of {options.rounds} rounds, "
          f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")  # fmt: skip
    print("| step | frames a second | ms a frame |\n|---|---|---|")
    median = {name: statistics.median(times) for name, times in seconds.items()}
    for name, took in median.items():
        count = 1 if name == "start" else frames
        rate = "" if name == "start" else f"{frames / took:.1f}"
        print(f"| {name} | {rate} | {1000 * took / count:.1f} |")
    bound = 2 * median["decode"] + median["network"] + median["encode"]
    print(f"\nshare of the bound: {100 * bound / median['redact']:.0f} %")
    if "deface" in median:
        print(f"redact / deface: {median['deface'] / median['redact']:.2f} times as fast")


def parts(source: Path, folder: Path, detector: FaceDetector) -> dict[str, Callable[[], Any]]:
    """The steps by name."""
    with VideoReader(source) as reader:
        decoded = list(reader)
    canvases = []
    for frame in decoded:
        picture = frame.image()
        for view in detector.protocol.views(picture.shape[:2]):
            canvas, _ = view.render(picture, None, detector.card.size_multiple)
            canvases.append(images.to_nchw([canvas]))

    def decode() -> None:
        with VideoReader(source) as reader:
            for _ in reader:
                pass

    def network() -> None:
        for canvas in canvases:
            detector.runtime(canvas)

    def encode() -> None:
        with VideoReader(source) as reader, VideoWriter(folder / "encoded.mp4", reader) as writer:
            for frame in decoded:
                writer.write(frame)

    def detect(every: int) -> None:
        with read_video(source, detector, every=every, track=True) as video:
            for _ in video:
                pass

    def redact(every: int) -> None:
        with (
            tempfile.TemporaryDirectory(dir=folder) as out,
            RedactedFolder(out, detector, Redaction(), every=every) as copies,
        ):
            for result in copies.redact([Found(source, source.name)]):
                _ = result.faces

    def start() -> None:
        code = "import facefind; facefind.FaceDetector()"
        subprocess.run([sys.executable, "-c", code], check=True)

    return {
        "decode": decode,
        "network": network,
        "encode": encode,
        "detect": lambda: detect(1),
        "detect, every 5th": lambda: detect(5),
        "redact": lambda: redact(1),
        "redact, every 5th": lambda: redact(5),
        "start": start,
    }


def render(path: Path, frames: int) -> Path:
    """A video of people who walk at several distances."""
    import av

    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(40, 200, (18, 32, 3), dtype=np.uint8))
    ground = rough.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    people = [portrait.convert("RGB") for portrait in demo.portraits()]
    walks = [(0, 260, 60, 2.0), (1, 200, 420, -3.0), (0, 120, 760, 1.5), (1, 90, 1000, -1.0)]
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=RATE, options={"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(frames):
            picture = ground.copy()
            for who, size, left, speed in walks:
                person = people[who].resize((size, size * people[who].height // people[who].width))
                picture.paste(person, (round(left + speed * number), HEIGHT - person.height - 40))
            out.mux(stream.encode(av.VideoFrame.from_image(picture)))
        out.mux(stream.encode(None))
    return path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seconds", type=int, default=4, help="length of the video")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--deface", type=Path, help="the command, in an environment of its own")
    return parser.parse_args()


if __name__ == "__main__":
    main()
