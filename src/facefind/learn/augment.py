"""Augmentation: one labeled image in, one training image out, by a seeded generator.

Every function takes the random generator and returns new arrays; nothing is changed in place.
Legend: G labeled faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from facefind.images import resize
from facefind.landmarks import FLIP_ORDER
from facefind.learn.jitter import Image, mild, photometric, photometric_float
from facefind.learn.recipe import AugmentConfig, ResizedConfig


@dataclass(frozen=True)
class Labels:
    """The faces of one image while it is augmented.

    Attributes:
        boxes: (G,4) float32 xyxy in pixels.
        landmarks: (G,5,2) float32, NaN where unlabeled.
        ignore: (G,) bool.
    """

    boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    ignore: NDArray[np.bool_]

    def keep(self, mask: NDArray[np.bool_]) -> Labels:
        """The faces picked by a mask."""
        return Labels(self.boxes[mask], self.landmarks[mask], self.ignore[mask])

    def moved(self, scale: tuple[float, float], shift: tuple[float, float]) -> Labels:
        """The faces in new coordinates: (x, y) -> (x, y) * scale + shift."""
        factor, offset = np.asarray(scale, np.float32), np.asarray(shift, np.float32)
        return replace(
            self,
            boxes=self.boxes * np.tile(factor, 2) + np.tile(offset, 2),
            landmarks=self.landmarks * factor + offset,
        )


@dataclass(frozen=True)
class Window:
    """A square of the original image, in its pixels; it may reach beyond the image."""

    left: int
    top: int
    side: int

    def snapped(self, factor: int) -> Window:
        """The nearest window whose corner and side are multiples of `factor`."""
        left, top, side = (round(v / factor) * factor for v in (self.left, self.top, self.side))
        return Window(left, top, max(side, factor))


def draw_window(
    image_size: tuple[int, int],
    labels: Labels,
    sides: Sequence[float],
    rng: np.random.Generator,
    tries: int = 250,
    background: float = 0.0,
) -> Window:
    """A random square window that holds the center of at least one face.

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


def draw_whole_face_window(
    image_size: tuple[int, int],
    labels: Labels,
    sides: Sequence[float],
    rng: np.random.Generator,
    tries: int = 250,
    background: float = 0.0,
) -> Window:
    """A random square window that holds all of at least one face.

    Each of `tries` has a side of its own. Where none holds a face, the window is a square as long
    as the image's longer side, with the image in its upper left corner.

    Args:
        image_size: (H,W).
        labels: the image's faces; ignored ones do not count.
        sides: multiples of the short side.
        rng: random generator.
        tries: windows tried.
        background: probability that the first window is taken, face or not.

    Source: biubug6/Pytorch_Retinaface, its data augmentation.
    """
    height, width = image_size
    boxes = labels.boxes[~labels.ignore]
    multiples = rng.choice(np.asarray(sides), tries)
    drawn = np.maximum((multiples * min(height, width)).astype(np.int64), 1)[:, None]
    room = np.array([width, height]) - drawn
    corners = rng.integers(np.minimum(0, room), np.maximum(0, room), endpoint=True)
    low, high = corners[:, None], (corners + drawn)[:, None]
    holds = ((boxes[:, :2] >= low) & (boxes[:, 2:] <= high)).all(-1).any(-1)
    if background and rng.random() < background:
        holds[:] = True
    if not holds.any():
        return Window(0, 0, max(height, width))
    first = int(holds.argmax())
    return Window(int(corners[first, 0]), int(corners[first, 1]), int(drawn[first, 0]))


def window_for(
    config: AugmentConfig,
    image_size: tuple[int, int],
    labels: Labels,
    rng: np.random.Generator,
) -> Window:
    """The square window that a recipe draws from an image of size (H,W)."""
    draw = draw_window if config.crop_policy == "face-center" else draw_whole_face_window
    return draw(image_size, labels, config.crop_sides, rng, background=config.background)


