import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facefind.images import resize
from facefind.learn.augment import (
    View,
    Window,
    draw_scale,
    draw_view,
    draw_whole_face_window,
    draw_window,
    render,
    view_labels,
)
from facefind.learn.jitter import Colors, recolor
from facefind.learn.labels import Labels
from facefind.learn.recipe import AugmentConfig, ResizedConfig

CONFIG = AugmentConfig()
SIDES = CONFIG.crop_sides
FILL = (9, 8, 7)


def square(left, top, side, size, **more):
    return View(left, top, side, side, (size, size), **more)


def faces(*boxes):
    count = len(boxes)
    points = np.full((count, 5, 2), np.nan, np.float32)
    return Labels(np.array(boxes, np.float32).reshape(-1, 4), points, np.zeros(count, bool))


def labeled(rng, size, count):
    height, width = size
    corners = rng.uniform(0, [width - 8, height - 8], (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(4, 60, (count, 2))], 1)
    boxes = boxes.clip(0, [width, height, width, height]).astype(np.float32)
    spots = rng.uniform(0, 1, (count, 5, 2)).astype(np.float32)
    landmarks = boxes[:, None, :2] + spots * (boxes[:, None, 2:] - boxes[:, None, :2])
    landmarks[::3] = np.nan
    return Labels(boxes, landmarks, rng.random(count) < 0.2)


@st.composite
def scenes(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    size = (int(rng.integers(20, 150)), int(rng.integers(20, 150)))
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    return rng, image, labeled(rng, size, int(rng.integers(0, 8)))


@settings(max_examples=100, deadline=None)
@given(scenes())
def test_a_window_holds_a_face_and_stays_on_the_image(scene):
    rng, image, labels = scene
    height, width = image.shape[:2]
    window = draw_window((height, width), labels, SIDES, rng)
    assert window.side in {int(side * min(height, width)) for side in SIDES}
    for low, length in ((window.left, width), (window.top, height)):
        assert min(0, length - window.side) <= low <= max(0, length - window.side)
    kept = view_labels(square(window.left, window.top, window.side, 64), labels, CONFIG)
    if (~labels.ignore).any():
        assert (~kept.ignore).any()


@settings(max_examples=100, deadline=None)
@given(scenes(), st.sampled_from([None, 32]))
def test_boxes_and_points_move_with_the_pixels(scene, size):
    rng, image, labels = scene
    config = AugmentConfig(size=64, flip=0)
    view = draw_view(config, image.shape[:2], labels, rng, size)
    side = size or 64
    assert view.size == (side, side)
    cut, kept = render(image, view, 1, FILL), view_labels(view, labels, config)
    assert cut.shape == (side, side, 3)
    assert (kept.boxes >= 0).all()
    assert (kept.boxes <= side).all()
    back = kept.landmarks * view.width / side + [view.left, view.top]
    for row in back[np.isfinite(back).all((1, 2))]:
        assert np.isclose(labels.landmarks, row, atol=0.05).all((1, 2)).any()


def test_faces_keep_their_scale_at_another_size():
    config = AugmentConfig(size=640, crop_sides=(1.0, 2.0))
    for seed in range(10):
        scales = [
            size / draw_view(config, (600, 900), faces(), np.random.default_rng(seed), size).width
            for size in (None, 640, 320)
            if size
        ]
        assert scales == pytest.approx(scales[:1] * 2)
        views = [
            draw_view(config, (600, 900), faces(), np.random.default_rng(seed), size)
            for size in (None, 640)
        ]
        assert views[0] == views[1]


def test_background_windows_may_hold_no_face():
    corner = Labels(
        np.array([[0, 0, 8, 8]], np.float32),
        np.full((1, 5, 2), np.nan, np.float32),
        np.zeros(1, bool),
    )

    def holding(background):
        rng = np.random.default_rng(0)
        windows = [
            draw_window((200, 200), corner, (0.2,), rng, background=background) for _ in range(50)
        ]
        return sum(w.left <= 4 and w.top <= 4 for w in windows)

    assert holding(0.0) == 50
    assert holding(1.0) < 10
    assert 10 < holding(0.5) < 45


def test_a_crop_shows_the_right_pixels():
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:20, 30:40] = (10, 200, 30)
    view = square(20, 0, 40, 80)
    cut = render(image, view, 1, FILL)
    x1, y1, x2, y2 = view_labels(view, faces([30, 10, 40, 20]), CONFIG).boxes[0].astype(int)
    assert (x1, y1, x2, y2) == (20, 20, 40, 40)
    assert (cut[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2] == (10, 200, 30)).all()
    outside = render(image, square(-10, -10, 80, 80), 1, FILL)
    assert (outside[:10] == FILL).all()
    assert np.array_equal(outside[10:50, 10:70], image)


