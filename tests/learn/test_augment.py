import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facefind.learn.augment import (
    Labels,
    Window,
    crop,
    crop_labels,
    draw_window,
    flip,
    photometric,
    recolor_and_flip,
)
from facefind.learn.recipe import AugmentConfig

SIDES = AugmentConfig().crop_sides


def labelled(rng, size, count):
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
    return rng, image, labelled(rng, size, int(rng.integers(0, 8)))


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
    labels = labelled(rng, smooth.shape[:2], 3)
    whole, faces = crop(smooth, labels, Window(8, 8, 64), 16, (0, 0, 0))
    quarter, same = crop(smooth[::4, ::4], labels, Window(8, 8, 64), 16, (0, 0, 0), shrink=4)
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


@pytest.mark.parametrize("seed", range(20))
def test_photometric_keeps_form_and_leaves_its_input(seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    before = image.copy()
    out = photometric(image, rng, channel_shuffle=True)
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    assert np.array_equal(image, before)


def test_photometric_does_change_light_and_colour():
    image = np.full((8, 8, 3), (120, 80, 40), np.uint8)
    means = {tuple(photometric(image, np.random.default_rng(s)).mean((0, 1))) for s in range(40)}
    assert len(means) > 20


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
    uncut = crop_labels(labels, window, 50, cut_boxes=False)
    assert uncut.boxes.tolist() == [[-10, 5, 30, 35], [45, 45, 65, 70]]
    assert (cut.landmarks == -1.5).all()
    assert (uncut.landmarks == -1.5).all()
    image = np.zeros((100, 100, 3), np.uint8)
    _, same = crop(image, labels, window, 50, (0, 0, 0), cut_boxes=False)
    assert np.array_equal(same.boxes, uncut.boxes)
