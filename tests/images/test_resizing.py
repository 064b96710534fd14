"""Resizing is exact bilinear, with OpenCV and without it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference import bilinear, malformed

from facefind import images
from facefind.errors import ImageError
from facefind.images import resizing

HAVE_CV2 = resizing.opencv() is not None
sides = st.integers(1, 40)


def without_opencv(image, size, extent=None):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resizing, "opencv", lambda: None)
        return images.resize(image, size, extent)


BACKENDS = [pytest.param(without_opencv, id="pillow")]
BACKENDS += [pytest.param(images.resize, id="opencv")] if HAVE_CV2 else []


@pytest.mark.parametrize("resize", BACKENDS)
@given(data=st.data(), height=sides, width=sides)
@settings(max_examples=60, deadline=None)
def test_equals_the_oracle(resize, data, height, width):
    shape = data.draw(st.tuples(sides, sides, st.just(3)))
    image = data.draw(arrays(np.uint8, shape, elements=st.integers(0, 255)))
    got = resize(image, (height, width))
    assert got.shape == (height, width, 3)
    assert got.dtype == np.uint8
    assert got.flags.c_contiguous
    # Pillow rounds down, and its block means are up to 0.7 off.
    assert np.abs(got - bilinear.resize(image, height, width)).max() < 2


@pytest.mark.parametrize("resize", BACKENDS)
@given(data=st.data(), height=sides, width=sides)
@settings(max_examples=60, deadline=None)
def test_a_part_from_the_top_left_equals_the_oracle(resize, data, height, width):
    shape = data.draw(st.tuples(sides, sides, st.just(3)))
    image = data.draw(arrays(np.uint8, shape, elements=st.integers(0, 255)))
    rest = data.draw(st.tuples(*(st.integers(0, 7) for _ in range(2))))
    extent = shape[0] - rest[0] / 8, shape[1] - rest[1] / 8
    got = resize(image, (height, width), extent)
    assert got.shape == (height, width, 3)
    assert np.abs(got - bilinear.resize(image, height, width, extent)).max() < 2


@pytest.mark.skipif(not HAVE_CV2, reason="OpenCV is not installed")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((480, 640), (360, 480)),
        ((480, 640), (700, 933)),
        ((720, 1280), (360, 640)),
        ((721, 1281), (360, 640)),
        ((1000, 1500), (213, 320)),
        ((100, 100), (33, 33)),  # block means have the wanted size already, but not the scale
        ((301, 301), (100, 100)),
        ((37, 900), (300, 100)),
    ],
)
def test_opencv_and_pillow_agree_on_noise(before, after):
    image = np.random.default_rng(0).integers(0, 256, (*before, 3), np.uint8)
    a, b = images.resize(image, after), without_opencv(image, after)
    assert np.abs(a.astype(int) - b).max() <= 2


@pytest.mark.parametrize("resize", BACKENDS)
def test_an_edge_stays_where_the_scale_puts_it(resize):
    for before, after in ((1000, 331), (1281, 640), (300, 301), (97, 640)):
        image = np.zeros((8, before, 3), np.uint8)
        edge = before * 3 // 4
        image[:, edge:] = 255
        row = resize(image, (8, after))[4, :, 0] / 255
        found = after - row.sum()  # where black ends
        assert abs(found - edge * after / before) < 0.51


def test_same_size_is_the_image_itself_and_plain_color_stays():
    image = np.asarray(malformed.picture(np.random.default_rng(1)))
    assert images.resize(image, image.shape[:2]) is image
    flat = np.full((50, 60, 3), (1, 128, 254), np.uint8)
    for resize in (images.resize, without_opencv):
        assert (resize(flat, (13, 171)) == flat[0, 0]).all()


@pytest.mark.parametrize(
    ("image", "size"),
    [
        (np.zeros((4, 4), np.uint8), (2, 2)),
        (np.zeros((4, 4, 3), np.float32), (2, 2)),
        (np.zeros((0, 4, 3), np.uint8), (2, 2)),
        (np.zeros((4, 4, 3), np.uint8), (0, 2)),
    ],
)
def test_bad_input_says_so(image, size):
    with pytest.raises(ImageError, match="must be"):
        images.resize(image, size)


@pytest.mark.parametrize("extent", [(4.1, 4), (4, 5), (0, 4), (4, -1), (float("nan"), 4)])
def test_an_extent_that_is_not_within_the_image_says_so(extent):
    with pytest.raises(ImageError, match="within"):
        images.resize(np.zeros((4, 4, 3), np.uint8), (2, 2), extent)
