import colorsys
from dataclasses import replace

import numpy as np
import pytest

from facefind.learn.jitter import BRIGHTNESS, CONTRAST, LUMA, Colors, draw_colors, recolor
from facefind.learn.recipe import AugmentConfig

WAYS = {
    "ssd": AugmentConfig(channel_shuffle=True),
    "ssd-float": AugmentConfig(jitter="ssd-float"),
    "mild": AugmentConfig(jitter="mild"),
    "brightness": AugmentConfig(jitter="brightness"),
    "gray": AugmentConfig(gray=0.5),
}


def changed(way, image, seed):
    return recolor(image, draw_colors(WAYS[way], np.random.default_rng(seed)))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(10))
def test_form_is_kept_and_the_input_left(way, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    before = image.copy()
    out = changed(way, image, seed)
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    assert np.array_equal(image, before)


@pytest.mark.parametrize("way", WAYS)
def test_light_and_color_do_change(way):
    image = np.full((8, 8, 3), (120, 80, 40), np.uint8)
    means = {tuple(changed(way, image, s).mean((0, 1))) for s in range(40)}
    assert len(means) > 20


def test_the_two_distortions_differ_by_rounding_alone():
    """The same draws give nearly the same image: hue steps of 8 bits are 1.4 degrees."""
    image = np.random.default_rng(0).integers(30, 220, (12, 12, 3), dtype=np.uint8)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        colors = draw_colors(AugmentConfig(), rng)
        assert replace(colors, rounded=False) == draw_colors(
            WAYS["ssd-float"], np.random.default_rng(seed)
        )
        a = recolor(image, colors).astype(int)
        b = recolor(image, replace(colors, rounded=False)).astype(int)
        assert np.abs(a - b).mean() < 4


def test_saturation_and_hue_are_those_of_the_standard_library():
    image = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    for saturation, hue in [(1.0, 17.0), (0.6, 0.0), (1.4, -12.0), (1.5, 18.0)]:
        colors = Colors(saturation=saturation, hue=hue, rounded=False)
        out = recolor(image, colors).reshape(-1, 3)
        for before, after in zip(image.reshape(-1, 3), out, strict=True):
            h, s, v = colorsys.rgb_to_hsv(*(before / 255))
            want = colorsys.hsv_to_rgb((h + hue / 360) % 1, min(s * saturation, 1), v)
            assert np.abs(np.array(want) * 255 - after).max() <= 0.51


def test_a_hue_turns_by_the_recipe_s_degrees_at_most():
    for most in (18, 36):
        config = AugmentConfig(hue=most)
        turns = [abs(draw_colors(config, np.random.default_rng(s)).hue) for s in range(99)]
        assert 0.9 * most < max(turns) <= most


def test_light_is_a_line_through_the_values():
    image = np.arange(256, dtype=np.uint8)[:, None, None].repeat(3, 2)
    gray = np.arange(256.0)
    for rounded in (True, False):
        out = recolor(image, Colors(gain=1.3, bias=-20, gain_after=0.5, rounded=rounded))
        want = (gray * 1.3 - 20).clip(0, 255) * 0.5 if rounded else ((gray * 1.3 - 20) * 0.5)
        assert np.abs(out[:, 0, 0] - want.clip(0, 255)).max() <= 1.01


def test_channels_change_places():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    out = recolor(image, Colors(order=(2, 0, 1)))
    assert np.array_equal(out, image[..., [2, 0, 1]])
    orders = {draw_colors(WAYS["ssd"], np.random.default_rng(s)).order for s in range(80)}
    assert len(orders) == 6
    assert {draw_colors(AugmentConfig(), np.random.default_rng(s)).order for s in range(9)} == {
        (0, 1, 2)
    }


def test_mild_changes_are_mild():
    image = np.random.default_rng(0).integers(60, 180, (8, 8, 3), dtype=np.uint8)
    for seed in range(30):
        ratio = changed("brightness", image, seed) / image
        assert 0.86 < ratio.min() <= ratio.max() < 1.14
        assert np.ptp(ratio) < 0.02  # one factor for all
        out = changed("mild", image, seed).astype(float)
        gray = np.abs((out @ LUMA).mean() / (image @ LUMA).mean() - 1)
        assert gray < 0.13  # contrast and saturation leave the mean gray


def test_mild_changes_follow_each_other():
    """Step by step, as their definitions say, against the one map that `recolor` uses."""
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    seen = set()
    for seed in range(40):
        colors = draw_colors(WAYS["mild"], np.random.default_rng(seed))
        seen.add(tuple(change for change, _ in colors.mild))
        plain = image.astype(float)
        for change, factor in colors.mild:
            gray = plain @ LUMA
            if change == BRIGHTNESS:
                plain = plain * factor
            elif change == CONTRAST:
                plain = gray.mean() + (plain - gray.mean()) * factor
            else:
                plain = gray[..., None] + (plain - gray[..., None]) * factor
        assert np.abs(recolor(image, colors) - plain.clip(0, 255)).max() <= 1
    assert len(seen) == 6


def test_gray_is_the_gray_of_each_pixel():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    out = recolor(image, Colors(gray=True))
    assert np.abs(out - (image @ LUMA)[..., None]).max() < 0.7
    assert (out == out[..., :1]).all()
    drawn = [
        draw_colors(AugmentConfig(gray=0.3), np.random.default_rng(s)).gray for s in range(400)
    ]
    assert 0.2 < np.mean(drawn) < 0.4


def test_a_darkened_image_has_a_gamma_less_light_and_noise():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    out = recolor(image, Colors(gamma=2, light=0.5))
    assert np.abs(out - 127.5 * (image / 255.0) ** 2).max() <= 0.5 + 1e-4
    even = np.full((200, 200, 3), 100, np.uint8)
    noisy = recolor(even, Colors(noise=4, seed=3)).astype(float)
    assert abs(noisy.mean() - 100) < 0.1
    assert abs(noisy.std() - 4) < 0.1
    assert np.array_equal(noisy, recolor(even, Colors(noise=4, seed=3)))
    assert not np.array_equal(noisy, recolor(even, Colors(noise=4, seed=4)))
    drawn = [draw_colors(AugmentConfig(dark=0.5), np.random.default_rng(s)) for s in range(400)]
    dark = [colors for colors in drawn if colors.gamma != 1]
    assert 160 < len(dark) < 240
    assert all(0.05 <= c.light <= 1 < c.gamma < 3 and 0 < c.noise < 5 for c in dark)


def test_without_color_nothing_changes():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    colors = draw_colors(AugmentConfig(color=False), np.random.default_rng(5))
    assert colors == Colors()
    assert recolor(image, colors) is image
