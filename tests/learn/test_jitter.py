import colorsys

import numpy as np
import pytest

from facefind.learn.augment import recolor
from facefind.learn.jitter import LUMA, mild, photometric, photometric_float
from facefind.learn.recipe import AugmentConfig

WAYS = {
    "ssd": lambda image, rng: photometric(image, rng, channel_shuffle=True),
    "ssd-float": photometric_float,
    "mild": mild,
    "brightness": lambda image, rng: mild(image, rng, brightness_only=True),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(10))
def test_form_is_kept_and_the_input_left(way, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    before = image.copy()
    out = WAYS[way](image, rng)
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    assert np.array_equal(image, before)


@pytest.mark.parametrize("way", WAYS)
def test_light_and_color_do_change(way):
    image = np.full((8, 8, 3), (120, 80, 40), np.uint8)
    means = {tuple(WAYS[way](image, np.random.default_rng(s)).mean((0, 1))) for s in range(40)}
    assert len(means) > 20


def test_the_two_distortions_differ_by_rounding_alone():
    """The same draws give nearly the same image: hue steps of 8 bits are 1.4 degrees."""
    image = np.random.default_rng(0).integers(30, 220, (12, 12, 3), dtype=np.uint8)
    for seed in range(40):
        a = photometric(image, np.random.default_rng(seed)).astype(int)
        b = photometric_float(image, np.random.default_rng(seed)).astype(int)
        assert np.abs(a - b).mean() < 4


def test_saturation_and_hue_are_those_of_the_standard_library():
    """Draws with neither brightness nor contrast: every pixel turns and fades by one law."""
    image = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    found = 0
    for seed in range(80):
        draws = np.random.default_rng(seed)
        if draws.random() < 0.5:
            continue
        draws.random()
        if draws.random() < 0.5:
            continue
        saturation = draws.uniform(0.5, 1.5) if draws.random() < 0.5 else 1.0
        hue = draws.uniform(-18, 18) if draws.random() < 0.5 else 0.0
        out = photometric_float(image, np.random.default_rng(seed)).reshape(-1, 3)
        for before, after in zip(image.reshape(-1, 3), out, strict=True):
            h, s, v = colorsys.rgb_to_hsv(*(before / 255))
            want = colorsys.hsv_to_rgb((h + hue / 360) % 1, min(s * saturation, 1), v)
            assert np.abs(np.array(want) * 255 - after).max() <= 0.51
        found += 1
    assert found > 5


def test_mild_changes_are_mild():
    image = np.random.default_rng(0).integers(60, 180, (8, 8, 3), dtype=np.uint8)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        ratio = mild(image, rng, brightness_only=True) / image
        assert 0.86 < ratio.min() <= ratio.max() < 1.14
        assert np.ptp(ratio) < 0.02  # one factor for all
        out = mild(image, np.random.default_rng(seed)).astype(float)
        gray = np.abs((out @ LUMA).mean() / (image @ LUMA).mean() - 1)
        assert gray < 0.13  # contrast and saturation leave the mean gray


def test_the_recipe_says_how():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for way in WAYS:
        config = AugmentConfig(jitter=way, channel_shuffle=True)
        got = recolor(image, config, np.random.default_rng(5))
        assert np.array_equal(got, WAYS[way](image, np.random.default_rng(5)))
    assert recolor(image, AugmentConfig(color=False), np.random.default_rng(5)) is image
