"""Fitting, padding, planes, and the way back to the original's pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facefind import images
from facefind.errors import ImageError
from facefind.images import letterboxing

RNG = np.random.default_rng(3)
sizes = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


def noise(height, width):
    return RNG.integers(0, 256, (height, width, 3), np.uint8)


@given(size=sizes, target=st.integers(1, 2000))
def test_fit_long_side(size, target):
    height, width = images.fit(size, target)
    assert max(height, width) == target
    assert abs(height - size[0] * target / max(size)) <= 1
    assert abs(width - size[1] * target / max(size)) <= 1
    assert min(height, width) >= 1


@given(size=sizes, target=sizes)
def test_fit_inside_a_size(size, target):
    height, width = images.fit(size, target)
    assert 1 <= height <= target[0]
    assert 1 <= width <= target[1]
    assert height == target[0] or width == target[1]


def test_fit_cases():
    assert images.fit((480, 640)) == (480, 640)
    assert images.fit((480, 640), 320) == (240, 320)
    assert images.fit((3000, 2000), (480, 640)) == (480, 320)
    assert images.fit((1, 5000), 100) == (1, 100)
    for bad in (0, (0, 5), (1, 2, 3)):
        with pytest.raises(ImageError, match="target"):
            images.fit((480, 640), bad)
    with pytest.raises(ImageError, match="no pixels"):
        images.fit((0, 640), 100)


def test_letterbox_puts_the_image_at_the_top_left():
    image = noise(50, 70)
    canvas, place = images.letterbox(image, fill=9)
    assert canvas.shape == (64, 96, 3)
    np.testing.assert_array_equal(canvas[:50, :70], image)
    assert (canvas[50:] == 9).all()
    assert (canvas[:, 70:] == 9).all()
    assert place == images.Placement(1, 1, (50, 70), (64, 96))


def test_letterbox_does_not_copy_what_fits():
    image = noise(64, 96)
    canvas, place = images.letterbox(image)
    assert canvas is image
    assert place.canvas == (64, 96)


def test_letterbox_on_a_given_canvas_and_too_small_a_one():
    canvas, place = images.letterbox(noise(50, 70), (100, 140), (128, 160), fill=0)
    assert canvas.shape == (128, 160, 3)
    assert (place.scale_x, place.scale_y) == (2, 2)
    with pytest.raises(ImageError, match=r"\(100, 140\) does not fit on \(96, 160\)"):
        images.letterbox(noise(50, 70), (100, 140), (96, 160))
    with pytest.raises(ImageError, match="multiple"):
        images.letterbox(noise(5, 5), multiple=0)


@given(size=sizes, target=st.integers(1, 2000), data=st.data())
def test_placement_inverts_the_scale(size, target, data):
    height, width = images.fit(size, target)
    place = images.Placement(width / size[1], height / size[0], size, (height, width))
    corners = place.boxes(np.array([[0, 0, width, height]], np.float32))
    np.testing.assert_allclose(corners, [[0, 0, size[1], size[0]]], rtol=1e-5)
    assert corners.dtype == np.float32
    points = place.points(np.array([[[width / 2, height / 4]]]))
    np.testing.assert_allclose(points, [[[size[1] / 2, size[0] / 4]]])


def test_placement_of_a_tile_is_shifted():
    place = images.Placement(2, 4, (500, 500), (64, 64), offset_x=100, offset_y=200)
    assert place.boxes([[0, 0, 20, 40]]).tolist() == [[100, 200, 110, 210]]
    assert place.points([[2, 4]]).tolist() == [[101, 201]]
    assert place.boxes(np.empty((0, 4), np.float32)).shape == (0, 4)
    with pytest.raises(ValueError, match=r"\(\.\.\., 4\)"):
        place.boxes([[1, 2]])


def test_a_mark_is_found_back_through_a_letterbox():
    image = np.zeros((300, 411, 3), np.uint8)
    image[120:150, 240:300] = 255
    for target in (200, 411, 640):
        canvas, place = images.letterbox(image, images.fit((300, 411), target), fill=0)
        rows, columns = np.nonzero(canvas[..., 0] > 127)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        found = place.boxes(np.array(box, np.float32))
        np.testing.assert_allclose(found, [240, 120, 300, 150], atol=0.6 * 411 / target + 0.1)


def test_pyramid_has_one_canvas_for_each_size():
    image = noise(90, 120)
    levels = images.pyramid(image, [60, None, (480, 640)], multiple=16)
    assert [c.shape[:2] for c, _ in levels] == [(48, 64), (96, 128), (480, 640)]
    assert [p.scale_x for _, p in levels] == [0.5, 1, 640 / 120]
    assert all(p.image_size == (90, 120) for _, p in levels)


@pytest.mark.parametrize("with_opencv", [True, False])
def test_planes(with_opencv, monkeypatch):
    if not with_opencv:
        monkeypatch.setattr(letterboxing, "opencv", lambda: None)
    canvases = [noise(32, 64) for _ in range(3)]
    for given_as in (canvases, np.stack(canvases), [c[:, ::-1][:, ::-1] for c in canvases]):
        planes = images.to_nchw(given_as)
        assert planes.flags.c_contiguous
        np.testing.assert_array_equal(planes, np.stack(canvases).transpose(0, 3, 1, 2))


def test_planes_of_nothing_or_of_two_sizes():
    with pytest.raises(ImageError, match="at least one"):
        images.to_nchw([])
    with pytest.raises(ImageError, match=r"\(32, 64, 3\)"):
        images.to_nchw([noise(32, 64), noise(64, 32)])
