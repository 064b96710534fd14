"""Small videos made on the spot: white patches, which `seeing_runtimes.Seeing` finds, on gray."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
MOVES = (4, 40, 24, 64)
"""xyxy of the patch of `moving` in frame 0, in an image of 96 x 128; it moves 2 pixels a frame."""


def moving(
    count: int, hidden: Iterable[int] = (), size: tuple[int, int] = (96, 128)
) -> list[Image]:
    """Frames with a white patch that moves to the right; in hidden ones it is of a darker gray."""
    frames = []
    for number in range(count):
        image = np.full((*size, 3), 40, np.uint8)
        x1, y1, x2, y2 = MOVES
        shade = 110 if number in set(hidden) else 240
        image[y1:y2, x1 + 2 * number : x2 + 2 * number] = shade
        frames.append(image)
    return frames


def write(
    path: Path,
    images: Iterable[Image],
    *,
    codec: str = "libx264",
    form: str = "yuv420p",
    rate: int = 25,
    base: Fraction = Fraction(1, 12800),
    steps: Callable[[int], int] = lambda number: 512,
    sound: str | None = None,
    turned: float | None = None,
    colors: tuple[int, int, int, int] | None = None,
    options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
    chapters: list[Any] | None = None,
) -> Path:
    """A video of images (H,W,3) RGB.

    Args:
        steps: Ticks of `base` from a frame to the next.
        sound: Codec of a tone that is as long as the video.
        turned: Degrees of its display matrix.
        colors: Primaries, transfer, matrix and range.
    """
    default = {"preset": "ultrafast", "crf": "10"} if codec == "libx264" else {}
    images = list(images)
    with av.open(str(path), "w") as out:
        out.metadata.update(metadata or {})
        out.set_chapters(chapters or [])
        stream: Any = out.add_stream(codec, rate=rate, options=default | (options or {}))
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt, stream.time_base = form, base
        stream.codec_context.time_base = base
        if colors is not None:
            names = ("color_primaries", "color_trc", "colorspace", "color_range")
            for name, value in zip(names, colors, strict=True):
                setattr(stream, name, value)
        if turned is not None:
            stream.set_display_rotation(turned)
        tone: Any = None
        if sound is not None:
            tone = out.add_stream(sound, rate=16000)
            tone.layout = "mono"
        pts = 0
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=form)
            frame.pts, frame.time_base = pts, base
            out.mux(stream.encode(frame))
            pts += steps(number)
        out.mux(stream.encode(None))
        if tone is not None:
            wave = np.sin(np.arange(int(pts * base * 16000)) / 9) * 8000
            for start in range(0, len(wave), 1024):
                chunk = wave[None, start : start + 1024].astype(np.int16)
                piece = av.AudioFrame.from_ndarray(chunk, format="s16", layout="mono")
                piece.rate, piece.pts, piece.time_base = 16000, start, Fraction(1, 16000)
                out.mux(tone.encode(piece))
            out.mux(tone.encode(None))
    return path


def times(path: Path) -> list[Fraction]:
    """When each frame is shown."""
    with av.open(str(path)) as file:
        return [frame.pts * frame.time_base for frame in file.decode(video=0)]


def images(path: Path) -> list[Image]:
    """Each frame as it is stored, not turned."""
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def packets(path: Path, kind: str) -> list[tuple[Any, ...]]:
    """Times, duration and bytes of each packet of the streams of a kind."""
    with av.open(str(path)) as file:
        streams = [stream for stream in file.streams if stream.type == kind]
        return [
            (p.pts * p.time_base, p.dts * p.time_base, p.duration * p.time_base, bytes(p))
            for p in (file.demux(streams) if streams else ())
            if p.size
        ]


@contextmanager
def served(answers: list[tuple[bytes, bool]]) -> Iterator[tuple[str, list[str]]]:
    """An address that gives one answer after the other (bytes, whether it tells how many)."""
    left, seen = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            if not left:
                self.send_error(503)
                return
            content, sized = left.pop(0)
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            if sized:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as address:
        yield f"{address}/live", seen


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server of HTTP in a thread."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}"
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
