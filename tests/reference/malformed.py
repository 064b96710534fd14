"""Damaged, odd and lying picture files, the same ones for the same seed; a folder full of them."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from itertools import chain, count, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from facefind.images.listing import SUFFIXES

FORMATS = {
    "jpg": ("JPEG", {"quality": 85}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {"quality": 80}),
    "bmp": ("BMP", {}),
    "tif": ("TIFF", {"compression": "tiff_lzw"}),
    "gif": ("GIF", {}),
}

NAMES = [
    b"plain", b"caf\xe9", b"\xff\xfe", "snow ☃".encode(), "right \u202e left".encode(), b"a b ",
    b"two\nlines", b"tab\t", b"\x1b[31mred", b"-dash", b"'quote\"", b"[a]*?", b"back\\slash",
    b"%s%d{}", b"~", b"$HOME", b"x" * 240,
]  # fmt: skip
"""File names, without suffix, that have broken programs."""


def picture(rng: np.random.Generator, height: int = 37, width: int = 53) -> Image.Image:
    """Smooth colors with some noise, so that every format compresses it like a photo."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / rng.uniform(3, 9) + i) + np.cos(y / rng.uniform(3, 9)) for i in range(3)]
    rgb = np.stack(waves, -1) * 55 + 128 + rng.normal(0, 4, (height, width, 3))
    return Image.fromarray(rgb.clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, suffix: str, **options) -> bytes:
    file = io.BytesIO()
    name, defaults = FORMATS[suffix]
    image.save(file, name, **{**defaults, **options})
    return file.getvalue()


def truncated(seed: int = 0, per_format: int = 16) -> Iterator[tuple[str, bytes, bytes]]:
    """Name, the first part of a good file, and the good file."""
    rng = np.random.default_rng(seed)
    for suffix in FORMATS:
        good = encode(picture(rng), suffix)
        for cut in np.unique(rng.integers(0, len(good), per_format)):
            yield f"cut-{cut}.{suffix}", good[:cut], good
    progressive = encode(picture(rng), "jpg", progressive=True)
    for cut in np.unique(rng.integers(0, len(progressive), per_format)):
        yield f"cut-progressive-{cut}.jpg", progressive[:cut], progressive


def flipped(seed: int = 0, per_format: int = 24) -> Iterator[tuple[str, bytes]]:
    """Good files with some bits turned, half of them in the header."""
    rng = np.random.default_rng(seed + 1)
    for suffix in FORMATS:
        good = encode(picture(rng), suffix)
        for i in range(per_format):
            data = bytearray(good)
            end = min(80, len(data)) if i % 2 else len(data)
            for place in rng.integers(0, end, rng.integers(1, 9)):
                data[place] ^= 1 << int(rng.integers(8))
            yield f"flip-{i}.{suffix}", bytes(data)