@settings(max_examples=60, deadline=None)
@given(scenes(), st.integers(5, 120))
def test_a_square_is_its_pixels_resized(scene, size):
    """Against the plain way: a window with the color around the image, resized, then the rest."""
    rng, image, labels = scene
    config = AugmentConfig(size=size, turned=0.5, jitter="brightness")
    view = draw_view(config, image.shape[:2], labels, rng)
    left, top, side = view.left, view.top, view.width
    margin = 300
    canvas = np.full((image.shape[0] + 2 * margin, image.shape[1] + 2 * margin, 3), FILL, np.uint8)
    canvas[margin:-margin, margin:-margin] = image
    window = canvas[margin + top :, margin + left :][:side, :side]
    plain = np.rot90(
        recolor(resize(np.ascontiguousarray(window), (size, size)), view.colors), view.turns
    )
    plain = plain[:, ::-1] if view.flip else plain
    # What is put around blocks that are averaged may change a rounding, which colors then amplify.
    assert np.abs(render(image, view, 1, FILL).astype(int) - plain).max() <= 2


@settings(max_examples=60, deadline=None)
@given(scenes(), st.integers(3, 60), st.integers(1, 900))
def test_a_square_far_larger_than_the_image_is_its_pixels_resized(scene, size, more):
    rng, image, _ = scene
    height, width = image.shape[:2]
    side = max(height, width) + more
    top, left = rng.integers([height - side, width - side], 0, endpoint=True).tolist()
    window = np.full((side, side, 3), FILL, np.uint8)
    window[-top:][:height, -left:][:, :width] = image
    got = render(image, square(left, top, side, size), 1, FILL).astype(int)
    assert np.abs(got - resize(window, (size, size))).max() <= 1


def test_a_square_far_larger_than_the_image_is_never_made_as_a_whole():
    """As where DSFD's crops bring a face that fills a photo to 16 pixels: 300 MB and more."""
    image = np.zeros((120, 160, 3), np.uint8)
    tracemalloc.start()
    try:
        render(image, square(-700, -900, 3000, 64), 1, FILL)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_kept_image_is_never_handed_out():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    image.flags.writeable = False  # as one that a file is mapped to
    whole = View(0.0, 0.0, 60.0, 40.0, (40, 60))
    for one in (square(3, 5, 20, 20), square(0, 0, 60, 60), whole, replace(whole, flip=True)):
        out = render(image, one, 1, FILL)
        assert out.flags.writeable
        assert out.flags.c_contiguous


def test_a_shrunken_image_gives_the_same_crop():
    rng = np.random.default_rng(0)
    smooth = np.repeat(np.repeat(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8), 4, 0), 4, 1)
    view = square(8, 8, 64, 16)
    whole = render(smooth, view, 1, FILL)
    quarter = render(smooth[::4, ::4], view, 4, FILL)
    assert np.abs(whole.astype(int) - quarter).max() <= 1


@settings(max_examples=60, deadline=None)
@given(scenes(), st.integers(4, 40))
def test_a_square_lies_on_the_pixels_of_a_smaller_original(scene, size):
    rng, image, labels = scene
    view = draw_view(AugmentConfig(size=size), image.shape[:2], labels, rng)
    assert view.shrink in (1, 2, 4, 8)
    assert view.shrink == 1 or view.width >= view.shrink * size
    for number in (view.left, view.top, view.width, view.height):
        assert number % view.shrink == 0


