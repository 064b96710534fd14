"""Augmentation: one labelled image in, one square training image out, by a seeded generator.

Every function takes the random generator and returns new arrays; nothing is changed in place.
Legend: G labelled faces, S side of the training image in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from facefind.images import resize
from facefind.landmarks import FLIP_ORDER
from facefind.learn.recipe import AugmentConfig

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Labels:
    """The faces of one image while it is augmented.

    Attributes:
        boxes: (G,4) float32 xyxy in pixels.
        landmarks: (G,5,2) float32, NaN where unlabelled.
        ignore: (G,) bool.
    """

    boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    ignore: NDArray[np.bool_]

    def keep(self, mask: NDArray[np.bool_]) -> Labels:
        """The faces picked by a mask."""
        return Labels(self.boxes[mask], self.landmarks[mask], self.ignore[mask])

    def moved(self, scale: float, shift: tuple[float, float]) -> Labels:
        """The faces in new coordinates: (x, y) -> (x, y) * scale + shift."""
        offset = np.asarray(shift, np.float32)
        return replace(
            self,
            boxes=self.boxes * np.float32(scale) + np.tile(offset, 2),
            landmarks=self.landmarks * np.float32(scale) + offset,
        )


@dataclass(frozen=True)
class Window:
    """A square of the original image, in its pixels; it may reach beyond the image."""

    left: int
    top: int
    side: int


def draw_window(
    image_size: tuple[int, int],
    labels: Labels,
    sides: Sequence[float],
    rng: np.random.Generator,
    tries: int = 250,
    background: float = 0.0,
) -> Window:
    """A random square window that holds the centre of at least one face.

    Its side is a random choice from `sides` times the image's short side. Positions are drawn
    until one holds a face; if none of `tries` does, another side is drawn. An image without
    faces gives its first window.

    Args:
        image_size: (H,W).
        labels: the image's faces; ignored ones do not count.
        sides: multiples of the short side; above 1 the faces shrink.
        rng: random generator.
        tries: positions tried for each side.
        background: probability that the first window is taken, face or not. A network that sees
            faces in every window learns to find one in an empty picture, too.

    Source: SCRFD, sec. 4.1 and 5.1: sides beyond 1 are the sample redistribution.
    """
    height, width = image_size
    centers = (labels.boxes[:, :2] + labels.boxes[:, 2:])[~labels.ignore] / 2
    if background and rng.random() < background:
        centers = centers[:0]
    for _ in range(20):
        side = max(int(rng.choice(np.asarray(sides)) * min(height, width)), 1)
        # Left and top range over all places where window and image cover each other.
        low = np.minimum([0, 0], [width - side, height - side])
        high = np.maximum([0, 0], [width - side, height - side])
        corners = rng.integers(low, high, size=(tries, 2), endpoint=True)
        if not len(centers):
            break
        inside = (centers[None] >= corners[:, None]) & (centers[None] < corners[:, None] + side)
        holds = inside.all(-1).any(-1)
        if holds.any():
            corners = corners[holds]
            break
    return Window(int(corners[0, 0]), int(corners[0, 1]), side)


def crop(
    image: Image,
    labels: Labels,
    window: Window,
    size: int,
    fill: tuple[int, int, int],
    shrink: float = 1.0,
    *,
    cut_boxes: bool = True,
) -> tuple[Image, Labels]:
    """The window resized to (size,size,3), with the faces whose centre it holds.

    Args:
        image: (H,W,3), the original or one that is `shrink` times smaller.
        labels: its faces, in pixels of the original.
        window: what to cut out, in pixels of the original.
        size: side of the result in pixels.
        fill: RGB where the window reaches beyond the image.
        shrink: how many pixels of the original one pixel of `image` spans.
        cut_boxes: as in `crop_labels`.

    Differs: SCRFD's authors' code fills with 128.
    """
    small = [round(v / shrink) for v in (window.left, window.top, window.side)]
    cut = _fill_window(image, small[0], small[1], max(small[2], 1), fill)
    return resize(cut, (size, size)), crop_labels(labels, window, size, cut_boxes=cut_boxes)


def crop_labels(labels: Labels, window: Window, size: int, *, cut_boxes: bool = True) -> Labels:
    """The faces whose centre the window holds, in pixels of the window resized to size x size.

    Ignored boxes are kept wherever they overlap the window. Landmarks are never cut.

    Args:
        labels: the image's faces, in pixels of the original.
        window: what is cut out, in pixels of the original.
        size: side of the result in pixels.
        cut_boxes: whether boxes end at the window's border.

    Differs: SCRFD's authors' code leaves the boxes of some models uncut, and cuts landmarks where
    it cuts boxes.
    """
    scale = size / window.side
    labels = labels.moved(scale, (-window.left * scale, -window.top * scale))
    middle = (labels.boxes[:, :2] + labels.boxes[:, 2:]) / 2
    held = ((middle >= 0) & (middle < size)).all(1)
    boxes = labels.boxes.clip(0, size)
    overlapping = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
    if cut_boxes:
        labels = replace(labels, boxes=boxes)
    return labels.keep(np.where(labels.ignore, overlapping, held))


def _fill_window(image: Image, left: int, top: int, side: int, fill: tuple[int, int, int]) -> Image:
    height, width = image.shape[:2]
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    inner = image[y1:y2, x1:x2]
    if inner.shape[:2] == (side, side):
        return np.ascontiguousarray(inner)
    window = np.empty((side, side, 3), np.uint8)
    window[:] = fill
    window[y1 - top : y2 - top, x1 - left : x2 - left] = inner
    return window


def recolor_and_flip(
    image: Image, labels: Labels, config: AugmentConfig, rng: np.random.Generator
) -> tuple[Image, Labels]:
    """The cropped image (S,S,3) jittered and perhaps mirrored; faces that are too small ignored."""
    if config.color:
        image = photometric(image, rng, channel_shuffle=config.channel_shuffle)
    if rng.random() < config.flip:
        image, labels = flip(image, labels)
    if config.min_face > 0 and len(labels.boxes):
        sides = labels.boxes[:, 2:] - labels.boxes[:, :2]
        labels = replace(labels, ignore=labels.ignore | (sides.min(1) < config.min_face))
    return image, labels


def photometric(image: Image, rng: np.random.Generator, *, channel_shuffle: bool = False) -> Image:
    """The image with its light and colours changed, each change with probability 1/2.

    Brightness +-32, contrast x0.5..1.5 (before or after the colours), saturation x0.5..1.5,
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


def flip(image: Image, labels: Labels) -> tuple[Image, Labels]:
    """Image and faces mirrored left to right; landmarks change places so that left stays left."""
    width = image.shape[1]
    boxes = labels.boxes.copy()
    boxes[:, [0, 2]] = width - labels.boxes[:, [2, 0]]
    landmarks = labels.landmarks[:, list(FLIP_ORDER)]
    landmarks[..., 0] = width - landmarks[..., 0]
    return np.ascontiguousarray(image[:, ::-1]), replace(labels, boxes=boxes, landmarks=landmarks)
