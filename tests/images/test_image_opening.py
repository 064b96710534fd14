"""Files that viewers open and readers stumble over: metadata, missing ends, HEIC, PostScript."""

from __future__ import annotations

import io
import os
import struct
import sys
import types
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile
from reference import malformed

from facefind import images
from facefind.errors import ImageError

PICTURE = malformed.picture(np.random.default_rng(8))


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunks(*extra, at_end=False):
    """PICTURE as a PNG, with chunks before its pixels or behind them."""
    data = malformed.encode(PICTURE, "png")
    place = len(data) - 12 if at_end else 33
    return data[:place] + b"".join(extra) + data[place:]


PROFILE = chunk(b"iCCP", b"p\0\0" + zlib.compress(os.urandom(1_500_000)))
TEXT = chunk(b"zTXt", b"k\0\0" + zlib.compress(os.urandom(1_100_000).hex().encode()))
LONG = chunk(b"tEXt", b"k\0" + b"a" * 2_000_000)


@pytest.mark.parametrize("at_end", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize(
    "extra", [PROFILE, TEXT, LONG, TEXT * 3], ids=["iCCP", "zTXt", "tEXt", "3"]
)
def test_large_profiles_and_texts_are_passed_over(tmp_path, extra, at_end):
    data = with_chunks(extra, at_end=at_end)
    np.testing.assert_array_equal(images.read(data), np.asarray(PICTURE))
    path = tmp_path / "a.png"
    path.write_bytes(data)
    assert images.read_size(path) == (PICTURE.height, PICTURE.width)


def test_a_picture_with_a_large_text_is_turned_upright_all_the_same(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = malformed.encode(PICTURE, "png", exif=exif)
    path = tmp_path / "a.png"
    path.write_bytes(data[:33] + TEXT + data[33:])
    np.testing.assert_array_equal(images.read(path), np.rot90(np.asarray(PICTURE), -1))
    assert images.read_size(path) == (PICTURE.width, PICTURE.height)


def test_damage_beside_a_large_text_is_still_damage():
    with pytest.raises(ImageError, match="damaged or truncated"):
        images.read(with_chunks(TEXT)[:-2000])


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("cut", [1, 2, 40, 333])
def test_a_jpeg_without_its_end_is_refused_or_filled(progressive, cut):
    whole = malformed.encode(PICTURE, "jpg", progressive=progressive)
    data = whole[:-cut]
    with pytest.raises(ImageError, match="truncated='fill'"):
        images.read(data)
    filled, good = images.read(data, truncated="fill"), images.read(whole)
    assert filled.shape == good.shape
    if cut <= 2:
        np.testing.assert_array_equal(filled, good)
    elif not progressive:
        np.testing.assert_array_equal(filled[:8, :16], good[:8, :16])
        assert not np.array_equal(filled, good)
    reduced, factor = images.read_reduced(data, 2, truncated="fill")
    assert (factor, reduced.shape) == (2, (-(-PICTURE.height // 2), -(-PICTURE.width // 2), 3))


def test_filling_helps_neither_other_formats_nor_mere_headers():
    jpeg = malformed.encode(PICTURE, "jpg")
    cut = [malformed.encode(PICTURE, "png")[:-900], jpeg[:300], jpeg[: jpeg.index(b"\xff\xda")]]
    for data in cut:
        with pytest.raises(ImageError):
            images.read(data, truncated="fill")


def test_every_missing_end_is_filled_or_refused():
    for name, data, _ in malformed.truncated():
        try:
            image = images.read(data, truncated="fill")
        except ImageError:
            continue
        assert image.shape == (PICTURE.height, PICTURE.width, 3), name


def test_sizes_have_the_limit_of_pixels(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(malformed.png(20000, 20000, b""))
    with pytest.raises(ImageError, match="max_pixels"):
        images.read_size(path)
    assert images.read_size(path, max_pixels=400_000_000) == (20000, 20000)


@pytest.mark.parametrize("name", ["a.jpg", "a.eps", "a.png"])
def test_postscript_is_refused_whatever_its_name(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    for read in (images.read, images.read_size):
        with pytest.raises(ImageError, match="no picture of a known format"):
            read(path)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def test_heic_without_its_library_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "a.jpg"
    path.write_bytes(HEIC)
    for read in (images.read, images.read_size):
        with pytest.raises(ImageError, match="pip install pillow-heif"):
            read(path)


def test_heic_is_read_by_its_library_within_the_limits(monkeypatch):
    class Opener(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self):
            self._size, self._mode = (4, 3), "RGB"

        def load(self):
            self.im = Image.new("RGB", self.size, "red").im

    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(HeifImageFile=Opener))
    assert images.read(HEIC).tolist() == [[[255, 0, 0]] * 4] * 3
    with pytest.raises(ImageError, match="max_pixels=11"):
        images.read(HEIC, max_pixels=11)


def test_heic_of_the_real_library():
    library = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    smooth = Image.linear_gradient("L").resize((96, 80)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    plain, turned = io.BytesIO(), io.BytesIO()
    library.from_pillow(smooth).save(plain)
    library.from_pillow(smooth).save(turned, exif=exif.tobytes())
    assert np.abs(images.read(plain.getvalue()).astype(int) - np.asarray(smooth)).mean() < 2
    upright = np.rot90(np.asarray(smooth), -1)
    assert np.abs(images.read(turned.getvalue()).astype(int) - upright).mean() < 2
    with pytest.raises(ImageError, match="damaged"):
        images.read(plain.getvalue()[:-50])


def test_the_stored_size_is_known_before_anything_is_decoded(tmp_path, monkeypatch):
    huge = tmp_path / "huge.png"
    huge.write_bytes(malformed.png(60_000, 50_000, b""))
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(turned, "JPEG", exif=exif)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    assert images.stored_size(huge) == images.stored_size(huge.read_bytes()) == (50_000, 60_000)
    assert images.stored_size(turned.getvalue()) == (20, 30)
    with pytest.raises(ImageError, match="no picture of a known format"):
        images.stored_size(b"text")
