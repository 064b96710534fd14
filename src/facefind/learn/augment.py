"""Augmentation: what is shown of a labeled image is drawn first, by a seeded generator, then made.

`draw_view` draws a `View`, plain numbers; `render` makes its pixels and `view_labels` its faces. So
one image on the CPU and a whole batch on an accelerator are made alike. Arrays that are given are
left as they are.
Legend: G labeled faces.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from facefind.images import resize
from facefind.learn.jitter import Colors, Image, draw_colors, recolor
from facefind.learn.labels import Labels
from facefind.learn.recipe import AugmentConfig, ResizedConfig


@dataclass(frozen=True)
class View:
    """What a training image shows of an original: which part, how large, turned, with what colors.

    Attributes:
        left, top, width, height: the part that is shown, in pixels of the original. A square's are
            int, and it may reach beyond the image; those of a part of a `resized` image are float,
            because it lies on whole pixels of the resized one.
        size: (h,w) of the result.
        shrink: how many times smaller the original may be decoded (1, 2, 4 or 8 are used): the
            result is not enlarged, and of a square all four numbers are multiples of what is used.
        turns: quarter turns, counterclockwise, after the resizing.
        flip: whether the turned image is mirrored left to right.
        colors: what happens to the colors.
        color_first: whether they change before the resizing, not after it.
    """

    left: float
    top: float
    width: float
    height: float
    size: tuple[int, int]
    shrink: int = 1
    turns: int = 0
    flip: bool = False
    colors: Colors = field(default_factory=Colors)
    color_first: bool = False

    @property
    def upright_size(self) -> tuple[int, int]:
        """(h,w) of the result before it is turned."""
        return self.size if self.turns % 2 == 0 else self.size[::-1]


SHRINKS = (1, 2, 4, 8)
"""How many times smaller an original may be decoded or kept."""
_TRIES = 250  # windows that are drawn until one holds a face


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
    background: float = 0.0,
) -> Window:
    """A random square window that holds the center of at least one face.

    Its side is a random choice from `sides` times the image's short side. Positions are drawn
    until one holds a face; if none of 250 does, another side is drawn. An image without
    faces gives its first window.

    Args:
        image_size: (H,W).
        labels: the image's faces; ignored ones do not count.
        sides: multiples of the short side; above 1 the faces shrink.
        rng: random generator.
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
        corners = rng.integers(low, high, size=(_TRIES, 2), endpoint=True)
        if not len(centers):
            break
        for some in (corners[:16], corners[16:]):  # mostly, one of the first will do
            inside = (centers >= some[:, None]) & (centers < some[:, None] + side)
            holds = inside.all(-1).any(-1)
            if holds.any():
                left, top = some[holds.argmax()].tolist()
                return Window(left, top, side)
    left, top = corners[0].tolist()
    return Window(left, top, side)


def draw_whole_face_window(
    image_size: tuple[int, int],
    labels: Labels,
    sides: Sequence[float],
    rng: np.random.Generator,
    background: float = 0.0,
) -> Window:
    """A random square window that holds all of at least one face.

    Each of 250 has a side of its own. Where none holds a face, the window is a square as long
    as the image's longer side, with the image in its upper left corner.

    Args:
        image_size: (H,W).
        labels: the image's faces; ignored ones do not count.
        sides: multiples of the short side.
        rng: random generator.
        background: probability that the first window is taken, face or not.

    Source: biubug6/Pytorch_Retinaface, its data augmentation.
    """
    height, width = image_size
    boxes = labels.boxes[~labels.ignore]
    multiples = rng.choice(np.asarray(sides), _TRIES)
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


def draw_anchor_window(
    image_size: tuple[int, int],
    labels: Labels,
    config: AugmentConfig,
    rng: np.random.Generator,
    size: int,
) -> Window:
    """A random square window that, once resized, shows one of the faces at the size of an anchor.

    Any face is drawn, then an anchor: of those no larger than the window, none is more than
    `anchor_above` after the nearest to the face. The window holds all of the face where it has the
    room, and lies within the image, or around it, where it is larger.

    Args:
        image_size: (H,W).
        labels: the image's faces, at least one of which is not ignored.
        config: the sizes of anchors.
        rng: random generator.
        size: side of the result in pixels.

    Source: PyramidBox (arXiv:1803.07737), sec. 3.3 (data-anchor-sampling); DSFD, sec. 3.4.
    Differs: the text of DSFD draws from all anchors (`anchor_above` 5); PyramidBox, to which it
    refers, up to the one after the nearest, which is the default.
    PyramidBox cuts from the resized image, DSFD's code cuts the window off at the image's border
    and stretches what is left; here the window is a square, filled beyond the image.
    """
    faces = labels.boxes[~labels.ignore]
    left, top, right, bottom = faces[rng.integers(len(faces))].astype(np.float64)
    face = max(math.sqrt((right - left) * (bottom - top)), 1.0)
    anchors = np.array([side for side in config.anchor_sides if side <= size])
    nearest = int(np.abs(anchors - face).argmin())
    anchor = anchors[rng.integers(min(nearest + 1 + config.anchor_above, len(anchors)))]
    anchor *= 2 ** rng.uniform(-config.anchor_octaves, config.anchor_octaves)
    side = max(round(face * size / anchor), 1)
    corner = []
    for low, high, length in ((left, right, image_size[1]), (top, bottom, image_size[0])):
        span = sorted((high - side, low))  # where the window holds all of the face, or is within it
        first, last = np.clip([math.ceil(span[0]), span[1]], *sorted((0, length - side)))
        corner.append(int(rng.integers(int(first), max(int(first), int(last)), endpoint=True)))
    return Window(corner[0], corner[1], side)


