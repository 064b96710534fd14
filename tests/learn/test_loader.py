import itertools
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch

from facefind import datasets, images
from facefind.errors import DataError
from facefind.learn.index_sampler import Epochs, IndexSampler
from facefind.learn.loader import TrainingSet, ahead, loader, worker_count
from facefind.learn.recipe import AugmentConfig, DataConfig, Phase, ResizedConfig
from facefind.runtimes import cpu


def take(sampler, count):
    return list(itertools.islice(sampler, count))


def test_an_epoch_holds_every_image_once():
    pairs = take(IndexSampler(Epochs([""] * 7, seed=3)), 21)
    assert [index for index, _ in pairs] == list(range(21))
    epochs = [sorted(n for _, n in pairs[i : i + 7]) for i in (0, 7, 14)]
    assert epochs == [list(range(7))] * 3
    assert [n for _, n in pairs[:7]] != [n for _, n in pairs[7:14]]


def test_a_sampler_starts_anywhere_and_is_shared_without_loss():
    groups = ["a"] * 5 + ["b"]
    epochs = Epochs(groups, seed=1, balance=0.5)
    whole = take(IndexSampler(epochs), 40)
    assert take(IndexSampler(epochs, start=13), 20) == whole[13:33]
    shares = [take(IndexSampler(epochs, start=6, rank=r, processes=2), 10) for r in (0, 1)]
    assert sorted(shares[0] + shares[1]) == whole[6:26]


def test_balance_makes_groups_alike():
    groups = ["common"] * 90 + ["rare"] * 10
    drawn = [n for _, n in take(IndexSampler(Epochs(groups, seed=0, balance=1.0)), 4000)]
    rare = sum(n >= 90 for n in drawn) / len(drawn)
    assert 0.45 < rare < 0.55
    with pytest.raises(DataError, match="balance"):
        Epochs(groups, seed=0, balance=2.0)


def test_items_depend_on_the_index_alone(tiny_set):
    dataset = TrainingSet(datasets.read(tiny_set), AugmentConfig(size=64), seed=5)
    image, target, name = dataset[(17, 3)]
    again, same, _ = dataset[(17, 3)]
    other, _, _ = dataset[(18, 3)]
    assert image.shape == (64, 64, 3)
    assert torch.equal(image, again)
    assert torch.equal(target.boxes, same.boxes)
    assert not torch.equal(image, other)
    assert name == dataset.samples[3].name


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_whoever_loads(tiny_set, workers):
    dataset = TrainingSet(datasets.read(tiny_set), AugmentConfig(size=64), seed=5)
    sampler = IndexSampler(Epochs([""] * 12, seed=5), start=6)
    batches = iter(loader(dataset, sampler, batch=3, workers=workers))
    images, targets, names = next(batches)
    assert images.dtype == torch.uint8
    assert images.shape == (3, 64, 64, 3)
    assert len(targets) == len(names) == 3
    assert torch.equal(images, torch.stack([dataset[pair][0] for pair in take(sampler, 3)]))


def test_a_header_is_read_once(tiny_set, monkeypatch):
    samples = [replace(sample, image_size=None) for sample in datasets.read(tiny_set)[:2]]
    read = []

    def read_size(path):
        read.append(path)
        return datasets.read_size(path)

    monkeypatch.setattr("facefind.learn.loader.read_size", read_size)
    dataset = TrainingSet(samples, AugmentConfig(size=64))
    for index in range(6):
        assert dataset[(index, index % 2)].image.shape == (64, 64, 3)
    assert read == [sample.path for sample in samples]


def test_an_unreadable_image_is_skipped(tiny_set, tmp_path, caplog):
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


@pytest.mark.parametrize("cache", [None, "host", "folder"])
def test_an_image_of_another_size_than_labeled_is_skipped(tiny_set, tmp_path, caplog, cache):
    samples = datasets.read(tiny_set)
    height, width = images.read_size(samples[0].path)
    turned = replace(samples[0], image_size=(width, height))  # as it lies in the file, unturned
    cache = str(tmp_path / "kept") if cache == "folder" else cache
    dataset = TrainingSet([turned, samples[1]], AugmentConfig(size=64), cache=cache)
    assert dataset[(0, 0)].name == samples[1].name
    assert f"{turned.path}: the image is {height} high and {width} wide" in caplog.text