def test_an_image_without_faces_gives_a_crop():
    config = AugmentConfig(size=32, turned=1.0, min_face=4)
    view = draw_view(config, (50, 70), faces(), np.random.default_rng(0))
    assert render(np.zeros((50, 70, 3), np.uint8), view, 1, FILL).shape == (32, 32, 3)
    assert len(view_labels(view, faces(), config).boxes) == 0


def test_small_faces_are_ignored():
    labels = faces([0, 0, 3, 9], [0, 0, 9, 9])
    out = view_labels(square(0, 0, 16, 16), labels, AugmentConfig(min_face=4))
    assert out.ignore.tolist() == [True, False]


def test_boxes_end_at_the_border_unless_told_otherwise():
    boxes = np.array([[-20, 10, 60, 70], [90, 90, 130, 140]], np.float32)
    labels = Labels(boxes, np.full((2, 5, 2), -3, np.float32), np.array([False, True]))
    view = square(0, 0, 100, 50)
    cut = view_labels(view, labels, CONFIG)
    assert cut.boxes.tolist() == [[0, 5, 30, 35], [45, 45, 50, 50]]
    uncut = view_labels(view, labels, AugmentConfig(clip_boxes=False))
    assert uncut.boxes.tolist() == [[-10, 5, 30, 35], [45, 45, 65, 70]]
    assert (cut.landmarks == -1.5).all()
    assert (uncut.landmarks == -1.5).all()


@settings(max_examples=60, deadline=None)
@given(scenes(), st.sampled_from(["square", "resized"]), st.integers(0, 3), st.booleans())
def test_boxes_lie_on_the_painted_faces_however_the_view_is_turned(scene, crop, turns, flip):
    rng, _, _ = scene
    height, width = int(rng.integers(60, 150)), int(rng.integers(60, 150))
    x, y = rng.integers(0, [width - 30, height - 30])
    w, h = rng.integers(8, 30, 2)
    image = np.zeros((height, width, 3), np.uint8)
    image[y : y + h, x : x + w] = 255
    labels = faces([x, y, x + w, y + h])
    config = AugmentConfig(
        crop=crop, size=96, color=False, resized=ResizedConfig(short_sides=(90, 120))
    )
    view = draw_view(config, (height, width), labels, rng)
    size = view.size if turns % 2 == 0 else view.size[::-1]
    view = replace(view, turns=turns, flip=flip, size=size)
    cut = render(image, view, 1, (0, 0, 0)).astype(float)[..., 0]
    assert cut.shape == size
    x1, y1, x2, y2 = view_labels(view, labels, config).boxes[0]
    # What is painted has the area and the middle of the box, to a part of a pixel.
    scale = cut.sum() / 255
    assert scale == pytest.approx((x2 - x1) * (y2 - y1), rel=0.1, abs=12)
    if min(x1, y1) > 1 and x2 < size[1] - 1 and y2 < size[0] - 1:
        middle = [
            ((np.arange(n) + 0.5) * cut.sum(axis)).sum() / cut.sum()
            for axis, n in ((0, size[1]), (1, size[0]))
        ]
        assert middle == pytest.approx([(x1 + x2) / 2, (y1 + y2) / 2], abs=0.4)


def test_turned_windows_are_as_frequent_as_the_recipe_says():
    config, rng = AugmentConfig(turned=0.6, size=32), np.random.default_rng(0)
    turns = [draw_view(config, (50, 70), faces(), rng).turns for _ in range(600)]
    counts = np.bincount(turns, minlength=4) / 600
    assert counts == pytest.approx([0.4, 0.2, 0.2, 0.2], abs=0.05)
    upright = [draw_view(CONFIG, (50, 70), faces(), rng).turns for _ in range(50)]
    assert set(upright) == {0}


