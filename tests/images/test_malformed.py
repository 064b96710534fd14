"""Damaged files give a picture or an ImageError: no other error, no warning, no gray halves."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from reference import malformed

from facefind import images
from facefind.errors import ImageError


def read_or_error(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return images.read(data)
        except ImageError as error:
            result = error
    assert str(result)
    assert not isinstance(result.__cause__, Warning)
    return result


def test_every_malformed_file_gives_a_picture_or_an_image_error(tmp_path):
    pictures = errors = 0
    for i, (name, data) in enumerate(malformed.every()):
        result = read_or_error(data)
        if isinstance(result, ImageError):
            errors += 1
        else:
            pictures += 1
            assert result.dtype == np.uint8
            assert result.ndim == 3
            assert result.shape[2] == 3
            assert result.size
        if i % 10 == 0:  # from disk, under its lying name, the outcome is the same
            path = tmp_path / name
            path.write_bytes(data)
            again = read_or_error(path)
            assert isinstance(again, ImageError) == isinstance(result, ImageError)
            if isinstance(again, ImageError):
                assert name in str(again)
    assert pictures >= 60
    assert errors >= 200


@pytest.mark.parametrize("seed", range(4))
def test_truncated_files_never_give_a_wrong_picture(seed):
    errors = 0
    for name, data, good in malformed.truncated(seed):
        result = read_or_error(data)
        if isinstance(result, ImageError):
            errors += 1
        else:  # all that is missing holds no pixels
            np.testing.assert_array_equal(result, images.read(good), err_msg=name)
    assert errors >= 80


def test_odd_but_good_files_are_read():
    refused = [n for n, data in malformed.odd() if isinstance(read_or_error(data), ImageError)]
    assert sorted(refused) == ["odd-float-far.tif", "odd-float-nan.tif", "odd-whole-far.tif"]


def test_the_same_seed_makes_the_same_files():
    first, second = (list(malformed.every(seed=7)) for _ in range(2))
    assert first == second
    assert len({name for name, _ in first}) == len(first) >= 300
