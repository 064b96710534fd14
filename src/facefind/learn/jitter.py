"""Jitter: the colors of a training image changed at random, by a seeded generator.

`draw_colors` decides what happens, `recolor` does it: what is drawn is plain numbers, so that one
image on the CPU and a whole batch on an accelerator can be changed alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from facefind.learn.recipe import AugmentConfig

Image = NDArray[np.uint8]
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in gray (ITU-R BT.601)."""
BRIGHTNESS, CONTRAST, SATURATION = range(3)


@dataclass(frozen=True)
class Colors:
    """What happens to the colors of one image, in the order of the fields; by default nothing.

    Attributes:
        gain: factor of every value, 0..255.
        bias: added to it then.
        saturation: factor of HSV's saturation.
        hue: degrees added to HSV's hue, -180..180.
        gain_after: factor of every value.
        order: which channel becomes red, green and blue.
        rounded: whether values are rounded to 0..255 after each of these steps, hue to 256ths of a
            turn; or once, after the last.
        mild: changes of another kind, in their order, as pairs of `BRIGHTNESS`, `CONTRAST` or
            `SATURATION` and a factor: of every value, of its distance from the mean gray of the
            image, of its distance from the gray of its pixel. Rounded once, after the last.
        gamma: power of every value, as a fraction of 255, then.
        light: factor of every value then: how much light is left of a darkened image.
        noise: standard deviation, in levels of 255, of what each value is off then.
        seed: of the noise, below 2 ** 24.
        gray: whether each pixel becomes its gray in the end.
    """

    gain: float = 1.0
    bias: float = 0.0
    saturation: float = 1.0
    hue: float = 0.0
    gain_after: float = 1.0
    order: tuple[int, int, int] = (0, 1, 2)
    rounded: bool = True
    mild: tuple[tuple[int, float], ...] = ()
    gamma: float = 1.0
    light: float = 1.0
    noise: float = 0.0
    seed: int = 0
    gray: bool = False

    def mild_affine(self) -> tuple[NDArray[np.float64], float]:
        """(3,3) M and a number c: `mild` makes M @ rgb + c * (mean gray of the image) of a pixel.

        One map for all steps, because saturation and contrast leave the mean gray where it is.
        """
        matrix, offset, mean = np.eye(3), 0.0, 1.0
        for change, factor in self.mild:
            if change == SATURATION:
                toward_gray = factor * np.eye(3) + (1 - factor) * np.asarray(LUMA)
                matrix = toward_gray @ matrix  # its rows add up to 1: an offset stays
            else:
                matrix, offset = matrix * factor, offset * factor
                if change == CONTRAST:
                    offset += mean * (1 - factor)
                else:
                    mean *= factor
        return matrix, offset


def draw_colors(config: AugmentConfig, rng: np.random.Generator) -> Colors:
    """What happens to the colors of a training image, drawn in the recipe's way.

    `ssd`: each change with probability 1/2: brightness +-32, contrast x0.5..1.5 (before or after
    the colors), saturation x0.5..1.5, hue +-`config.hue` degrees, and optionally a permutation of
    the channels. `ssd-float`: the same without the permutation, rounded once at the end.

    `mild`: brightness, contrast and saturation by up to an eighth each, in a random order.
    `brightness`: the first of them alone, as RetinaFace's mobile model was trained.

    `config.dark` of the images are darkened, as by a camera with too little light: a gamma of 1 to
    3, a twentieth of the light to all of it, noise of up to 5 levels of 255.

    Source: SSD (arXiv:1512.02325), sec. 2.2 and its released code; SCRFD, sec. 5.1 ("color
    distortion"); SmallHardFace, sec. 3.3, and its released code; RetinaFace's released code
    (insightface), COLOR_MODE 2 and 1, where the paper says only "photo-metric color distortion"
    (sec. 4.2).
    Differs: on 8 bits SSD's code cuts a hue off at red, 0 degrees; here, as in the PyTorch port of
    RetinaFace, it goes on round the circle.
    """
    colors = Colors()
    if config.color and config.jitter in ("ssd", "ssd-float"):
        colors = _draw_ssd(rng, config.hue, config.channel_shuffle and config.jitter == "ssd")
        colors = replace(colors, rounded=config.jitter == "ssd")
    elif config.color:
        changes = (BRIGHTNESS,) if config.jitter == "brightness" else rng.permutation(3)
        colors = Colors(mild=tuple((int(c), 1 + rng.uniform(-0.125, 0.125)) for c in changes))
    if config.dark and rng.random() < config.dark:
        colors = replace(
            colors,
            gamma=rng.uniform(1, 3),
            light=float(np.exp(rng.uniform(np.log(0.05), 0))),
            noise=rng.uniform(0, 5),
            seed=int(rng.integers(2**24)),
        )
    if config.gray and rng.random() < config.gray:
        colors = replace(colors, gray=True)
    return colors


