"""TIFFs of every depth and polarity have the brightness that their files say."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from facefind import images
from facefind.errors import ImageError


def tiff(values, bits, photometric=1, order="<", **tags):
    """An uncompressed TIFF of samples (H,W,C), packed without gaps in rows."""
    height, width, samples = values.shape
    if bits == 16:
        data = values.astype(f"{order}u2").tobytes()
    else:
        places = np.arange(bits - 1, -1, -1)
        rows = ((values.reshape(height, -1, 1) >> places) & 1).reshape(height, -1)
        data = np.packbits(rows.astype(np.uint8), axis=1).tobytes()
    known = {256: [width], 257: [height], 258: [bits] * samples, 259: [1], 262: [photometric]}
    known |= {277: [samples], 278: [height], 273: [0], 279: [len(data)]}
    known |= {int(name[1:]): [value] for name, value in tags.items()}
    pool = 8 + 2 + 12 * len(known) + 4
    known[273] = [pool + 6]
    rows = b""
    for tag, numbers in sorted(known.items()):
        field = b"".join(struct.pack(f"{order}I", number) for number in numbers[:1])
        kind = 4
        if tag == 258:
            kind, field = 3, struct.pack(f"{order}HH", bits, 0)
            if samples > 1:
                field = struct.pack(f"{order}I", pool)
        rows += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + field
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    bits_of_each = struct.pack(f"{order}3H", *[bits] * 3)
    return head + struct.pack(f"{order}H", len(known)) + rows + bytes(4) + bits_of_each + data


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("photometric", [0, 1], ids=["white-is-0", "black-is-0"])
def test_gray_of_any_depth_and_polarity(bits, photometric, order):
    most = (1 << bits) - 1
    values = np.linspace(0, most, 21).round().astype(np.int64).reshape(3, 7, 1)
    want = values[..., 0] * 255 / most
    want = want if photometric else 255 - want
    got = images.read(tiff(values, bits, photometric, order))
    assert got.shape == (3, 7, 3)
    assert np.abs(got - want[..., None]).max() <= 1


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_color_of_any_depth(bits):
    values = np.random.default_rng(bits).integers(0, 1 << bits, (4, 5, 3))
    got = images.read(tiff(values, bits, photometric=2))
    assert np.abs(got - values * (255 / ((1 << bits) - 1))).max() <= 1


def test_deep_pictures_are_turned_upright(tmp_path):
    values = np.arange(6).reshape(2, 3, 1) * 180
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(values, 10, t274=6))
    assert images.read_size(path) == (3, 2)
    want = np.rot90(values[..., 0] * (255 / 1023), -1)
    assert np.abs(images.read(path)[..., 0] - want).max() <= 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tiff(np.zeros((4, 4, 1), int), 14)[:-3], "truncated"),
        (tiff(np.zeros((4, 4, 1), int), 14, t259=5), "a kind that is not read.*compression 5"),
        (tiff(np.zeros((4, 4, 1), int), 14, t256=60000, t257=60000), "max_pixels"),
        (tiff(np.zeros((4, 4, 1), int), 11)[:30], "damaged header"),
    ],
    ids=["truncated", "compressed", "large", "cut-header"],
)
def test_deep_files_that_are_damaged_large_or_packed_otherwise_say_so(data, message):
    with pytest.raises(ImageError, match=message):
        images.read(data)


def test_dark_pgm_of_16_bits_stays_dark():
    data = b"P5 2 1 65535\n" + struct.pack(">2H", 0, 200)
    assert images.read(data).max() == 1
    ten = b"P5 2 1 1023\n" + struct.pack(">2H", 0, 1023)
    assert images.read(ten)[0, :, 0].tolist() == [0, 255]
