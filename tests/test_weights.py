from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from facefind import files, weights
from facefind.errors import WeightsError
from facefind.runtimes import Card, open_model

sys.path.insert(0, str(Path(__file__).resolve().parent / "reference"))
import block_model

SHIPPED = Path(weights.__file__).parent


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two models, named by the environment; nothing else is at hand."""
    monkeypatch.setenv(weights.ENVIRONMENT, str(tmp_path))
    monkeypatch.setattr(weights, "__file__", str(tmp_path / "none" / "__init__.py"))
    for name in ("blocks-a", "blocks-b"):
        block_model.write(tmp_path / f"{name}.onnx")
    weights.describe(tmp_path / "blocks-a.onnx")
    weights.describe(tmp_path / "blocks-b.onnx", default=True)
    return tmp_path


def test_models_are_found_by_name_by_path_and_as_the_default(folder: Path) -> None:
    path = folder / "blocks-a.onnx"
    assert weights.find("blocks-a") == path
    assert weights.find(path) == path
    assert weights.find(str(path)) == path
    assert weights.default() == "blocks-b"
    assert weights.find("default") == folder / "blocks-b.onnx"


def test_the_cards_at_hand_are_those_of_the_files(folder: Path) -> None:
    cards = weights.available()
    assert [card.name for card in cards] == ["blocks-a", "blocks-b"]
    assert cards[0] == Card.from_file(folder / "blocks-a.onnx")


def test_a_file_without_a_card_file_is_listed_by_the_card_inside(folder: Path) -> None:
    (folder / "blocks-a.json").unlink()
    assert [card.name for card in weights.available()] == ["blocks-a", "blocks-b"]
    assert weights.find("blocks-a")


def test_the_named_folder_comes_before_the_package(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path_factory.mktemp("package")
    monkeypatch.setattr(weights, "__file__", str(package / "__init__.py"))
    block_model.write(package / "blocks-a.onnx", block_model.card("blocks-a", notes="package"))
    block_model.write(package / "blocks-c.onnx")
    weights.describe(package / "blocks-c.onnx", default=True)
    assert weights.find("blocks-a").parent == folder
    assert weights.find("blocks-c").parent == package
    assert weights.default() == "blocks-b"
    assert [card.notes for card in weights.available()] == ["", "", ""]
    monkeypatch.delenv(weights.ENVIRONMENT)
    assert weights.default() == "blocks-c"


def test_an_unknown_name_is_answered_with_near_ones_and_the_list(folder: Path) -> None:
    near = r"'block-a', did you mean 'blocks-a' or 'blocks-b'\?.*blocks-b"
    with pytest.raises(WeightsError, match=near):
        weights.find("block-a")
    with pytest.raises(WeightsError, match=r"no model file .*zzz\.onnx"):
        weights.find("zzz.onnx")
    with pytest.raises(WeightsError, match=r"no model file .*nowhere"):
        weights.find(folder / "nowhere")


def test_a_damaged_file_is_told_from_the_one_that_was_shipped(folder: Path) -> None:
    path = folder / "blocks-a.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        weights.find("blocks-a")


def test_a_broken_card_file_is_named(folder: Path) -> None:
    (folder / "blocks-a.json").write_text("{")
    with pytest.raises(WeightsError, match=r"blocks-a\.json"):
        weights.available()


def test_without_a_mark_only_a_single_model_is_the_default(folder: Path) -> None:
    weights.describe(folder / "blocks-b.onnx")
    with pytest.raises(WeightsError, match="name one of blocks-a, blocks-b"):
        weights.default()
    (folder / "blocks-a.onnx").unlink()
    assert weights.default() == "blocks-b"
    (folder / "blocks-b.onnx").unlink()
    with pytest.raises(WeightsError, match="no model is at hand"):
        weights.default()
    with pytest.raises(WeightsError, match="no model is at hand"):
        weights.find("blocks-a")


def test_two_marks_are_an_error(folder: Path) -> None:
    weights.describe(folder / "blocks-a.onnx", default=True)
    with pytest.raises(WeightsError, match="several default models"):
        weights.default()


def test_a_folder_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weights.ENVIRONMENT, "no/such/folder")
    with pytest.raises(WeightsError, match="no/such/folder"):
        weights.available()


def test_only_files_with_a_card_of_their_own_name_are_described(folder: Path) -> None:
    (folder / "blocks-a.onnx").rename(folder / "other.onnx")
    with pytest.raises(WeightsError, match="rename"):
        weights.describe(folder / "other.onnx")


def shipped() -> list[str]:
    return sorted(path.stem for path in SHIPPED.glob("*.onnx"))


def test_models_ship_and_one_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(weights.ENVIRONMENT, raising=False)
    assert shipped()
    assert weights.default() in shipped()
    assert [card.name for card in weights.available()] == shipped()


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_model_is_what_its_card_says(name: str) -> None:
    path = SHIPPED / f"{name}.onnx"
    values = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    card = Card.from_file(path)
    assert card is not None
    assert Card.from_json(json.dumps(values)) == card
    assert card.name == name
    assert card.license
    assert card.training
    assert card.parameters
    assert card.multiply_adds
    assert card.results
    for result in card.results:
        assert {"protocol", "command"} <= result.keys()
    assert values["sha256"] == files.sha256(path)
    assert path.stat().st_size < 5_000_000
    for word in (b"/work", b"/home/", b"/root/", b"/tmp/"):
        assert word not in path.read_bytes()


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_model_runs_alike_in_every_runtime_at_batch_three(name: str) -> None:
    path = SHIPPED / f"{name}.onnx"
    card = Card.from_file(path)
    assert card
    side = card.size_multiple
    shape = (3, 3, 3 * side, 5 * side)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    a, b = (open_model(path, runtime)(images) for runtime in ("onnxruntime", "openvino"))  # type: ignore[arg-type]
    if card.precision == "int8":  # libraries round integers at other places
        assert np.abs(a.scores - b.scores).max() < 0.05
        return
    assert np.abs(a.scores - b.scores).max() < 1e-3
    assert np.abs(a.boxes - b.boxes).max() < 0.1