@settings(max_examples=60, deadline=None)
@given(scenes())
def test_a_whole_face_window_holds_all_of_one(scene):
    rng, image, labels = scene
    size = image.shape[:2]
    window = draw_whole_face_window(size, labels, (0.3, 0.6, 1.0), rng)
    boxes = labels.boxes[~labels.ignore]
    low, high = np.array([window.left, window.top]), np.array([window.left, window.top])
    high = high + window.side
    held = ((boxes[:, :2] >= low) & (boxes[:, 2:] <= high)).all(1).any()
    whole = Window(0, 0, max(size))
    assert held or window == whole
    if window != whole:
        assert window.side in {max(int(s * min(size)), 1) for s in (0.3, 0.6, 1.0)}
        assert (low >= 0).all()
        assert window.left + window.side <= size[1]
        assert window.top + window.side <= size[0]


def test_where_no_window_holds_a_face_the_image_stands_on_a_square():
    rng = np.random.default_rng(0)
    config = AugmentConfig(crop_policy="whole-face", crop_sides=(0.5,))
    tall = faces([10, 5, 50, 80])
    whole = (0, 0, 90, 90)

    def drawn(config, labels):
        view = draw_view(config, (90, 60), labels, rng)
        return view.left, view.top, view.width, view.height

    assert drawn(config, tall) == drawn(config, faces()) == whole
    image = np.full((90, 60, 3), 200, np.uint8)
    view = square(*whole[:3], 45)
    assert (render(image, view, 1, FILL)[:, 31:] == FILL).all()
    assert view_labels(view, tall, config).boxes.tolist() == [[5, 2.5, 25, 40]]
    assert drawn(replace(config, crop_policy="face-center"), tall)[2] == 30
    assert drawn(replace(config, background=1.0), tall)[2] == 30


def test_scales_are_those_of_the_recipe_up_to_the_longer_side():
    config, rng = ResizedConfig(), np.random.default_rng(0)
    scales = {draw_scale((600, 1000), config, rng) for _ in range(60)}
    assert sorted(scales) == pytest.approx([400 / 600, 800 / 600, 1200 / 600])
    wide = {draw_scale((600, 1800), config, rng) for _ in range(60)}
    assert sorted(wide) == pytest.approx([400 / 600, 2000 / 1800])


@settings(max_examples=60, deadline=None)
@given(scenes(), st.integers(20, 150), st.sampled_from([1, 2]))
def test_a_part_is_large_and_holds_a_face(scene, short, factor):
    """Against the plain way: the whole image resized, then cut."""
    rng, image, labels = scene
    height, width = image.shape[:2]
    small = image[::factor, ::factor]
    scale = short / min(height, width)
    full = (max(round(height * scale), 1), max(round(width * scale), 1))
    resized = ResizedConfig(short_sides=(short,), crop_prob=1.0, min_crop=0.6)
    config = AugmentConfig(crop="resized", resized=resized, color=False, flip=0)
    view = draw_view(config, (height, width), labels, rng)
    cut, kept = render(small, view, factor, FILL), view_labels(view, labels, config)
    for got, side in zip(cut.shape[:2], full, strict=True):
        assert 0.6 * side - 1 <= got <= side
    if view.size != full:
        assert (~kept.ignore).any()
    assert (kept.boxes >= 0).all()
    assert (kept.boxes <= np.tile(cut.shape[1::-1], 2)).all()
    whole = resize(small, full, (height / factor, width / factor))
    top, left = (
        round(corner * there / here)
        for corner, there, here in zip((view.top, view.left), full, (height, width), strict=True)
    )
    part = whole[top : top + view.size[0], left : left + view.size[1]]
    assert np.array_equal(part, cut)
    never = replace(config, resized=replace(resized, crop_prob=0.0))
    assert draw_view(never, (height, width), labels, rng).size == full


def test_colors_may_change_before_the_resizing():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    colors = Colors(gain=1.4, bias=20, saturation=0.6)
    before, after = (
        View(0.0, 0.0, 60.0, 40.0, (20, 30), colors=colors, color_first=f) for f in (True, False)
    )
    assert np.array_equal(render(image, before, 1, FILL), resize(recolor(image, colors), (20, 30)))
    assert np.array_equal(render(image, after, 1, FILL), recolor(resize(image, (20, 30)), colors))