def test_images_are_read_as_the_options_say(tiny_set, tmp_path, caplog):
    sample = datasets.read(tiny_set)[0]
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(sample.path.read_bytes()[:-2])
    samples, config = [replace(sample, name="cut", path=cut), sample], AugmentConfig(size=64)
    assert TrainingSet(samples, config)[(0, 0)].name == sample.name
    assert TrainingSet(samples, config, reading={"truncated": "fill"})[(0, 0)].name == "cut"
    height, width = images.read_size(sample.path)
    with pytest.raises(DataError, match="none of the 1"):
        TrainingSet([sample], config, reading={"max_pixels": height * width - 1})[(0, 0)]
    assert "max_pixels" in caplog.text
    for cache in ("host", str(tmp_path / "kept")):
        reading = {"truncated": "fill"}
        kept = TrainingSet(samples, config, cache=cache, reading=reading)
        assert kept[(0, 0)].name == "cut"


def test_no_images_is_an_error():
    with pytest.raises(DataError, match="--data SET"):
        TrainingSet([], AugmentConfig())


RESIZED = AugmentConfig(
    crop="resized",
    fill=(9, 8, 7),
    resized=ResizedConfig(short_sides=(48, 80), long_side=100, multiple=16),
)


def test_images_of_many_sizes_are_padded_to_a_batch(tiny_set):
    dataset = TrainingSet(datasets.read(tiny_set), RESIZED, seed=5)
    sampler = IndexSampler(Epochs([""] * 12, seed=5))
    for pixels, packed, _ in itertools.islice(loader(dataset, sampler, batch=4), 3):
        sizes = [tuple(map(int, size)) for size in packed.image_sizes]
        assert pixels.dtype == torch.uint8
        assert pixels.shape[1] % 16 == pixels.shape[2] % 16 == 0
        assert len(set(sizes)) > 1
        for number, (image, (height, width)) in enumerate(zip(pixels, sizes, strict=True)):
            below, right = image[height:], image[:, width:]
            for part in (below, right):
                expected = torch.tensor([9, 8, 7], dtype=torch.uint8).expand_as(part)
                assert torch.equal(part, expected)
            boxes = packed.boxes[packed.image == number]
            assert (boxes <= torch.tensor([width, height] * 2)).all()
        assert pixels.shape[1] - max(height for height, _ in sizes) < 16


def test_one_image_alone_is_padded_to_the_multiple(tiny_set):
    dataset = TrainingSet(datasets.read(tiny_set), RESIZED, seed=5)
    sampler = IndexSampler(Epochs([""] * 12, seed=5))
    seen = set()
    for pixels, targets, _ in itertools.islice(loader(dataset, sampler, batch=1), 12):
        height, width = map(int, targets.image_sizes[0])
        assert tuple(pixels.shape[1:3]) == (-(-height // 16) * 16, -(-width // 16) * 16)
        assert width <= 100
        seen.add((height, width))
    assert len(seen) > 4


@pytest.mark.parametrize("wrong", [{"short_sides": ()}, {"min_crop": 0.0}, {"multiple": 0}])
def test_scales_that_make_no_sense_are_refused(tiny_set, wrong):
    config = AugmentConfig(crop="resized", resized=ResizedConfig(**wrong))
    with pytest.raises(DataError, match=r"--augment\.resized"):
        TrainingSet(datasets.read(tiny_set), config)


def test_a_third_number_is_the_side_of_the_crop(tiny_set):
    dataset = TrainingSet(datasets.read(tiny_set), AugmentConfig(size=64, flip=0, color=False))
    (large, far, _), (small, near, _), (same, _, _) = (
        dataset[item] for item in ((7, 2), (7, 2, 32), (7, 2, 64))
    )
    assert large.shape == (64, 64, 3)
    assert small.shape == (32, 32, 3)
    assert torch.equal(large, same)
    assert not torch.equal(far.boxes, near.boxes)


def test_squares_fill_the_input(tiny_set):
    dataset = TrainingSet(datasets.read(tiny_set), AugmentConfig(size=72), seed=5)
    sampler = IndexSampler(Epochs([""] * 12, seed=5))
    images, targets, _ = next(iter(loader(dataset, sampler, batch=4)))
    assert images.shape == (4, 72, 72, 3)
    assert targets.image_sizes.tolist() == [[72, 72]] * 4


def test_targets_are_packed_in_the_order_of_the_images(tiny_set):
    dataset = TrainingSet(datasets.read(tiny_set), AugmentConfig(size=64), seed=5)
    pairs = take(IndexSampler(Epochs([""] * 12, seed=5)), 4)
    items = [dataset[pair] for pair in pairs]
    images, targets, names = next(iter(loader(dataset, pairs, batch=4)))
    assert names == [item.name for item in items]
    assert len({len(item.target.boxes) for item in items}) > 1
    for number, item in enumerate(items):
        assert torch.equal(images[number], item.image)
        assert torch.equal(targets.boxes[targets.image == number], item.target.boxes)


def spotted(tmp_path, size, center):
    """A dark JPEG with a smooth bright spot whose middle is labeled, as a sample."""
    height, width = size
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    spot = np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * 40.0**2))
    path = tmp_path / "spot.jpg"
    PIL.Image.fromarray(np.repeat((spot * 220).astype(np.uint8)[..., None], 3, 2)).save(
        path, quality=98
    )
    box = np.array([[*np.subtract(center, 60), *np.add(center, 60)]], np.float32)
    return datasets.Sample(name="spot", path=path, boxes=box, image_size=size)