def _draw_ssd(rng: np.random.Generator, most: float, channel_shuffle: bool) -> Colors:
    def chance() -> bool:
        return bool(rng.random() < 0.5)

    bias = rng.uniform(-32, 32) if chance() else 0.0
    contrast_first = chance()
    contrast = rng.uniform(0.5, 1.5) if chance() else 1.0
    saturation = rng.uniform(0.5, 1.5) if chance() else 1.0
    hue = rng.uniform(-most, most) if chance() else 0.0
    red, green, blue = rng.permutation(3).tolist() if channel_shuffle and chance() else (0, 1, 2)
    gain, gain_after = (contrast, 1.0) if contrast_first else (1.0, contrast)
    return Colors(gain, bias * gain, saturation, hue, gain_after, (red, green, blue))


def recolor(image: Image, colors: Colors) -> Image:
    """The image (H,W,3) with its colors changed; itself where nothing is to be changed."""
    import cv2

    if colors.mild:
        matrix, offset = colors.mild_affine()
        mean_gray = np.asarray(cv2.mean(image)[:3]) @ np.asarray(LUMA)
        image = _affine(image, matrix, offset * mean_gray)
    image = _stepwise(image, colors) if colors.rounded else _at_once(image, colors)
    image = _affine(image, np.eye(3)[list(colors.order)], 0)
    if colors.light != 1 or colors.gamma != 1 or colors.noise:
        image = _darkened(image, colors)
    return _affine(image, np.tile(LUMA, (3, 1)), 0) if colors.gray else image


def _affine(image: Image, matrix: NDArray[np.float64], offset: float) -> Image:
    """Matrix @ rgb + offset of every pixel, rounded to 0..255; the image where that is the same.

    OpenCV's way through, with 10 bits of fraction in the matrix, is faster than a table.
    """
    import cv2

    if offset == 0 and np.array_equal(matrix, np.eye(3)):
        return image
    out = cv2.transform(image, np.column_stack([matrix, [offset] * 3]))
    return np.asarray(out, np.uint8)


def _stepwise(image: Image, colors: Colors) -> Image:
    """The image changed on 8 bits."""
    import cv2

    image = _affine(image, colors.gain * np.eye(3), colors.bias)
    if colors.saturation != 1 or colors.hue:
        hsv = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL), np.uint8)  # hue in 0..255
        hsv = _affine(hsv, np.diag([1, colors.saturation, 1]), 0)
        turn = np.array([round(colors.hue * 256 / 360) % 256, 0, 0], np.uint8)
        rows = hsv.reshape(len(hsv), -1)
        rows += np.tile(turn, image.shape[1])  # 255 + 1 is 0
        image = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL), np.uint8)
    return _affine(image, colors.gain_after * np.eye(3), 0)


def _at_once(image: Image, colors: Colors) -> Image:
    """The image changed in floating point and rounded once."""
    import cv2

    if colors.saturation == 1 and colors.hue == 0:
        gain, bias = colors.gain * colors.gain_after, colors.bias * colors.gain_after
        return _affine(image, gain * np.eye(3), bias)
    light = np.clip(np.arange(256) * colors.gain + colors.bias, 0, 255).astype(np.float32)
    hsv = cv2.cvtColor(cv2.LUT(image, light), cv2.COLOR_RGB2HSV)  # degrees, 0..1, 0..255
    change = np.column_stack([np.diag([1, colors.saturation, 1]), [colors.hue % 360, 0, 0]])
    hsv = cv2.transform(hsv, change)
    # OpenCV takes a hue beyond a whole turn, but no saturation above 1.
    rows, most = hsv.reshape(len(hsv), -1), np.array([np.inf, 1, np.inf], np.float32)
    np.minimum(rows, np.tile(most, image.shape[1]), out=rows)
    rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return np.asarray(cv2.convertScaleAbs(rgb, alpha=colors.gain_after), np.uint8)


def _darkened(image: Image, colors: Colors) -> Image:
    """The image in little light, rounded once."""
    import cv2

    table = 255 * colors.light * (np.arange(256) / 255) ** colors.gamma
    dark = np.asarray(cv2.LUT(image, table.astype(np.float32)), np.float32)
    noise = np.random.default_rng(colors.seed).standard_normal(dark.shape, np.float32)
    dark = dark + np.float32(colors.noise) * noise
    return np.asarray(dark.round().clip(0, 255), np.uint8)
