"""`facefind search`, by its own `main`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from facefind import recipes
from facefind.cli.search import main
from facefind.errors import DataError, WeightsError
from facefind.search import redistribution
from facefind.search.study import StudyError

TINY = [
    *("scrfd", "--gflops", "0.1", "--block", "depthwise", "--neck", "8", "--head", "16"),
    *("--tolerance", "0.1", "--models", "2", "--epochs", "0.5", "--size", "32", "--batch", "4"),
    *("--evaluate-images", "1", "--hold-out", "0.3", "--threads", "1", "--subset", "height>=16"),
]


def test_a_search_and_the_same_command_again(
    squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, saved = tmp_path / "study", tmp_path / "saved.json"
    args = [*TINY, "--data", str(squares), "--out", str(study)]
    assert main([*args, "--report", str(saved)]) == 0
    text = capsys.readouterr().out
    assert "step1 stem" in text
    assert "step2 head" in text
    assert f"facefind train {study}/found.py:found" in text
    assert recipes.get(f"{study}/found.py:found").name == "scrfd-found-0.1g"
    kept = {p: p.stat().st_mtime_ns for p in (study / "trials").glob("*.json")}
    assert len(kept) == 4
    figures = tmp_path / "figures"
    assert main([*args, "--json", "--plot", str(figures)]) == 0
    assert {p.name for p in figures.iterdir()} == {"step1.png", "step2.png", "shallow_deep.png"}
    assert json.loads(capsys.readouterr().out) == json.loads(saved.read_text())
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    with pytest.raises(StudyError, match="seed"):
        main([*args, "--seed", "1"])


@pytest.mark.parametrize(
    ("scope", "step", "figures"),
    [
        ("backbone", "step1", {"step1.png", "shallow_deep.png"}),
        ("detector", "step2", {"step2.png"}),
    ],
)
def test_one_step_alone(
    squares: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scope: str,
    step: str,
    figures: set[str],
) -> None:
    """The rows CR@backbone and CR@detector of SCRFD's table 3; training is pretended."""
    measured = {"images_measured": 4, "digest_measured": "a" * 64}

    def train(content: dict[str, Any]) -> dict[str, Any]:
        score = content["network"]["neck"] / 1000
        return {"ap": {"height>=16": score}, "seconds": 1.0, **measured}

    monkeypatch.setattr(redistribution, "train_candidate", train)
    saved = tmp_path / "saved.json"
    args = [*TINY, "--data", str(squares), "--out", str(tmp_path), "--scope", scope]
    assert main([*args, "--report", str(saved)]) == 0
    found = json.loads(saved.read_text())
    assert {name for name in found if name.startswith("step")} == {step}
    assert {p.name for p in tmp_path.glob("*.png")} == figures
    network = recipes.get(f"{tmp_path}/found.py:found").network
    assert ((network.neck, network.head) == (8, 16)) == (scope == "backbone")  # type: ignore[attr-defined]


def test_mistakes_are_errors_with_a_word(squares: Path, tmp_path: Path) -> None:
    args = [*TINY, "--out", str(tmp_path)]
    with pytest.raises(DataError, match="no training images"):
        main(args)
    with pytest.raises(DataError, match="no system 'dsfd', did you mean 'asfd'"):
        main(["dsfd"])
    with pytest.raises(DataError, match="residual"):
        main([*args, "--data", str(squares), "--space", "released"])
    with pytest.raises(DataError, match="multiple"):
        main([*args, "--data", str(squares), "--neck", "12"])
    with pytest.raises(DataError, match="needs the space 'paper'"):
        main(["scrfd", "--data", str(squares), "--space", "released", "--scope", "detector"])
    lost = ["--data", str(squares), "--out", str(tmp_path / "lost"), "--init-from", "nothing.pt"]
    with pytest.raises(WeightsError, match=r"got nothing\.pt"):
        main(["asfd", *lost, "--hold-out", "0.3"])


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == main([]) == 0
    assert "usage: facefind search SYSTEM" in capsys.readouterr().out
    for system, option in (("scrfd", "--halving"), ("asfd", "--nodes")):
        with pytest.raises(SystemExit) as stop:
            main([system, "--help"])
        assert stop.value.code == 0
        saved = capsys.readouterr().out
        assert f"usage: facefind search {system}" in saved
        assert option in saved


@pytest.mark.slow
def test_feature_modules_from_command_to_recipe(
    squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "study"
    args = ["asfd", "--data", str(squares), "--out", str(study), "--epochs", "0.4", "--size", "64"]
    args += ["--batch", "2", "--evaluate-images", "1", "--hold-out", "0.3", "--threads", "1"]
    args += ["--nodes", "1", "--begin", "0", "--subset", "height>=16"]
    assert main(args) == 0
    text = capsys.readouterr().out
    assert "pyramid 5" in text
    assert "step2: context searched in" in text
    assert f"facefind train {study}/found.py:found" in text
    network = recipes.get(f"{study}/found.py:found").network
    assert '"kind":"fpn"' in network.pyramid  # type: ignore[attr-defined]
    assert '"kind":"cpm"' in network.context  # type: ignore[attr-defined]
    assert (study / "pyramid_choices.png").exists()
    with pytest.raises(StudyError, match="candidates"):
        main([*args, "--mode", "darts"])
