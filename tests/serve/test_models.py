"""Which models are served, and which of them are in memory."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from facefind import weights
from facefind.detector import FaceDetector
from facefind.errors import DataError, ProtocolError, WeightsError
from facefind.serve.errors import RequestError
from facefind.serve.models import Choice, Models
from facefind.serve.settings import Settings

THREE = ("scrfd-500m-kps", "dsfd-light", "smallhardface-light")


def loaded(models: Models) -> set[str]:
    return {one["name"] for one in models.listed() if one["loaded"]}


def test_all_at_hand_are_served_and_none_is_in_memory_at_first():
    models = Models(Settings())
    assert models.default == weights.default()
    assert {one["name"] for one in models.listed()} == {c.name for c in weights.available()}
    assert loaded(models) == set()


def test_the_model_that_was_used_longest_ago_gives_way():
    models = Models(Settings(models=THREE, loaded=2))
    first, second, third = (models.choose(name) for name in THREE)
    kept = models.detector(first)
    models.detector(second)
    models.detector(first)
    models.detector(third)
    assert loaded(models) == {THREE[0], THREE[2]}
    assert models.detector(first) is kept
    assert models.loads == 3


def test_choices_of_one_model_share_its_weights():
    models = Models(Settings(models=THREE[:1]))
    low, high = models.choose(min_score=0.1), models.choose(protocol="vga", min_score=0.9)
    one, other = models.detector(low), models.detector(high)
    assert one.runtime is other.runtime
    assert (one.min_score, one.protocol.name) == (0.1, "everyday")
    assert (other.min_score, other.protocol.name) == (0.9, "vga")
    assert models.loads == 1


@pytest.mark.parametrize("protocol", [None, "everyday", "vga", "full"])
@pytest.mark.parametrize("min_score", [None, 0.3])
def test_thresholds_are_those_of_the_detector(protocol: str | None, min_score: float | None):
    models = Models(Settings(models=THREE[:1]))
    choice = models.choose(protocol=protocol, min_score=min_score)
    detector = FaceDetector(THREE[0], protocol=protocol, min_score=min_score)
    assert choice.min_score == detector.min_score
    assert choice.protocol == detector.protocol.name


def test_defaults_of_the_service_are_for_requests_that_name_none():
    models = Models(Settings(models=THREE[:1], protocol="1024", min_score=0.7))
    assert models.choose() == Choice(THREE[0], "1024", 0.7)
    assert models.choose(protocol="vga", min_score=0.1) == Choice(THREE[0], "vga", 0.1)
    (listed,) = models.listed()
    assert (listed["protocol"], listed["threshold"]) == ("1024", 0.7)


def test_a_file_is_served_under_its_own_name_and_never_by_path(tmp_path: Path):
    file = tmp_path / "mine.onnx"
    shutil.copy(weights.find("scrfd-500m-kps"), file)
    models = Models(Settings(models=(str(file), "dsfd-light")))
    assert models.default == "mine"
    assert models.detector(models.choose("mine")).card.name == "scrfd-500m-kps"
    for name in (str(file), "scrfd-500m-kps"):
        with pytest.raises(RequestError, match="Here are: mine, dsfd-light"):
            models.choose(name)


def test_what_cannot_be_served(tmp_path: Path):
    for models, error in ((("nothing",), WeightsError), (("dsfd-light",) * 2, DataError)):
        with pytest.raises(error):
            Models(Settings(models=models))
    for more in ({"protocols": ("nothing",)}, {"protocol": "nothing"}):
        with pytest.raises(ProtocolError):
            Models(Settings(**more))


def test_workers_share_threads_and_limits():
    own = Settings(threads=8, max_queue=10, max_pictures=8, max_memory=1000).share(4)
    assert (own.threads, own.max_queue, own.max_pictures, own.max_memory) == (2, 2, 2, 250)
    assert Settings().share(1) == Settings()
