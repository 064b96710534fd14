"""Images kept on a device give the batches that the host gives."""

import dataclasses
import itertools
import math
import shutil

import numpy as np
import PIL.Image
import pytest
import torch

from facefind import datasets
from facefind.errors import DataError
from facefind.learn import augment, checkpoints, device_images, rendering
from facefind.learn.device_images import DeviceImages, device_loader, on_device
from facefind.learn.engine import train
from facefind.learn.index_sampler import Epochs, IndexSampler, sized
from facefind.learn.jitter import Colors
from facefind.learn.loader import TrainingSet, loader
from facefind.learn.recipe import AugmentConfig, ResizedConfig

CPU = torch.device("cpu")
SQUARE = AugmentConfig(size=64, crop_sides=(0.2, 0.5, 0.9, 1.3), background=0.2, min_face=4.0)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Labeled pictures as smooth as photographs, of odd sides."""
    root = tmp_path_factory.mktemp("photographs")
    rng, lines = np.random.default_rng(0), []
    for number in range(8):
        height, width = (int(v) for v in rng.integers(180, 260, 2) | 1)
        coarse = PIL.Image.fromarray(rng.integers(0, 256, (14, 14, 3), dtype=np.uint8))
        place = root / "images" / "0--Event" / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((width, height), PIL.Image.Resampling.BICUBIC).save(place)
        boxes = [f"{20 * k} {15 * k} {8 + 20 * k} {10 + 18 * k} 0 0 0 0 0 0" for k in range(1, 5)]
        lines += [f"0--Event/{number}.png", "4", *boxes]
    (root / "some_bbx_gt.txt").write_text("\n".join(lines) + "\n")
    return root


def both(root, config, batches=3, size_at=lambda step: None):
    """Batches of the host, and of the device."""
    samples = datasets.read(root)
    kept = on_device("device", samples, CPU, fill=config.fill)

    def sampler():
        pairs = IndexSampler(Epochs([""] * len(samples), seed=3))
        return sized(pairs, 6, size_at)

    host = loader(TrainingSet(samples, config, 1, "host"), sampler(), batch=6)
    device = device_loader(TrainingSet(samples, config, 1), kept, sampler(), batch=6)
    return zip(itertools.islice(host, batches), device, strict=False)


@pytest.mark.parametrize(
    "config",
    [
        SQUARE,
        dataclasses.replace(SQUARE, turned=0.8, gray=0.3, channel_shuffle=True),
        dataclasses.replace(SQUARE, jitter="ssd-float", clip_boxes=False),
        dataclasses.replace(SQUARE, jitter="mild", crop_policy="whole-face"),
        dataclasses.replace(SQUARE, jitter="brightness", gray=0.5),
        dataclasses.replace(SQUARE, color=False),
        AugmentConfig(crop="resized", resized=ResizedConfig(short_sides=(90, 180)), turned=0.5),
    ],
    ids=["ssd", "turned", "float", "mild", "brightness", "plain", "resized"],
)
def test_windows_are_the_same_and_pixels_within_a_level(photographs, config):
    for host, device in both(photographs, config):
        assert device.names == host.names
        assert device.images.shape == host.images.shape
        assert device.images.dtype == torch.uint8
        for name, value in vars(host.targets).items():
            assert torch.equal(value, getattr(device.targets, name)), name
        off = (host.images.float() - device.images.float()).abs().mean((1, 2, 3))
        assert off.mean() < 1
        assert off.max() < 3


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_darkened_pixels_differ_by_their_noise_alone(photographs, noise, monkeypatch):
    def darkened(*_):
        return Colors(gamma=1.7, light=0.6, noise=noise, seed=5)

    monkeypatch.setattr(augment, "draw_colors", darkened)
    for host, device in both(photographs, dataclasses.replace(SQUARE, dark=1.0, flip=0)):
        off = host.images.float() - device.images.float()
        assert off.mean().abs() < 0.3
        assert off.abs().mean() == pytest.approx(noise * (4 / math.pi) ** 0.5, abs=0.6)


def test_noise_is_normal_and_of_its_seed():
    like = torch.zeros(3, 120, 160, 3)
    seeds = torch.tensor([1, 2, 2**24 - 1])[:, None, None, None]
    noise = rendering._normal(seeds, like)
    assert torch.equal(noise[1:2], rendering._normal(seeds[1:2], like[:1]))
    assert noise.mean((1, 2, 3)).abs().max() < 0.02
    assert (noise.std((1, 2, 3)) - 1).abs().max() < 0.02
    assert abs((noise.abs() < 1).float().mean() - 0.683) < 0.02
    assert abs((noise.abs() < 2).float().mean() - 0.954) < 0.01
    neighbors = (noise[:, 1:], noise[:, :-1]), (noise[:, :, 1:], noise[:, :, :-1])
    for one, other in (*neighbors, (noise[..., 1:], noise[..., :-1]), (noise[1:], noise[:-1])):
        assert (one * other).mean().abs() < 0.015


def test_a_crop_size_of_its_own_reaches_the_device(photographs):
    sizes = [
        batch.images.shape[1:3] for _, batch in both(photographs, SQUARE, 2, (96, 64).__getitem__)
    ]
    assert sizes == [(96, 96), (64, 64)]


def test_what_cannot_be_read_is_left_out(tiny_set, tmp_path, caplog):
    root = tmp_path / "set"
    shutil.copytree(tiny_set, root)
    samples = datasets.read(root)
    samples[2].path.write_bytes(samples[2].path.read_bytes()[:300])
    PIL.Image.new("RGB", (64, 64)).save(samples[5].path)
    samples[5] = dataclasses.replace(samples[5], image_size=(96, 128))
    kept = on_device("device", samples, CPU)
    assert np.flatnonzero(~kept.readable).tolist() == [2, 5]
    assert samples[2].path.name in caplog.text
    assert "not (96, 128)" in caplog.text
    config = AugmentConfig(size=32)
    draws = [(index, number, 32) for index, number in enumerate((1, 2, 5, 7))]
    batch = next(device_loader(TrainingSet(samples, config), kept, iter(draws), batch=4))
    assert batch.names == [samples[number].name for number in (1, 3, 6, 7)]
    for sample in samples:
        sample.path.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 12"):
        on_device("device", samples, CPU)


def test_the_cache_option_says_where(tiny_set, monkeypatch):
    samples = datasets.read(tiny_set)
    assert on_device(None, samples, CPU) is None
    assert on_device("host", samples, CPU) is None
    assert on_device("auto", samples, CPU) is None  # the host's memory is the host cache's
    need = DeviceImages.bytes_needed([(96, 128)] * 12)
    assert need == 12 * 3 * (96 * 128 + 48 * 64 + 24 * 32)
    meta = torch.device("meta")
    monkeypatch.setattr(device_images, "_free_memory", lambda device: int(need / 0.6) - 1)
    assert on_device("auto", samples, meta) is None
    monkeypatch.setattr(device_images, "_free_memory", lambda device: need - 1)
    with pytest.raises(DataError, match=r"--cache device: the decoded images take 0\.0 GiB"):
        on_device("device", samples, CPU)


def test_a_run_on_them_is_resumed_as_if_unbroken(recipe, tmp_path):
    on_it = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, cache="device"))

    def at(name):
        return dataclasses.replace(on_it, run=dataclasses.replace(on_it.run, out=tmp_path / name))

    train(at("whole"))
    train(at("parts"), stop_at=3)
    train(at("parts"), resume=True)
    whole, parts = (
        checkpoints.load(tmp_path / name / checkpoints.LAST) for name in ("whole", "parts")
    )
    assert whole["step"] == parts["step"] > 3
    for key, value in whole["ema"].items():
        assert torch.equal(value, parts["ema"][key])