def lying(seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Wrong names, empty files, text, impossible sizes, foreign heads on good bodies."""
    rng = np.random.default_rng(seed + 2)
    good = {suffix: encode(picture(rng), suffix) for suffix in FORMATS}
    for a in FORMATS:
        for b in FORMATS:
            if a != b:
                yield f"really-{a}.{b}", good[a]
                yield f"head-{a}-body-{b}.{a}", good[a][:24] + good[b][24:]
        yield f"empty.{a}", b""
        yield f"zeros.{a}", bytes(500)
        yield f"noise.{a}", rng.bytes(500)
        yield f"magic-only.{a}", good[a][:12]
        yield f"magic-noise.{a}", good[a][:20] + rng.bytes(400)
        yield f"with-tail.{a}", good[a] + rng.bytes(300)
        yield f"twice.{a}", good[a] + good[a]
    yield "text.jpg", b"This is not a picture.\n" * 20
    yield "page.png", b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    yield "vector.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    for width, height in ((0, 0), (0, 5), (5, 0), (2**31 - 1, 2**31 - 1), (60000, 60000)):
        yield f"size-{width}x{height}.png", png(width, height, b"")
        yield f"size-{width}x{height}.bmp", bmp(width, height)
    for depth in (1, 2, 3, 4, 7, 16, 255):
        for color in (0, 1, 2, 3, 4, 5, 6):
            yield f"depth-{depth}-{color}.png", png(4, 4, bytes(200), depth, color)


def odd(seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Good files of seldom kinds: modes, depths, palettes, alpha, compressions, animations."""
    rng = np.random.default_rng(seed + 3)
    base = picture(rng)
    alpha = base.convert("RGBA")
    alpha.putalpha(Image.fromarray(rng.integers(0, 256, (base.height, base.width), np.uint8)))
    deep = Image.fromarray(rng.integers(0, 65536, (base.height, base.width), np.uint16))
    for name, image, suffix, options in (
        ("bilevel", base.convert("1"), "png", {}),
        ("bilevel", base.convert("1"), "tif", {"compression": "group4"}),
        ("bilevel", base.convert("1"), "bmp", {}),
        ("gray", base.convert("L"), "jpg", {}),
        ("gray", base.convert("L"), "png", {}),
        ("gray-alpha", alpha.convert("LA"), "png", {}),
        ("palette", base.quantize(16), "png", {}),
        ("palette-clear", base.quantize(16), "png", {"transparency": 3}),
        ("palette-clear-bytes", base.quantize(16), "png", {"transparency": bytes(range(16))}),
        ("palette", base.quantize(200), "bmp", {}),
        ("palette-clear", base.quantize(16), "gif", {"transparency": 2}),
        ("rgb-clear", base, "png", {"transparency": (1, 2, 3)}),
        ("alpha", alpha, "png", {}),
        ("alpha", alpha, "webp", {"lossless": True}),
        ("alpha", alpha, "tif", {}),
        ("cmyk", base.convert("CMYK"), "jpg", {}),
        ("cmyk", base.convert("CMYK"), "tif", {}),
        ("ycbcr", base.convert("YCbCr"), "tif", {"compression": "raw"}),
        ("lab", base.convert("RGB").convert("L"), "tif", {"compression": "packbits"}),
        ("deep", deep, "png", {}),
        ("deep", deep, "tif", {"compression": "raw"}),
        ("deep-lzw", deep, "tif", {}),
        ("float", Image.fromarray(rng.random((9, 7), np.float32)), "tif", {"compression": "raw"}),
        ("float-far", Image.fromarray(rng.random((9, 7), np.float32) * 1e6), "tif", {}),
        ("float-nan", Image.fromarray(np.full((3, 3), np.nan, np.float32)), "tif", {}),
        ("whole", Image.fromarray(rng.integers(0, 9, (9, 7), np.int32)), "tif", {}),
        ("whole-far", Image.fromarray(np.full((3, 3), -7, np.int32)), "tif", {}),
        ("frames", base, "gif", {"save_all": True, "append_images": [alpha.convert("RGB")]}),
        ("frames", base, "png", {"save_all": True, "append_images": [alpha.convert("RGB")]}),
        ("frames", base, "webp", {"save_all": True, "append_images": [alpha.convert("RGB")]}),
        ("pages", base, "tif", {"save_all": True, "append_images": [alpha]}),
        ("one-pixel", base.crop((0, 0, 1, 1)), "jpg", {}),
        ("one-row", base.crop((0, 0, 50, 1)), "png", {}),
        ("bad-exif", base, "jpg", {"exif": b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff"}),
        ("bad-exif", base, "png", {"exif": b"MM\x00*\x00\x00\x00\x08\xff\xff"}),
        ("bad-exif", base, "webp", {"exif": b"II*\x00\xff\xff\xff\xff"}),
    ):
        yield f"odd-{name}.{suffix}", encode(image, suffix, **options)


def every(seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """All of the above, more than 400 files: (name, contents)."""
    for name, data, _ in truncated(seed):
        yield name, data
    yield from flipped(seed)
    yield from lying(seed)
    yield from odd(seed)


class Album(NamedTuple):
    """The names of images that show a face, and of all else that must be accounted for."""

    good: set[str]
    bad: set[str]


def album(folder: Path, face: Image.Image, bad: int, seed: int = 0) -> Album:
    """Write so many bad files into a new folder, good ones among them, links, loops and a pipe."""
    found = Album(set(), set())
    files = chain.from_iterable(every(seed * 1000 + more) for more in count())
    for number, (name, data) in enumerate(islice(files, bad)):
        place = folder / f"{number // 100}"
        place.mkdir(parents=True, exist_ok=True)
        strange = os.fsdecode(NAMES[number % len(NAMES)])
        stem = strange if number % 3 == 0 else Path(name).stem
        path = place / f"{stem}-{number}{Path(name).suffix}"
        path.write_bytes(data)
        if path.suffix in SUFFIXES:
            found.bad.add(f"{place.name}/{path.name}")
        if number % 10 == 0:
            path = place / f"{strange}+{number}.PNG"
            face.save(path, "PNG")
            found.good.add(f"{place.name}/{path.name}")
    (folder / "link.png").symlink_to(min(found.good))
    found.good.add("link.png")
    for name, to in {"gone.png": "nowhere", "itself.png": "itself.png"}.items():
        (folder / name).symlink_to(to)
        found.bad.add(name)
    (folder / "loop").symlink_to(".", target_is_directory=True)
    (folder / "again").symlink_to("0", target_is_directory=True)
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    return found


def png(width: int, height: int, pixels: bytes, depth: int = 8, color: int = 2) -> bytes:
    """A PNG whose header says what it is told to, and whose checksums are right."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def bmp(width: int, height: int) -> bytes:
    """A BMP of no pixels whose header says otherwise."""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info
