"""Bad files, kills, full disks and many images; `benchmarks/faults.py` does the same at length."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reference import faults, malformed
from reference.jobs import JOBS, LINES, materials

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="pipes, modes, disks and /proc of Linux"),
]


@pytest.fixture
def face(portrait: np.ndarray) -> Image.Image:
    """The portrait's face, with what is around it."""
    return Image.fromarray(portrait[:260, 90:350])


@pytest.mark.parametrize("command", LINES)
def test_everything_in_a_folder_is_accounted_for_once(
    command: str, face: Image.Image, tmp_path: Path
) -> None:
    found = malformed.album(tmp_path / "images", face, bad=120)
    report = faults.account(command, tmp_path, found, tmp_path / "out")
    assert report.faults == []
    assert report.counts["good"] == 13
    assert report.counts["failed"] > 80


@pytest.mark.parametrize("command", ["detect", "align", "train"])
def test_what_was_killed_and_resumed_is_as_unbroken(
    command: str, face: Image.Image, tmp_path: Path
) -> None:
    """Search, the fourth of them, takes longer: see `tests/search/test_study.py`."""
    materials(tmp_path, face, images=24)
    job = JOBS[command]
    whole = faults.unbroken(job, tmp_path, tmp_path / "whole")
    report = faults.kill(job, tmp_path, whole, tmp_path / "killed", 1)
    assert report.faults == []
    assert report.counts["kills"] == 1
    assert report.counts["resumed"]  # runs that ended before they were to be killed count, too


@pytest.mark.parametrize("command", LINES)
def test_what_filled_a_disk_and_was_resumed_is_as_unbroken(
    command: str, face: Image.Image, tmp_path: Path
) -> None:
    if not faults.can_mount():
        pytest.skip("no small disk can be mounted here")
    materials(tmp_path, face, images=24)
    job = JOBS[command]
    whole = faults.unbroken(job, tmp_path, tmp_path / "whole")
    report = faults.fill(job, tmp_path, whole, tmp_path / "disks", 1)
    assert report.faults == []
    assert report.counts["exit code 2"] == 1


def test_memory_does_not_grow_with_the_number_of_images(face: Image.Image, tmp_path: Path) -> None:
    report = faults.memory(tmp_path, face, 400, longest=400, most=10)
    assert report.faults == []


def test_a_device_without_room_is_an_error_of_one_line(face: Image.Image, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    face.save(good)
    bad.write_bytes(b"no image")
    for path, option in ((good, "--out"), (bad, "--failures")):
        ended = faults.run(["detect", str(path), "--runtime", "onnxruntime", option, "/dev/full"])
        assert ended.code == 2
        assert ended.stderr.count("\n") == 1
        assert "No space left on device" in ended.stderr
