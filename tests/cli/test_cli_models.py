"""`facefind models`: cards of the models at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facefind.cli import main
from facefind.runtimes import Card

CARDS = [
    Card(
        name="small",
        system="scrfd",
        parameters=570_000,
        multiply_adds=508_000_000,
        license="Apache-2.0",
        results=(
            {
                "protocol": "vga",
                "image_set": "WIDER FACE val",
                "ap": {"easy": 0.9057, "medium": 0.8812, "hard": 0.6851},
            },
        ),
    ),
    Card(
        name="tiny",
        system="scrfd",
        landmarks=True,
        results=({"ap": 0.5, "test_protocol": {"name": "640"}},),
    ),
]


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models known by their card files; what a model computes is not checked here."""
    for card in CARDS:
        values = json.loads(card.to_json()) | {"default": card.name == "tiny"}
        (tmp_path / f"{card.name}.json").write_text(json.dumps(values))
        (tmp_path / f"{card.name}.onnx").write_bytes(b"")
    monkeypatch.setenv("FACEFIND_WEIGHTS", str(tmp_path))
    return tmp_path


def test_table_tells_size_accuracy_and_license(
    shelf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["models"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "0.57 M" in rows["small"]
    assert "0.51 G" in rows["small"]
    assert "90.6/88.1/68.5 (vga)" in rows["small"]
    assert rows["small"].endswith("Apache-2.0")
    assert rows["tiny"].split()[:4] == ["tiny", "*", "50.0", "(640)"]


def test_json_marks_the_default(
    shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "models.json"
    assert main(["models", "--json", "--out", str(out)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads(out.read_text())
    marked = {card["name"]: card["default"] for card in said}
    assert marked["tiny"]
    assert not marked["small"]
    assert next(card for card in said if card["name"] == "small")["parameters"] == 570_000


def test_one_model_shows_its_whole_card(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "small"]) == 0
    said = capsys.readouterr().out
    assert "hard            0.6851" in said
    assert main(["models", "default", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "tiny"


@pytest.mark.parametrize("name", ["nonesuch", "./nonesuch.onnx"])
def test_unknown_model_is_one_line(
    name: str, shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", name]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_missing_folder_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FACEFIND_WEIGHTS", str(tmp_path / "gone"))
    assert main(["models"]) == 2
    assert "FACEFIND_WEIGHTS" in capsys.readouterr().err
