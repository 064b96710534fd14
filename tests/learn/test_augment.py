import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facefind.learn.augment import (
    Labels,
    Window,
    crop,
    crop_labels,
    draw_scale,
    draw_whole_face_window,
    draw_window,
    flip,
    recolor_and_flip,
    resize_and_crop,
    window_for,
)
from facefind.learn.recipe import AugmentConfig, ResizedConfig

SIDES = AugmentConfig().crop_sides


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
    _, kept = crop(image, labels, window, 64, (1, 2, 3))
    if (~labels.ignore).any():
        assert (~kept.ignore).any()


@settings(max_examples=100, deadline=None)
@given(scenes())
def test_boxes_and_points_move_with_the_pixels(scene):
    rng, image, labels = scene
    window = draw_window(image.shape[:2], labels, SIDES, rng)
    cut, kept = crop(image, labels, window, 64, (0, 0, 0))
    assert cut.shape == (64, 64, 3)
    assert (kept.boxes >= 0).all()
    assert (kept.boxes <= 64).all()
    scale = window.side / 64
    origin = np.array([window.left, window.top])
    back = kept.landmarks * scale + origin
    for row in back[np.isfinite(back).all((1, 2))]:
        assert np.isclose(labels.landmarks, row, atol=0.05).all((1, 2)).any()


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
    box = Labels(
        np.array([[30, 10, 40, 20]], np.float32),
        np.full((1, 5, 2), np.nan, np.float32),
        np.zeros(1, bool),
    )
    cut, kept = crop(image, box, Window(20, 0, 40), 80, (9, 9, 9))
    x1, y1, x2, y2 = kept.boxes[0].astype(int)
    assert (x1, y1, x2, y2) == (20, 20, 40, 40)
    assert (cut[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2] == (10, 200, 30)).all()
    outside, _ = crop(image, box, Window(-10, -10, 80), 80, (9, 8, 7))
    assert (outside[:10] == (9, 8, 7)).all()


def test_a_shrunken_image_gives_the_same_crop():
    rng = np.random.default_rng(0)
    smooth = np.repeat(np.repeat(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8), 4, 0), 4, 1)
    labels = labeled(rng, smooth.shape[:2], 3)
    whole, faces = crop(smooth, labels, Window(8, 8, 64), 16, (0, 0, 0))
    quarter, same = crop(smooth[::4, ::4], labels, Window(8, 8, 64), 16, (0, 0, 0), 4)
    assert np.array_equal(faces.boxes, same.boxes)
    assert np.abs(whole.astype(int) - quarter).max() <= 1


def test_an_image_without_faces_gives_a_crop():
    empty = Labels(np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32), np.zeros(0, bool))
    rng = np.random.default_rng(0)
    window = draw_window((50, 70), empty, SIDES, rng)
    cut, kept = crop(np.zeros((50, 70, 3), np.uint8), empty, window, 32, (0, 0, 0))
    assert cut.shape == (32, 32, 3)
    assert len(kept.boxes) == 0


@settings(max_examples=50, deadline=None)
@given(scenes())
def test_flip_twice_is_nothing_and_left_stays_left(scene):
    _, image, labels = scene
    once_image, once = flip(image, labels)
    twice_image, twice = flip(once_image, once)
    assert np.array_equal(twice_image, image)
    assert np.allclose(twice.boxes, labels.boxes, atol=1e-4)
    assert np.allclose(twice.landmarks, labels.landmarks, atol=1e-4, equal_nan=True)
    # the right eye of the original is the left one of its mirror image
    width = image.shape[1]
    assert np.allclose(
        once.landmarks[:, 0, 0], width - labels.landmarks[:, 1, 0], atol=1e-4, equal_nan=True
    )


def test_small_faces_are_ignored():
    labels = Labels(
        np.array([[0, 0, 3, 9], [0, 0, 9, 9]], np.float32),
        np.full((2, 5, 2), np.nan, np.float32),
        np.zeros(2, bool),
    )
    config = AugmentConfig(min_face=4, color=False, flip=0)
    _, out = recolor_and_flip(
        np.zeros((16, 16, 3), np.uint8), labels, config, np.random.default_rng(0)
    )
    assert out.ignore.tolist() == [True, False]


