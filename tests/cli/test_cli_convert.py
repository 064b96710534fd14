"""`facefind convert`: from a published file to a model that detects, its license kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from facefind import interop
from facefind.cli import main
from facefind.recipes import load_network
from facefind.runtimes import Card
from facefind.systems.scrfd import ROWS


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A small network's random weights as the authors' file has them."""
    torch.manual_seed(1)
    state = interop.to_mmdet(ROWS["scrfd-500m-kps"].build().state_dict())
    torch.save({"meta": {"epoch": 640}, "state_dict": state}, tmp_path / "official.pth")
    return tmp_path / "official.pth"


def test_a_published_file_becomes_a_model(
    official: Path,
    tmp_path: Path,
    stub_export: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ours, model = tmp_path / "made" / "ours.pt", tmp_path / "ours.onnx"
    assert main(["convert", str(official), "--out", str(ours)]) == 0
    said = capsys.readouterr().out
    assert "scrfd-500m-kps-released" in said
    assert "license of the weights: non-commercial" in said
    theirs = interop.load_mmdet(official)[1].state_dict()
    for name, value in load_network(ours)[1].state_dict().items():
        assert torch.equal(value, theirs[name]), name
    assert f"facefind export {ours} --out" in said

    assert main(["export", str(ours), "--out", str(model)]) == 0
    card = Card.from_file(model)
    assert card is not None
    assert "non-commercial" in card.license
    assert set(card.training) == {"published"}  # nothing is claimed of a training not seen
    assert card.training["published"]["format"] == "scrfd-mmdet"
    assert len(card.training["published"]["source_sha256"]) == 64


def test_json_tells_the_same(
    official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = str(tmp_path / "ours.pt")
    args = ["convert", str(official), "--out", ours, "--row", "scrfd-500m-kps", "--json"]
    assert main([*args, "--format", "scrfd-mmdet"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said.pop("checkpoint") == ours
    assert said == torch.load(ours, weights_only=True)["published"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["gone.pth", "--out", "x.pt"], "no file gone.pth"),
        (["{file}", "--out", "x.onnx"], "facefind export makes it .onnx"),
        (["{file}", "--out", "{file}"], "name another file to write"),
        (["{file}", "--out", "x.pt", "--row", "scrfd-10g"], "is no scrfd-10g"),
        (["{file}", "--out", "x.pt", "--format", "keras"], "scrfd-mmdet, scrfd-onnx"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    args: list[str],
    message: str,
    official: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    before = official.read_bytes()
    assert main(["convert", *(arg.format(file=official) for arg in args)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("facefind convert: ")
    assert message in said
    assert said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["official.pth"]
    assert official.read_bytes() == before
