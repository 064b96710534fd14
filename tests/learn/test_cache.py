import itertools

import numpy as np
import pytest
import torch

from facefind import datasets, images
from facefind.errors import DataError
from facefind.learn import cache as caching
from facefind.learn.cache import FolderCache, HostCache, make_cache
from facefind.learn.index_sampler import Epochs, IndexSampler
from facefind.learn.loader import TrainingSet, loader
from facefind.learn.recipe import AugmentConfig


@pytest.mark.parametrize("kind", ["host", "auto", "folder"])
def test_a_cache_gives_the_same_image_and_decodes_it_once(tiny_set, tmp_path, kind, monkeypatch):
    samples = datasets.read(tiny_set)
    cache = make_cache(str(tmp_path / "kept") if kind == "folder" else kind, samples)
    assert isinstance(cache, FolderCache if kind == "folder" else HostCache)
    plain = [images.read(sample.path) for sample in samples]
    decoded = []

    def read(path):
        decoded.append(path)
        return plain[len(decoded) - 1]

    monkeypatch.setattr(caching.images, "read", read)
    for _ in range(2):
        for number, sample in enumerate(samples):
            assert np.array_equal(cache.read(number, sample), plain[number])
    assert decoded == [sample.path for sample in samples]


def test_a_folder_that_is_emptied_fills_again(tiny_set, tmp_path):
    sample = datasets.read(tiny_set)[0]
    cache = FolderCache(tmp_path / "kept")
    before = np.array(cache.read(0, sample))
    for file in (tmp_path / "kept").iterdir():
        file.unlink()
    assert np.array_equal(cache.read(0, sample), before)


def test_loading_processes_share_a_host_cache(tiny_set):
    samples = datasets.read(tiny_set)
    batches = {}
    for name in (None, "host"):
        config = AugmentConfig(size=64, crop_sides=(0.5,))  # nothing is decoded smaller
        dataset = TrainingSet(samples, config, seed=1, cache=name)
        sampler = IndexSampler(Epochs([""] * 12, seed=1))
        supply = iter(loader(dataset, sampler, batch=4, workers=2))
        batches[name] = [batch.images for batch in itertools.islice(supply, 8)]
    assert all(map(torch.equal, batches[None], batches["host"]))
    assert dataset.cache._filled.sum() == 12  # by the processes, seen here


def test_an_image_whose_header_was_wrong_is_not_kept(tiny_set):
    sample = datasets.read(tiny_set)[0]
    cache = HostCache([(5, 5)])
    for _ in range(2):
        assert cache.read(0, sample).shape == (96, 128, 3)


def test_what_does_not_fit_is_not_kept(tiny_set, monkeypatch, caplog):
    samples = datasets.read(tiny_set)
    need = 12 * 96 * 128 * 3
    monkeypatch.setattr(caching, "_free_shared_memory", lambda: 2 * need - 1)
    assert make_cache("auto", samples) is None
    assert "not cached" in caplog.text
    assert make_cache("host", samples) is not None
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # each process keeps its own
    with pytest.raises(DataError, match="--cache host"):
        make_cache("host", samples)
