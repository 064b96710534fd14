import itertools
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch

from facefind import datasets
from facefind.errors import DataError
from facefind.learn.index_sampler import Epochs, Stream
from facefind.learn.loader import TrainingSet, decoded, loader
from facefind.learn.recipe import AugmentConfig, ResizedConfig


def take(stream, count):
    return list(itertools.islice(stream, count))


def test_an_epoch_holds_every_image_once():
    pairs = take(Stream(Epochs([""] * 7, seed=3)), 21)
    assert [place for place, _ in pairs] == list(range(21))
    epochs = [sorted(n for _, n in pairs[i : i + 7]) for i in (0, 7, 14)]
    assert epochs == [list(range(7))] * 3
    assert [n for _, n in pairs[:7]] != [n for _, n in pairs[7:14]]


def test_a_stream_goes_on_anywhere_and_is_shared_without_loss():
    groups = ["a"] * 5 + ["b"]
    epochs = Epochs(groups, seed=1, balance=0.5)
    whole = take(Stream(epochs), 40)
    assert take(Stream(epochs, start=13), 20) == whole[13:33]
    shares = [take(Stream(epochs, start=6, rank=r, processes=2), 10) for r in (0, 1)]
    assert sorted(shares[0] + shares[1]) == whole[6:26]


def test_balance_makes_groups_alike():
    groups = ["common"] * 90 + ["rare"] * 10
    drawn = [n for _, n in take(Stream(Epochs(groups, seed=0, balance=1.0)), 4000)]
    rare = sum(n >= 90 for n in drawn) / len(drawn)
    assert 0.45 < rare < 0.55
    with pytest.raises(DataError, match="balance"):
        Epochs(groups, seed=0, balance=2.0)


def test_items_depend_on_the_place_alone(tiny_set):
    dataset = TrainingSet(datasets.read(tiny_set), AugmentConfig(size=64), seed=5)
    image, target, name = dataset[(17, 3)]
    again, same, _ = dataset[(17, 3)]
    other, _, _ = dataset[(18, 3)]
    assert image.shape == (3, 64, 64)
    assert torch.equal(image, again)
    assert torch.equal(target.boxes, same.boxes)
    assert not torch.equal(image, other)
    assert name == dataset.samples[3].name


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_whoever_loads(tiny_set, workers):
    dataset = TrainingSet(datasets.read(tiny_set), AugmentConfig(size=64), seed=5)
    stream = Stream(Epochs([""] * 12, seed=5), start=6)
    batches = iter(loader(dataset, stream, batch=3, workers=workers))
    images, targets, names = next(batches)
    assert images.dtype == torch.uint8
    assert images.shape == (3, 3, 64, 64)
    assert len(targets) == len(names) == 3
    assert torch.equal(images, torch.stack([dataset[pair][0] for pair in take(stream, 3)]))


def test_the_cache_gives_the_same_image(tiny_set, tmp_path):
    path = datasets.read(tiny_set)[0].path
    plain = decoded(path, None)
    assert np.array_equal(decoded(path, tmp_path), plain)
    assert np.array_equal(decoded(path, tmp_path), plain)  # now from the cache
    assert len(list(tmp_path.iterdir())) == 1


def test_a_jpeg_is_decoded_small_and_faster(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (150, 200, 3), dtype=np.uint8)
    path = tmp_path / "large.jpg"
    PIL.Image.fromarray(noise).resize((1600, 1200)).save(path)
    whole, quarter = decoded(path, None), decoded(path, None, shrink=4)
    assert quarter.shape == (300, 400, 3)
    boxed = whole.reshape(300, 4, 400, 4, 3).mean((1, 3))
    assert np.abs(boxed - quarter).mean() < 6


def test_an_unreadable_image_is_passed_over(tiny_set, tmp_path, caplog):
    samples = datasets.read(tiny_set)
    empty = tmp_path / "empty.jpg"
    empty.touch()
    broken = type(samples[0])(
        name="broken", path=empty, boxes=samples[0].boxes, image_size=(96, 128)
    )
    dataset = TrainingSet([broken, samples[1]], AugmentConfig(size=64))
    assert dataset[(0, 0)][2] == samples[1].name
    assert "empty.jpg" in caplog.text
    with pytest.raises(DataError, match="none of the 1"):
        TrainingSet([broken], AugmentConfig(size=64))[(0, 0)]


def test_no_images_is_an_error():
    with pytest.raises(DataError, match=r"--data\.root"):
        TrainingSet([], AugmentConfig())


RESIZED = AugmentConfig(
    crop="resized",
    fill=(9, 8, 7),
    resized=ResizedConfig(short_sides=(48, 80), long_side=100, multiple=16),
)


def test_images_of_many_sizes_are_padded_to_a_batch(tiny_set):
    dataset = TrainingSet(datasets.read(tiny_set), RESIZED, seed=5)
    stream = Stream(Epochs([""] * 12, seed=5))
    for images, targets, _ in itertools.islice(loader(dataset, stream, batch=4), 3):
        assert images.dtype == torch.uint8
        assert images.shape[2] % 16 == images.shape[3] % 16 == 0
        assert len({target.size for target in targets}) > 1
        for image, target in zip(images, targets, strict=True):
            height, width = target.size
            below, right = image[:, height:], image[:, :, width:]
            for part in (below, right):
                want = torch.tensor([9, 8, 7], dtype=torch.uint8)[:, None, None].expand_as(part)
                assert torch.equal(part, want)
            assert (target.boxes <= torch.tensor([width, height] * 2)).all()
        assert images.shape[2] - max(t.size[0] for t in targets) < 16


def test_one_image_alone_is_padded_to_the_multiple(tiny_set):
    dataset = TrainingSet(datasets.read(tiny_set), RESIZED, seed=5)
    stream = Stream(Epochs([""] * 12, seed=5))
    seen = set()
    for images, (target,), _ in itertools.islice(loader(dataset, stream, batch=1), 12):
        height, width = target.size or images.shape[2:]
        assert tuple(images.shape[2:]) == (-(-height // 16) * 16, -(-width // 16) * 16)
        assert width <= 100
        seen.add((height, width))
    assert len(seen) > 4


@pytest.mark.parametrize("wrong", [{"short_sides": ()}, {"least": 0.0}, {"multiple": 0}])
def test_scales_that_make_no_sense_are_told(tiny_set, wrong):
    config = AugmentConfig(crop="resized", resized=ResizedConfig(**wrong))
    with pytest.raises(DataError, match=r"--augment\.resized"):
        TrainingSet(datasets.read(tiny_set), config)


def test_colors_may_change_before_the_resizing(tiny_set):
    sample = datasets.read(tiny_set)[3]
    pictures = {}
    for first in (False, True):
        config = replace(RESIZED, flip=0.0, resized=replace(RESIZED.resized, color_first=first))
        pictures[first], _, _ = TrainingSet([sample], config, seed=1)[(3, 0)]
        plain, _, _ = TrainingSet([sample], replace(config, color=False), seed=1)[(3, 0)]
        assert not torch.equal(plain, pictures[first])
    assert not torch.equal(pictures[True], pictures[False])


def test_squares_are_told_apart_from_padding(tiny_set):
    dataset = TrainingSet(datasets.read(tiny_set), AugmentConfig(size=72), seed=5)
    images, targets, _ = next(iter(loader(dataset, Stream(Epochs([""] * 12, seed=5)), batch=4)))
    assert images.shape == (4, 3, 72, 72)
    assert [target.size for target in targets] == [None] * 4