def draw_view(
    config: AugmentConfig,
    image_size: tuple[int, int],
    labels: Labels,
    rng: np.random.Generator,
    size: int | None = None,
) -> View:
    """What a recipe shows of an image of size (H,W) with these faces.

    Args:
        config: the recipe's.
        image_size: (H,W).
        labels: the image's faces.
        rng: random generator.
        size: side of a square result in pixels; None: the recipe's. Another one takes windows as
            many times larger or smaller, so that faces keep their scale.
    """
    if config.crop == "square":
        view = _draw_square(config, image_size, labels, rng, size or config.size)
    else:
        view = _draw_resized(config.resized, image_size, labels, rng)
    if config.turned and rng.random() < config.turned:
        turns = int(rng.integers(1, 4))
        view = replace(view, turns=turns, size=view.size if turns == 2 else view.size[::-1])
    colors = draw_colors(config, rng)
    return replace(view, colors=colors, flip=bool(rng.random() < config.flip))


def _draw_square(
    config: AugmentConfig,
    image_size: tuple[int, int],
    labels: Labels,
    rng: np.random.Generator,
    size: int,
) -> View:
    draw = draw_whole_face_window if config.crop_policy == "whole-face" else draw_window
    sides = [side * (size / config.size) for side in config.crop_sides]
    by_anchor = config.crop_policy == "anchor" and rng.random() < config.anchor_prob
    if by_anchor and not labels.ignore.all():
        window = draw_anchor_window(image_size, labels, config, rng, size)
    else:
        window = draw(image_size, labels, sides, rng, background=config.background)
    shrink = max(s for s in SHRINKS if s <= max(window.side // size, 1))
    window = window.snapped(shrink)
    return View(window.left, window.top, window.side, window.side, (size, size), shrink)


def _draw_resized(
    config: ResizedConfig,
    image_size: tuple[int, int],
    labels: Labels,
    rng: np.random.Generator,
) -> View:
    """The image resized, with probability `config.crop_prob` only a crop of it.

    The crop is the first of 50 that holds the center of a face that is not ignored; the whole
    image where none does.

    Source: SmallHardFace, sec. 3.3.
    """
    scale = draw_scale(image_size, config, rng)
    height, width = (max(round(side * scale), 1) for side in image_size)
    left, top, right, bottom = 0, 0, width, height
    if rng.random() < config.crop_prob:
        centers = (labels.boxes[:, :2] + labels.boxes[:, 2:])[~labels.ignore] / 2
        full = np.array([width, height])
        centers = centers * full / image_size[::-1]
        sizes = (rng.uniform(config.min_crop, 1, (50, 2)) * full).astype(np.int64).clip(1)
        corners = rng.integers(0, full - sizes, endpoint=True)
        low, high = corners[:, None], (corners + sizes)[:, None]
        holds = ((centers >= low) & (centers < high)).all(-1).any(-1)
        if holds.any():
            first = holds.argmax()
            left, top = corners[first].tolist()
            right, bottom = (corners[first] + sizes[first]).tolist()
    h, w = bottom - top, right - left
    return View(
        left * image_size[1] / width,
        top * image_size[0] / height,
        w * image_size[1] / width,
        h * image_size[0] / height,
        (h, w),
        shrink=max(int(1 / scale), 1),
        color_first=config.color_first,
    )


def draw_scale(
    image_size: tuple[int, int], config: ResizedConfig, rng: np.random.Generator
) -> float:
    """The factor that brings the shorter side to one of the recipe's, the longer not too far.

    Source: SmallHardFace, sec. 3.3.
    """
    short = float(rng.choice(np.asarray(config.short_sides)))
    return min(short / min(image_size), config.long_side / max(image_size))


def view_labels(view: View, labels: Labels, config: AugmentConfig) -> Labels:
    """The faces whose center the view holds, in its pixels; those below `min_face` are ignored.

    Ignored boxes are kept wherever they overlap the view. Landmarks are never clipped, and change
    places where the view is flipped, so that left stays left; where it is turned, each stays what
    it was.

    Args:
        view: what is shown.
        labels: the image's faces, in pixels of the original.
        config: whether boxes end at the border of a square (always at that of a resized image),
            and the least face.

    Differs: SCRFD's authors' code leaves the boxes of some models unclipped, and clips landmarks
    where it clips boxes.
    """
    height, width = view.upright_size
    scale = width / view.width, height / view.height
    labels = labels.moved(scale, (-view.left * scale[0], -view.top * scale[1]))
    clip_boxes = config.clip_boxes or config.crop != "square"
    labels = labels.held((height, width), clip_boxes=clip_boxes)
    for turn in range(view.turns):
        labels = labels.turned(height if turn % 2 else width)
    if view.flip:
        labels = labels.flipped(view.size[1])
    if config.min_face > 0 and len(labels.boxes):
        sides = labels.boxes[:, 2:] - labels.boxes[:, :2]
        labels = replace(labels, ignore=labels.ignore | (sides.min(1) < config.min_face))
    return labels


def render(image: Image, view: View, factor: int, fill: tuple[int, int, int]) -> Image:
    """The pixels of a view, (h,w,3) uint8.

    Args:
        image: (H,W,3), the original or one that `images.read_reduced` decoded smaller.
        view: what is shown, in pixels of the original.
        factor: how many pixels of the original one pixel of `image` spans, at most `view.shrink`.
        fill: RGB where the view reaches beyond the image.

    Differs: SCRFD's authors' code fills with 128.
    """
    import cv2

    if view.color_first:
        image = recolor(image, view.colors)
    image = _cut(image, view, factor, fill)
    if not view.color_first:
        image = recolor(image, view.colors)
    if view.turns:
        turns = (cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)
        image = np.asarray(cv2.rotate(image, turns[view.turns - 1]), np.uint8)
    if view.flip:
        image = np.asarray(cv2.flip(image, 1), np.uint8)
    return np.require(image, requirements=["C", "W"])


def _cut(image: Image, view: View, factor: int, fill: tuple[int, int, int]) -> Image:
    """The part that is shown, resized."""
    height, width = view.upright_size
    if isinstance(view.left, int):
        return _square(image, view, factor, fill)
    # It begins between pixels, but on a pixel of the resized image: resize that up to its end.
    step_y, step_x = view.height / height / factor, view.width / width / factor
    above, before = round(view.top / factor / step_y), round(view.left / factor / step_x)
    end_y, end_x = above + height, before + width
    extent = (min(end_y * step_y, image.shape[0]), min(end_x * step_x, image.shape[1]))
    return resize(image, (end_y, end_x), extent)[above:, before:]


def _square(image: Image, view: View, factor: int, fill: tuple[int, int, int]) -> Image:
    """The square that is shown, resized, `fill` where it reaches beyond the image.

    Of a square far larger than the image, `resize` would first average blocks of pixels. Those of
    nothing but `fill` are left out here and put around the averages: the same in far less memory.
    """
    import cv2

    numbers = (view.left, view.top, view.left + view.width, view.top + view.height)
    left, top, right, bottom = (round(number) // factor for number in numbers)
    inner = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    side, before = right - left, (max(-top, 0), max(-left, 0))
    if not any(before) and inner.shape[:2] == (side, side):
        return resize(inner, view.upright_size)
    block = max(side // view.size[0], 1)
    if block > min(inner.shape[:2]):
        block = 1
    count, rest = divmod(side, block)
    inner = inner[: side - rest - before[0], : side - rest - before[1]]
    first, (y, x) = [n // block for n in before], [n % block for n in before]
    after = [-(n + length) % block for n, length in zip((y, x), inner.shape, strict=False)]
    around = partial(cv2.copyMakeBorder, borderType=cv2.BORDER_CONSTANT, value=fill)
    part = np.asarray(around(inner, y, after[0], x, after[1]), np.uint8)
    rows, columns = part.shape[0] // block, part.shape[1] // block
    part = resize(part, (rows, columns))
    last = (count - first[0] - rows, count - first[1] - columns)
    window = around(part, first[0], last[0], first[1], last[1])
    if rest:  # the last block once more, as in `resize`
        window = cv2.copyMakeBorder(window, 0, 1, 0, 1, cv2.BORDER_REPLICATE)
    return resize(np.asarray(window, np.uint8), view.upright_size, (side / block, side / block))