def crop(
    image: Image,
    labels: Labels,
    window: Window,
    size: int,
    fill: tuple[int, int, int],
    factor: int = 1,
    *,
    clip_boxes: bool = True,
) -> tuple[Image, Labels]:
    """The window resized to (size,size,3), with the faces whose center it holds.

    Args:
        image: (H,W,3), the original or one that `images.read_reduced` decoded smaller.
        labels: its faces, in pixels of the original.
        window: the crop, in pixels of the original; it is snapped to whole pixels of `image`.
        size: side of the result in pixels.
        fill: RGB where the window reaches beyond the image.
        factor: how many pixels of the original one pixel of `image` spans.
        clip_boxes: as in `crop_labels`.

    Differs: SCRFD's authors' code fills with 128.
    """
    window = window.snapped(factor)
    left, top, side = (v // factor for v in (window.left, window.top, window.side))
    pixels = _fill_window(image, left, top, side, fill)
    return resize(pixels, (size, size)), crop_labels(labels, window, size, clip_boxes=clip_boxes)


def crop_labels(labels: Labels, window: Window, size: int, *, clip_boxes: bool = True) -> Labels:
    """The faces whose center the window holds, in pixels of the window resized to size x size.

    Ignored boxes are kept wherever they overlap the window. Landmarks are never clipped.

    Args:
        labels: the image's faces, in pixels of the original.
        window: the crop, in pixels of the original.
        size: side of the result in pixels.
        clip_boxes: whether boxes end at the window's border.

    Differs: SCRFD's authors' code leaves the boxes of some models unclipped, and clips landmarks
    where it clips boxes.
    """
    scale = size / window.side
    labels = labels.moved((scale, scale), (-window.left * scale, -window.top * scale))
    return _held(labels, (size, size), clip_boxes=clip_boxes)


def _held(labels: Labels, size: tuple[int, int], *, clip_boxes: bool = True) -> Labels:
    """The faces with their center on an image of size (H,W), and ignored ones that touch it."""
    height, width = size
    middle = (labels.boxes[:, :2] + labels.boxes[:, 2:]) / 2
    held = ((middle >= 0) & (middle < [width, height])).all(1)
    boxes = labels.boxes.clip(0, np.array([width, height] * 2, np.float32))
    overlapping = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
    if clip_boxes:
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


def draw_scale(
    image_size: tuple[int, int], config: ResizedConfig, rng: np.random.Generator
) -> float:
    """The factor that brings the shorter side to one of the recipe's, the longer not too far.

    Source: SmallHardFace, sec. 3.3.
    """
    short = float(rng.choice(np.asarray(config.short_sides)))
    return min(short / min(image_size), config.long_side / max(image_size))


def resize_and_crop(
    image: Image,
    labels: Labels,
    image_size: tuple[int, int],
    scale: float,
    config: ResizedConfig,
    rng: np.random.Generator,
    factor: int = 1,
) -> tuple[Image, Labels]:
    """The image resized, perhaps cropped, with the faces whose center it holds.

    It is cropped with probability `config.crop_prob`: to the first of 50 random crops that holds
    the center of a face that is not ignored; not at all where none does.

    Args:
        image: the original, or one that `images.read_reduced` decoded smaller.
        labels: its faces, in pixels of the original.
        image_size: (H,W) of the original.
        scale: ratio of the result's size to the original's.
        config: how crops are drawn.
        rng: random generator.
        factor: how many pixels of the original one pixel of `image` spans.

    Source: SmallHardFace, sec. 3.3.
    """
    height, width = (max(round(side * scale), 1) for side in image_size)
    extent = (image_size[0] / factor, image_size[1] / factor)
    image = resize(image, (height, width), extent)
    labels = labels.moved((width / image_size[1], height / image_size[0]), (0, 0))
    if rng.random() < config.crop_prob:
        centers = ((labels.boxes[:, :2] + labels.boxes[:, 2:]) / 2)[~labels.ignore]
        full = np.array([width, height])
        sizes = (rng.uniform(config.min_crop, 1, (50, 2)) * full).astype(np.int64).clip(1)
        corners = rng.integers(0, full - sizes, endpoint=True)
        low, high = corners[:, None], (corners + sizes)[:, None]
        holds = ((centers >= low) & (centers < high)).all(-1).any(-1)
        if holds.any():
            first = holds.argmax()
            (left, top), (right, bottom) = corners[first], corners[first] + sizes[first]
            image = image[top:bottom, left:right]
            labels = labels.moved((1, 1), (-float(left), -float(top)))
    return image, _held(labels, (image.shape[0], image.shape[1]))


def recolor(image: Image, config: AugmentConfig, rng: np.random.Generator) -> Image:
    """The image with its colors changed in the recipe's way, if at all."""
    if not config.color:
        return image
    if config.jitter == "ssd":
        return photometric(image, rng, channel_shuffle=config.channel_shuffle)
    if config.jitter == "ssd-float":
        return photometric_float(image, rng)
    return mild(image, rng, brightness_only=config.jitter == "brightness")


def recolor_and_flip(
    image: Image, labels: Labels, config: AugmentConfig, rng: np.random.Generator
) -> tuple[Image, Labels]:
    """The crop (H,W,3) recolored and perhaps mirrored; faces that are too small ignored."""
    if config.crop == "square" or not config.resized.color_first:
        image = recolor(image, config, rng)
    if rng.random() < config.flip:
        image, labels = flip(image, labels)
    if config.min_face > 0 and len(labels.boxes):
        sides = labels.boxes[:, 2:] - labels.boxes[:, :2]
        labels = replace(labels, ignore=labels.ignore | (sides.min(1) < config.min_face))
    return image, labels


def flip(image: Image, labels: Labels) -> tuple[Image, Labels]:
    """Image and faces mirrored left to right; landmarks change places so that left stays left."""
    width = image.shape[1]
    boxes = labels.boxes.copy()
    boxes[:, [0, 2]] = width - labels.boxes[:, [2, 0]]
    landmarks = labels.landmarks[:, list(FLIP_ORDER)]
    landmarks[..., 0] = width - landmarks[..., 0]
    return np.ascontiguousarray(image[:, ::-1]), replace(labels, boxes=boxes, landmarks=landmarks)