def test_boxes_end_at_the_border_unless_told_otherwise():
    boxes = np.array([[-20, 10, 60, 70], [90, 90, 130, 140]], np.float32)
    labels = Labels(boxes, np.full((2, 5, 2), -3, np.float32), np.array([False, True]))
    window = Window(0, 0, 100)
    cut = crop_labels(labels, window, 50)
    assert cut.boxes.tolist() == [[0, 5, 30, 35], [45, 45, 50, 50]]
    uncut = crop_labels(labels, window, 50, clip_boxes=False)
    assert uncut.boxes.tolist() == [[-10, 5, 30, 35], [45, 45, 65, 70]]
    assert (cut.landmarks == -1.5).all()
    assert (uncut.landmarks == -1.5).all()
    image = np.zeros((100, 100, 3), np.uint8)
    _, same = crop(image, labels, window, 50, (0, 0, 0), clip_boxes=False)
    assert np.array_equal(same.boxes, uncut.boxes)


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


def faces(*boxes):
    count = len(boxes)
    points = np.full((count, 5, 2), np.nan, np.float32)
    return Labels(np.array(boxes, np.float32).reshape(-1, 4), points, np.zeros(count, bool))


def test_where_no_window_holds_a_face_the_image_stands_on_a_square():
    rng = np.random.default_rng(0)
    config = AugmentConfig(crop_policy="whole-face", crop_sides=(0.5,))
    tall = faces([10, 5, 50, 80])
    assert window_for(config, (90, 60), tall, rng) == Window(0, 0, 90)
    assert window_for(config, (90, 60), faces(), rng) == Window(0, 0, 90)
    image = np.full((90, 60, 3), 200, np.uint8)
    cut, kept = crop(image, tall, Window(0, 0, 90), 45, (1, 2, 3))
    assert (cut[:, 31:] == (1, 2, 3)).all()
    assert kept.boxes.tolist() == [[5, 2.5, 25, 40]]
    center = AugmentConfig(crop_policy="face-center", crop_sides=(0.5,))
    assert window_for(center, (90, 60), tall, rng).side == 30
    anywhere = AugmentConfig(crop_policy="whole-face", crop_sides=(0.5,), background=1.0)
    assert window_for(anywhere, (90, 60), tall, rng).side == 30


def test_scales_are_those_of_the_recipe_up_to_the_longer_side():
    config, rng = ResizedConfig(), np.random.default_rng(0)
    scales = {draw_scale((600, 1000), config, rng) for _ in range(60)}
    assert sorted(scales) == pytest.approx([400 / 600, 800 / 600, 1200 / 600])
    wide = {draw_scale((600, 1800), config, rng) for _ in range(60)}
    assert sorted(wide) == pytest.approx([400 / 600, 2000 / 1800])


@settings(max_examples=60, deadline=None)
@given(scenes(), st.floats(0.4, 2.0))
def test_a_part_is_large_and_holds_a_face(scene, scale):
    rng, image, labels = scene
    size = tuple(round(side * scale) for side in image.shape[:2])
    config = ResizedConfig(crop_prob=1.0, min_crop=0.6)
    cut, kept = resize_and_crop(image, labels, image.shape[:2], scale, config, rng)
    for got, full in zip(cut.shape[:2], size, strict=True):
        assert 0.6 * full - 1 <= got <= full
    if cut.shape[:2] != size:
        assert (~kept.ignore).any()
    assert (kept.boxes >= 0).all()
    assert (kept.boxes <= np.tile(cut.shape[1::-1], 2)).all()
    never = ResizedConfig(crop_prob=0.0)
    whole, same = resize_and_crop(image, labels, image.shape[:2], scale, never, rng)
    assert whole.shape[:2] == size
    middle = (labels.boxes[:, :2] + labels.boxes[:, 2:]) / 2
    inside = (middle * np.divide(size, image.shape[:2])[::-1] < size[::-1]).all(1)
    assert len(same.boxes) >= (inside & ~labels.ignore).sum()


def test_a_part_shows_the_right_pixels():
    rng = np.random.default_rng(1)
    image = np.zeros((60, 90, 3), np.uint8)
    image[20:40, 30:60] = 220
    for _ in range(10):
        config = ResizedConfig(crop_prob=1.0)
        cut, kept = resize_and_crop(image, faces([30, 20, 60, 40]), (60, 90), 2.0, config, rng)
        (x1, y1, x2, y2) = kept.boxes[0].astype(int)
        assert (cut[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2] > 215).all()
        outside = cut.copy()
        outside[max(y1 - 2, 0) : y2 + 2, max(x1 - 2, 0) : x2 + 2] = 0
        assert (outside < 5).all()
