"""JPEGs decoded smaller show everything where the factor says it is."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from facefind import images
from facefind.errors import ImageError

BLOB = 14.0  # standard deviation in pixels


def blobs(height, width):
    """Bright round spots on black, (H,W,3), and their centers x, y."""
    # Near the far ends a scale that is a little off shows most.
    spots = [(0.2, 0.25), (0.5, 0.6), (1.0, 1.0), (1.0, 0.1), (0.1, 1.0)]
    margin = 4 * BLOB
    centers = np.array([width, height]) - margin * 2
    centers = np.array(spots) * centers + margin
    y, x = np.mgrid[:height, :width] + 0.5
    gray = np.zeros((height, width))
    for cx, cy in centers:
        gray += 255 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * BLOB**2))
    return np.repeat(gray.clip(0, 255).astype(np.uint8)[..., None], 3, -1), centers


def jpeg(image, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95, **options)
    return file.getvalue()


def found(image, factor, centers):
    """Centers of the spots in pixels of the original, by means weighted around `centers`."""
    y, x = (np.mgrid[: image.shape[0], : image.shape[1]] + 0.5) * factor
    gray = image[..., 1].astype(float)
    where = []
    for cx, cy in centers:
        # The mean of spot times weights lies halfway from their center to the spot's.
        near = gray * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * BLOB**2))
        mean = np.array([(near * x).sum(), (near * y).sum()]) / near.sum()
        where.append((cx, cy) + 2 * (mean - (cx, cy)))
    return np.array(where)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("factor", [2, 4, 8])
@given(
    height=st.integers(200, 300).map(lambda n: 2 * n + 1),
    width=st.integers(200, 300).map(lambda n: 2 * n + 1),
)
@settings(max_examples=8, deadline=None)
def test_everything_is_where_the_whole_image_has_it(factor, subsampling, height, width):
    image, centers = blobs(height, width)
    data = jpeg(image, subsampling=subsampling)
    reduced, got = images.read_reduced(data, factor)
    assert got == factor
    assert reduced.shape == (-(-height // factor), -(-width // factor), 3)
    shift = found(reduced, factor, centers) - found(images.read(data), 1, centers)
    assert np.abs(shift.mean(0)).max() < 0.05
    assert np.abs(shift).max() < 0.1


def test_the_sizes_whose_quotients_are_furthest_from_the_factor():
    image, centers = blobs(1024, 683)
    reduced, factor = images.read_reduced(jpeg(image), 2)
    assert np.abs(found(reduced, factor, centers) - centers).max() < 0.1
    by_quotients = found(reduced, 683 / reduced.shape[1], centers)
    assert np.abs(by_quotients - centers).max() > 0.5  # what this must never become again


@pytest.mark.parametrize(
    ("shrink", "factor"), [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (7, 4), (8, 8), (99, 8)]
)
def test_the_factor_is_the_largest_that_will_do(shrink, factor):
    image, _ = blobs(300, 301)
    assert images.read_reduced(jpeg(image), shrink)[1] == factor


def test_a_small_image_keeps_a_pixel_a_side():
    reduced, factor = images.read_reduced(jpeg(np.zeros((5, 400, 3), np.uint8)), 8)
    assert factor == 4
    assert reduced.shape == (2, 100, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("height", "width"), [(480, 640), (477, 635)])
def test_turned_pictures(orientation, height, width):
    image, _ = blobs(height, width)
    block = Image.Exif()
    block[0x0112] = orientation
    data = jpeg(image, exif=block)
    whole = images.read(data)
    reduced, factor = images.read_reduced(data, 8)
    # A last column that is not whole must not come to the front, where it would shift all others.
    assert factor == (8 if (height, width) == (480, 640) or orientation == 1 else 1)
    small = images.resize(reduced, (60, 60), (whole.shape[0] / factor, whole.shape[1] / factor))
    assert np.abs(small.astype(int) - images.resize(whole, (60, 60))).mean() < 1.5


def test_what_is_no_jpeg_file_comes_whole(tmp_path):
    image, _ = blobs(200, 201)
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    for source in (path, image, Image.open(path)):
        got, factor = images.read_reduced(source, 8)
        assert factor == 1
        np.testing.assert_array_equal(got, image)


def test_names_are_not_trusted_and_gray_and_cmyk_become_rgb(tmp_path):
    image, _ = blobs(201, 203)
    for mode in ("L", "CMYK"):
        path = tmp_path / f"{mode}.png"
        Image.fromarray(image).convert(mode).save(path, "JPEG", quality=95)
        got, factor = images.read_reduced(path, 4)
        assert factor == 4
        assert got.shape == (51, 51, 3)
        whole = images.resize(images.read(path), (51, 51), (201, 203))
        assert np.abs(got.astype(int) - whole).mean() < 4


def test_limits_and_damage_are_those_of_the_whole():
    data = jpeg(blobs(400, 400)[0])
    with pytest.raises(ImageError, match="max_pixels"):
        images.read_reduced(data, 8, max_pixels=400 * 400 - 1)
    with pytest.raises(ImageError, match="truncated"):
        images.read_reduced(data[: len(data) // 2], 8)
