"""The five landmarks of a face: their order, and the upright square crop that they define.

Landmarks are (5,2) x, y in pixels of the image: left eye, right eye, nose, left mouth corner, right
mouth corner, where left is left as seen in the image, turned so that the face is upright.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["FLIP_ORDER", "NAMES", "TEMPLATE_112", "align", "similarity", "template"]

NAMES = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")

FLIP_ORDER = (1, 0, 2, 4, 3)
"""Order of the landmarks after the image is mirrored."""

TEMPLATE_112: NDArray[np.float32] = np.array(
    [
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    ],
    np.float32,
)
"""Where the five landmarks lie in an aligned crop of 112 x 112 pixels."""
TEMPLATE_112.setflags(write=False)


def template(size: int) -> NDArray[np.float32]:
    """Where the five landmarks lie in an aligned crop of `size` x `size` pixels, (5,2).

    The template of 112 pixels is scaled. Multiples of 128 that are not multiples of 112 get the
    112 x 128 face centered in the square, as recognition models of 128 and 256 pixels expect.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")
    if size % 128 == 0 and size % 112 != 0:
        ratio = size / 128
        return TEMPLATE_112 * np.float32(ratio) + np.array([8 * ratio, 0], np.float32)
    return TEMPLATE_112 * np.float32(size / 112)


def similarity(src: ArrayLike, dst: ArrayLike) -> NDArray[np.float64]:
    """The matrix (2,3) of rotation, one scale and shift that takes `src` nearest to `dst`.

    Least squares over any number of points (P,2), P >= 2; never a mirror image.

    Raises:
        ValueError: If shapes differ, a value is not finite, or all source points coincide.
    """
    a, b = np.asarray(src, np.float64), np.asarray(dst, np.float64)
    if a.ndim != 2 or a.shape[1] != 2 or a.shape != b.shape or len(a) < 2:
        raise ValueError(
            f"expected two sets of at least 2 points (P,2), got {a.shape} and {b.shape}"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("points must be finite numbers")
    # As complex numbers the map is z -> m z + t, and least squares has a closed form.
    za, zb = a[:, 0] + 1j * a[:, 1], b[:, 0] + 1j * b[:, 1]
    mean_a, mean_b = za.mean(), zb.mean()
    za, zb = za - mean_a, zb - mean_b
    spread = float(np.vdot(za, za).real)
    if spread <= 1e-12 * (1.0 + abs(mean_a) ** 2):
        raise ValueError("all source points coincide: they fix no rotation or scale")
    m = np.vdot(za, zb) / spread
    t = mean_b - m * mean_a
    return np.array([[m.real, -m.imag, t.real], [m.imag, m.real, t.imag]])


def align(image: NDArray[Any], landmarks: ArrayLike, size: int = 112) -> NDArray[np.uint8]:
    """The face turned upright and cut to (size,size,3) uint8, its landmarks on the `template`.

    Bilinear; what lies outside the image is black. Whole coordinates are pixel centers here, as in
    the crops that recognition models were trained on.

    Args:
        image: (H,W,3) uint8.
        landmarks: (5,2) in pixels of that image.
        size: Side of the crop in pixels.
    """
    if image.ndim != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(f"image must be (H,W,3) uint8, got {image.shape} {image.dtype}")
    five = np.asarray(landmarks, np.float64)
    if five.shape != (5, 2):
        raise ValueError(f"landmarks must have shape (5,2), got {five.shape}")
    matrix = similarity(five, template(size))
    turn, shift = matrix[:, :2], matrix[:, 2]
    if abs(np.linalg.det(turn)) < 1e-12:
        raise ValueError("the landmarks are not those of a face: they define no crop")
    back = np.linalg.inv(turn)  # from the crop to the image
    down, across = np.mgrid[:size, :size]
    x, y = np.tensordot(back, np.stack([across, down]) - shift[:, None, None], axes=1)
    return _sample(image, x, y)


def _sample(
    image: NDArray[Any], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Bilinear values of `image` at (x, y), black outside."""
    height, width, channels = image.shape
    x, y = np.clip(x, -1, width), np.clip(y, -1, height)  # further out all neighbors are black
    left, top = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    dx = (x - left).astype(np.float32)[..., None]
    dy = (y - top).astype(np.float32)[..., None]
    # The part that is sampled, in a black frame, as a flat list of pixels.
    x1, x2 = int(left.min()), int(left.max()) + 2
    y1, y2 = int(top.min()), int(top.max()) + 2
    part = np.zeros((y2 - y1, x2 - x1, channels), np.uint8)
    inside = image[max(0, y1) : y2, max(0, x1) : x2]
    part[max(0, -y1) :, max(0, -x1) :][: inside.shape[0], : inside.shape[1]] = inside
    pixels = part.reshape(-1, channels)
    first, row = (top - y1) * (x2 - x1) + (left - x1), x2 - x1
    upper = pixels[first] * (1 - dx) + pixels[first + 1] * dx
    lower = pixels[first + row] * (1 - dx) + pixels[first + row + 1] * dx
    upper += (lower - upper) * dy
    rounded: NDArray[np.uint8] = (upper + np.float32(0.5)).astype(np.uint8)
    return rounded
