"""Alignment puts the five points where recognition models expect them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facefind import landmarks as lm

angles = st.floats(-np.pi, np.pi)


def moved(points, angle, scale, shift):
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return points @ np.array([[c, -s], [s, c]]).T + shift


@given(angle=angles, scale=st.floats(0.05, 20), dx=st.floats(-500, 500), dy=st.floats(-500, 500))
def test_similarity_finds_the_map_that_was_applied(angle, scale, dx, dy):
    points = lm.TEMPLATE_112.astype(float)
    matrix = lm.similarity(points, moved(points, angle, scale, (dx, dy)))
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    np.testing.assert_allclose(matrix, [[c, -s, dx], [s, c, dy]], atol=1e-6)


@given(seed=st.integers(0, 10**6))
def test_similarity_equals_that_of_scikit_image(seed):
    transform = pytest.importorskip("skimage.transform")
    rng = np.random.default_rng(seed)
    points = lm.TEMPLATE_112.astype(float)
    target = moved(points, rng.uniform(-3, 3), rng.uniform(0.2, 5), rng.uniform(-99, 99, 2))
    target = target + rng.normal(0, 2, (5, 2))
    estimate = transform.SimilarityTransform.from_estimate(points, target)
    np.testing.assert_allclose(lm.similarity(points, target), estimate.params[:2], atol=1e-8)


def test_similarity_never_mirrors():
    mirrored = lm.TEMPLATE_112 * [-1, 1]
    matrix = lm.similarity(lm.TEMPLATE_112, mirrored)
    assert np.linalg.det(matrix[:, :2]) >= 0


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.ones((5, 2)), "coincide"),
        (np.full((5, 2), np.nan), "finite"),
        (np.ones((4, 2)), r"\(4, 2\)"),
        (np.ones((5, 3)), r"\(5, 3\)"),
    ],
)
def test_points_that_fix_nothing(points, message):
    with pytest.raises(ValueError, match=message):
        lm.similarity(points, lm.TEMPLATE_112)


def test_templates_of_other_sizes():
    np.testing.assert_allclose(lm.template(224), lm.TEMPLATE_112 * 2)
    np.testing.assert_allclose(lm.template(128), lm.TEMPLATE_112 + np.array([8, 0]), rtol=1e-6)
    np.testing.assert_allclose(lm.template(256), lm.TEMPLATE_112 * 2 + np.array([16, 0]), rtol=1e-6)
    np.testing.assert_allclose(lm.template(56), lm.TEMPLATE_112 / 2)
    with pytest.raises(ValueError, match="at least 1"):
        lm.template(0)
    assert not lm.TEMPLATE_112.flags.writeable


def test_flip_order_is_its_own_inverse_and_swaps_left_with_right():
    names = np.array(lm.NAMES)
    flipped = names[list(lm.FLIP_ORDER)]
    assert flipped[list(lm.FLIP_ORDER)].tolist() == list(lm.NAMES)
    swapped = [n.replace("left", "?").replace("right", "left").replace("?", "right") for n in names]
    assert flipped.tolist() == swapped
    # The template mirrored lies near itself only in this order.
    mirrored = (lm.TEMPLATE_112 * [-1, 1] + [112, 0])[list(lm.FLIP_ORDER)]
    assert np.abs(mirrored - lm.TEMPLATE_112).max() < 1


def test_align_of_a_face_in_place_is_the_image():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (112, 112, 3), np.uint8)
    np.testing.assert_array_equal(lm.align(image, lm.TEMPLATE_112), image)


@given(angle=angles, scale=st.floats(0.4, 3))
def test_align_brings_points_to_the_template(angle, scale):
    points = moved(lm.TEMPLATE_112 - 56.0, angle, scale, (200, 190))
    y, x = np.mgrid[:400, :400]
    image = np.zeros((400, 400, 3))
    for i, (px, py) in enumerate(points[[0, 1, 4]]):
        image[..., i] = 255 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * (3 * scale) ** 2))
    crop = lm.align(image.round().astype(np.uint8), points, 112).astype(float)
    assert crop.shape == (112, 112, 3)
    grid = np.arange(112)
    for i, want in enumerate(lm.TEMPLATE_112[[0, 1, 4]]):
        weight = np.where(crop[..., i] > 60, crop[..., i], 0)
        found = (weight.sum(0) @ grid, weight.sum(1) @ grid) / weight.sum()
        np.testing.assert_allclose(found, want, atol=0.35)


def test_align_equals_the_warp_of_opencv():
    cv2 = pytest.importorskip("cv2")
    image = cv2.GaussianBlur(
        np.random.default_rng(2).integers(0, 256, (300, 300, 3), np.uint8), None, 3
    )
    rng = np.random.default_rng(3)
    points = moved(lm.TEMPLATE_112, 0.4, 1.3, (60, 20)) + rng.normal(0, 5, (5, 2))
    limit = 2 if cv2.__version__ >= "5" else 8  # before 5 it rounds places to 1/32 of a pixel
    for size in (112, 128, 224):
        matrix = lm.similarity(points, lm.template(size))
        want = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR)
        got = lm.align(image, points, size)
        assert np.abs(got.astype(int) - want).max() <= limit


def test_align_outside_the_image_is_black():
    image = np.full((50, 50, 3), 255, np.uint8)
    crop = lm.align(image, lm.TEMPLATE_112 + 1000)
    assert crop.shape == (112, 112, 3)
    assert not crop.any()


def test_align_of_what_is_no_face():
    image = np.zeros((50, 50, 3), np.uint8)
    with pytest.raises(ValueError, match=r"\(5,2\)"):
        lm.align(image, np.zeros((4, 2)))
    with pytest.raises(ValueError, match="uint8"):
        lm.align(image.astype(float), lm.TEMPLATE_112)
    with pytest.raises(ValueError, match="coincide"):
        lm.align(image, np.zeros((5, 2)))