@pytest.mark.parametrize("size", [(683, 1024), (1365, 2047), (1000, 1501)])
@pytest.mark.parametrize("crop", ["square", "resized"])
def test_labels_lie_where_the_pixels_do_in_images_decoded_smaller(tmp_path, size, crop):
    """A reduced JPEG has its sides rounded up: the scale is its factor, not the sizes' ratio."""
    sample = spotted(tmp_path, size, (0.61 * size[1], 0.57 * size[0]))
    config = AugmentConfig(
        crop=crop, size=64, crop_sides=(2.0,), color=False, fill=(0, 0, 0),
        resized=ResizedConfig(short_sides=(100, 131), crop_prob=0.5),
    )  # fmt: skip
    dataset, errors = TrainingSet([sample], config, seed=2), []
    for index in range(16):
        image, target, _ = dataset[(index, 0)]
        light = image[..., 0].double()
        if len(target.boxes) == 0 or torch.cat([light[0], light[-1], light[:, 0]]).max() > 2:
            continue  # the spot is cut
        if light[:, -1].max() > 2:
            continue
        total = light.sum()
        x = ((torch.arange(light.shape[1]) + 0.5) * light.sum(0)).sum() / total
        y = ((torch.arange(light.shape[0]) + 0.5) * light.sum(1)).sum() / total
        x1, y1, x2, y2 = target.boxes[0].double()
        errors.append([float(x - (x1 + x2) / 2), float(y - (y1 + y2) / 2)])
    assert len(errors) > 5
    assert np.abs(errors).max() < 0.12
    assert np.abs(np.mean(errors, 0)).max() < 0.06


@pytest.mark.parametrize(("cores", "processes", "expected"), [(3, 1, 3), (64, 1, 8), (2, 4, 1)])
def test_loading_processes_follow_the_machine(monkeypatch, cores, processes, expected):
    monkeypatch.setattr(cpu, "usable_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert worker_count(DataConfig(workers=None)) == expected
    assert worker_count(DataConfig(workers=5)) == 5


def test_what_waits_is_bounded_by_bytes(monkeypatch, tiny_set):
    monkeypatch.setattr("facefind.learn.loader.AHEAD", 1000)
    assert [ahead(size, 2, 4) for size in (1, 125, 126, 250, 251, 10**9)] == [4, 4, 3, 2, 1, 1]
    assert ahead(10**9, 0, 4) is None
    config = AugmentConfig(size=64, phases=(Phase(until=0.5, size=96),))
    for augment, side in ((config, 96), (RESIZED, 100)):
        monkeypatch.setattr("facefind.learn.loader.AHEAD", 2 * 3 * 3 * side**2 * 4)
        dataset = TrainingSet(datasets.read(tiny_set), augment)
        pairs = IndexSampler(Epochs([""] * 12, seed=5))
        given = [loader(dataset, pairs, batch=n, workers=2, prefetch=9) for n in (4, 5, 99)]
        assert [batches.prefetch_factor for batches in given] == [3, 2, 1]


def test_one_large_image_at_a_time_is_decoded(monkeypatch, tiny_set):
    """Whoever decodes one holds the lock that all loading processes share."""
    samples, free, read = datasets.read(tiny_set), [], images.read_reduced

    def watched(path, *args, **options):
        free.append(dataset._large.acquire(block=False))
        if free[-1]:
            dataset._large.release()
        return read(path, *args, **options)

    monkeypatch.setattr(images, "read_reduced", watched)
    dataset = TrainingSet(samples, AugmentConfig(size=64))
    height, width = images.read_size(samples[0].path)
    for large in (height * width, height * width - 1):
        monkeypatch.setattr("facefind.learn.loader.LARGE", large)
        dataset[(0, 0)]
    assert free == [True, False]
    assert dataset._large.acquire(block=False)
