"""Jitter: the colors of a training image changed at random, by a seeded generator.

Every function returns a new image and leaves the one that it is given as it was.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in gray (ITU-R BT.601)."""


def photometric(image: Image, rng: np.random.Generator, *, channel_shuffle: bool = False) -> Image:
    """The image with its light and colors changed, each change with probability 1/2.

    Brightness +-32, contrast x0.5..1.5 (before or after the colors), saturation x0.5..1.5,
    hue +-18 degrees, and optionally a permutation of the channels.

    Source: SSD (arXiv:1512.02325), sec. 2.2 and its released code; SCRFD, sec. 5.1 ("color
    distortion").
    """
    import cv2

    def chance() -> bool:
        return bool(rng.random() < 0.5)

    gain, bias = 1.0, 0.0
    if chance():
        bias = rng.uniform(-32, 32)
    contrast_first = chance()
    contrast = rng.uniform(0.5, 1.5) if chance() else 1.0
    if contrast_first:
        gain, bias = gain * contrast, bias * contrast
    if gain != 1 or bias:
        image = _linear(image, gain, bias)
    saturation = rng.uniform(0.5, 1.5) if chance() else 1.0
    hue = rng.uniform(-18, 18) if chance() else 0.0
    if saturation != 1 or hue:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)  # hue in 0..255
        turned = np.arange(256) + round(hue * 256 / 360)
        richer = np.clip(np.arange(256) * saturation, 0, 255)
        table = np.stack([turned % 256, richer, np.arange(256)], -1).astype(np.uint8)
        turned_back = cv2.cvtColor(cv2.LUT(hsv, table[None]), cv2.COLOR_HSV2RGB_FULL)
        image = np.asarray(turned_back, np.uint8)
    if not contrast_first and contrast != 1:
        image = _linear(image, contrast, 0.0)
    if channel_shuffle and chance():
        image = np.ascontiguousarray(image[..., rng.permutation(3)])
    return image


def _linear(image: Image, gain: float, bias: float) -> Image:
    table: Image = np.clip(np.arange(256) * gain + bias, 0, 255).round().astype(np.uint8)
    return table[image]


def photometric_float(image: Image, rng: np.random.Generator) -> Image:
    """The image changed as by `photometric`, in floating point and rounded once at the end.

    Source: SmallHardFace, sec. 3.3, and its released code.
    """
    import cv2

    def chance() -> bool:
        return bool(rng.random() < 0.5)

    bias = rng.uniform(-32, 32) if chance() else 0.0
    contrast_first = chance()
    contrast = rng.uniform(0.5, 1.5) if chance() else 1.0
    saturation = rng.uniform(0.5, 1.5) if chance() else 1.0
    hue = rng.uniform(-18, 18) if chance() else 0.0
    out: NDArray[np.float32] = (image.astype(np.float32) + np.float32(bias)) * np.float32(
        contrast if contrast_first else 1
    )
    if saturation != 1 or hue:
        hsv = cv2.cvtColor(out.clip(0, 255), cv2.COLOR_RGB2HSV)  # degrees, 0..1
        hsv[..., 0] = (hsv[..., 0] + hue) % 360
        hsv[..., 1] = (hsv[..., 1] * saturation).clip(0, 1)
        out = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.float32)
    return _rounded(out * np.float32(1 if contrast_first else contrast))


def mild(image: Image, rng: np.random.Generator, *, brightness_only: bool = False) -> Image:
    """The image with its brightness, contrast and saturation changed by up to an eighth each.

    They change in a random order: brightness by a factor, contrast around the mean gray of the
    image, saturation around the gray of each pixel.

    Args:
        image: (H,W,3) RGB.
        rng: random generator.
        brightness_only: leave contrast and saturation, as RetinaFace's mobile model was trained.

    Source: RetinaFace's released code (insightface), COLOR_MODE 2 and 1; the paper says only
    "photo-metric color distortion" (sec. 4.2).
    """
    luma = np.asarray(LUMA, np.float32)
    out = image.astype(np.float32)
    for change in (0,) if brightness_only else rng.permutation(3):
        factor = np.float32(1 + rng.uniform(-0.125, 0.125))
        if change == 0:
            out = out * factor
        elif change == 1:
            out = out * factor + (out @ luma).mean() * (1 - factor)
        else:
            out = out * factor + (out @ luma)[..., None] * (1 - factor)
    return _rounded(out)


def _rounded(image: NDArray[np.float32]) -> Image:
    return image.round().clip(0, 255).astype(np.uint8)
