"""Checkpoints are whole or not there."""

import contextlib
from pathlib import Path

import pytest
import torch

from facefind.errors import WeightsError
from facefind.learn import checkpoints


def test_a_disk_that_is_full_is_told_as_such(monkeypatch, tmp_path):
    """As open files say it, not as torch does."""
    if not Path("/dev/full").exists():
        pytest.skip("no device without room")

    @contextlib.contextmanager
    def full(path):
        yield Path("/dev/full")

    monkeypatch.setattr(checkpoints, "atomic", full)
    for size in (1, 100_000):
        with pytest.raises(OSError, match="No space left"):
            checkpoints.save(tmp_path / "a.pt", {"network": {"w": torch.ones(size)}})


def test_checkpoints_are_whole_or_absent(tmp_path):
    path = tmp_path / "a.pt"
    checkpoints.save(path, {"network": {"w": torch.ones(2)}})
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(WeightsError, match=r"a\.pt"):
        checkpoints.load(path)
    with pytest.raises(WeightsError, match="no checkpoint"):
        checkpoints.load(tmp_path / "b.pt")
