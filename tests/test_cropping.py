"""Faces cut out of their image: boxes, squares that are really square, aligned faces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import facefind
from facefind.cropping import CropOptions
from facefind.errors import DataError
from facefind.faces import Faces
from facefind.landmarks import TEMPLATE_112


def test_crop():
    image = np.arange(10 * 20 * 3, dtype=np.uint8).reshape(10, 20, 3)
    boxes = [[2, 3, 6, 5], [-5, -5, 4, 4], [2.4, 3.6, 5.2, 5.0], [50, 50, 60, 60], [6, 6, 2, 2]]
    faces = Faces(boxes, [0.9, 0.8, 0.7, 0.6, 0.5], image_size=(10, 20))
    crops = faces.crop(image)
    np.testing.assert_array_equal(crops[0], image[3:5, 2:6])
    np.testing.assert_array_equal(crops[1], image[:4, :4])
    np.testing.assert_array_equal(crops[2], image[3:5, 2:6])
    assert crops[3].size == 0
    assert crops[4].size == 0
    np.testing.assert_array_equal(faces[:1].crop(image, margin=0.5)[0], image[2:6, 0:8])
    gray = facefind.crop(image[..., 0], faces[:1])[0]  # read as RGB, as everywhere
    np.testing.assert_array_equal(gray, np.repeat(image[3:5, 2:6, :1], 3, axis=2))
    np.testing.assert_array_equal(faces[1].crop(image), crops[1])
    crops[0][:] = 0
    assert image[3, 2].any()  # a copy
    with pytest.raises(ValueError, match="upright image"):
        faces.crop(image.transpose(1, 0, 2))


def test_align():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (112, 112, 3), np.uint8)
    faces = Faces(np.zeros((1, 4)), [1], [TEMPLATE_112], image_size=(112, 112))
    np.testing.assert_array_equal(facefind.align(image, faces), image[None])
    np.testing.assert_array_equal(faces[0].align(image), image)
    assert faces.align(image, size=128).shape == (1, 128, 128, 3)
    with pytest.raises(ValueError, match="no landmarks"):
        Faces(np.zeros((1, 4)), [1], image_size=(112, 112)).align(image)
    with pytest.raises(ValueError, match="upright image"):
        faces.align(image[:50])


def test_squares_are_padded_where_they_reach_beyond_the_image():
    image = np.random.default_rng(0).integers(1, 256, (10, 20, 3), np.uint8)
    faces = Faces([[0, 2, 4, 10], [8, 2, 12, 6]], [0.9, 0.8], image_size=(10, 20))
    edge, inner = facefind.crop(image, faces, square=True, fill=(1, 2, 3))
    assert edge.shape == (8, 8, 3)
    np.testing.assert_array_equal(edge[:, 2:], image[2:10, 0:6])
    assert (edge[:, :2] == (1, 2, 3)).all()
    np.testing.assert_array_equal(inner, image[2:6, 8:12])
    wide = faces[1].crop(image, margin=0.5, square=True)
    np.testing.assert_array_equal(wide, image[0:8, 6:14])
    assert [c.shape for c in faces.crop(image, square=True, size=5)] == [(5, 5, 3)] * 2
    np.testing.assert_array_equal(faces[1].crop(image, square=True, size=4), inner)


@given(
    box=st.tuples(*[st.sampled_from([-1e30, -500, -3.5, 0, 7.25, 30, 79.9, 200, 1e30])] * 4),
    margin=st.sampled_from([0.0, 0.3, 2.0]),
    size=st.none() | st.integers(1, 40),
)
def test_any_box_gives_a_square(box, margin, size):
    image = np.full((30, 40, 3), 200, np.uint8)
    (crop,) = Faces([box], [1], image_size=(30, 40)).crop(image, margin, square=True, size=size)
    assert crop.shape[0] == crop.shape[1] >= 1
    assert crop.shape[2] == 3
    if size is not None:
        assert crop.shape[0] == size


def test_a_face_outside_the_image_is_all_padding():
    image = np.full((30, 40, 3), 200, np.uint8)
    faces = Faces([[50, 0, 60, 8]], [1], image_size=(30, 40))
    (crop,) = faces.crop(image, square=True, fill=(7, 7, 7))
    assert crop.shape == (10, 10, 3)
    assert (crop == 7).all()


def test_a_size_is_that_of_a_square():
    faces = Faces([[0, 2, 4, 10]], [0.9], image_size=(10, 20))
    image = np.zeros((10, 20, 3), np.uint8)
    with pytest.raises(ValueError, match="pass square=True"):
        faces.crop(image, size=5)
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        faces.crop(image, square=True, size=0)
    with pytest.raises(TypeError, match=r"size must be a whole number, got \(9, 9\)"):
        faces.crop(image, square=True, size=(9, 9))
    with pytest.raises(ValueError, match=r"margin must be above -0\.5, .* got -0\.5"):
        faces.crop(image, margin=-0.5)


def test_crops_of_any_image_that_detect_takes(tmp_path):
    from PIL import Image

    image = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    path = tmp_path / "face.png"
    Image.fromarray(image).save(path)
    faces = Faces([[5, 6, 50, 60]], [1], [TEMPLATE_112], image_size=(112, 112))
    for source in (path, str(path), path.read_bytes(), Image.fromarray(image)):
        np.testing.assert_array_equal(facefind.crop(source, faces)[0], image[6:60, 5:50])
        np.testing.assert_array_equal(facefind.align(source, faces)[0], image)


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"size": 4097}, {"min_size": float("nan")}, {"quality": 101}]
)
def test_options_of_crops_are_checked(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(DataError, match=f"{name} {value}: expected"):
        CropOptions(**wrong)
