from __future__ import annotations

import json
import string
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facefind.errors import WeightsError
from facefind.runtimes import METADATA_KEY, Card
from facefind.runtimes.onnx_file import metadata

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "reference"))
import block_model

text = st.text(max_size=20)
plain = st.none() | st.integers(-5, 5) | text | st.lists(text, max_size=3)
facts = st.dictionaries(text, plain, max_size=3)
cards = st.builds(
    Card,
    name=st.text(string.ascii_letters, min_size=1, max_size=9),
    system=st.sampled_from(["scrfd", "dsfd"]),
    strides=st.lists(st.integers(1, 128), max_size=6).map(tuple),
    fixed_size=st.none() | st.tuples(st.integers(1, 999), st.integers(1, 999)),
    landmarks=st.booleans(),
    min_score=st.floats(0, 1),
    parameters=st.none() | st.integers(0),
    training=facts,
    results=st.lists(facts, max_size=2).map(tuple),
    notes=text,
)


@given(cards)
def test_a_card_comes_back_from_its_json_as_it_was(card: Card) -> None:
    assert Card.from_json(card.to_json()) == card


@pytest.mark.parametrize(
    ("given_text", "said"),
    [
        ("{", "no JSON"),
        ("[]", "got list"),
        ('{"name": "a"}', "system"),
        ('{"name": "", "system": "b"}', "name"),
        ('{"name": "a", "system": "b", "min_score": 2}', "0..1"),
        ('{"name": "a", "system": "b", "size_multiple": 0}', "size_multiple"),
        ('{"name": "a", "system": "b", "strides": ["x"]}', "cannot be used"),
    ],
)
def test_what_is_no_card_is_refused_and_named(given_text: str, said: str) -> None:
    with pytest.raises(WeightsError, match=said):
        Card.from_json(given_text)


def test_keys_of_a_later_version_are_passed_over() -> None:
    text = json.dumps({"name": "a", "system": "b", "color_of_the_sea": "green"})
    assert Card.from_json(text) == Card(name="a", system="b")


def test_a_file_gives_the_card_it_was_written_with(tmp_path: Path) -> None:
    card = block_model.card("häuser", notes="naïve – 人", results=({"ap": 0.5},))
    path = block_model.write(tmp_path / "any.onnx", card)
    assert Card.from_file(path) == card


def test_metadata_is_what_the_onnx_library_reads(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(str(block_model.write(tmp_path / "m.onnx")))
    expected = {"a": "b" * 300, "": "empty", METADATA_KEY: "x", "ü": ""}
    onnx.helper.set_model_props(model, expected)
    path = tmp_path / "n.onnx"
    path.write_bytes(model.SerializeToString())
    assert metadata(path) == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "0 bytes"),
        (b"hello, this is a text", "no ONNX model"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"PK\x03\x04rest", "torch checkpoint"),
        (b"\x08\x08", "no ONNX model"),
        (b"\xff" * 40, "no ONNX model"),
    ],
)
def test_a_file_that_is_no_onnx_model_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=said):
        metadata(path)


@given(cut=st.integers(1, 400))
def test_a_file_cut_short_never_passes_for_a_whole_one(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    whole = block_model.write(folder / "whole.onnx").read_bytes()
    path = folder / "cut.onnx"
    path.write_bytes(whole[:-cut])
    try:
        left = metadata(path)
    except WeightsError:
        return
    assert METADATA_KEY not in left  # only where whole fields were cut off


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="nothing\\.onnx"):
        metadata(tmp_path / "nothing.onnx")
