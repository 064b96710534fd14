"""`facefind mining`: the passes of runs as a table, as JSON and as a picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facefind.cli import main


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    records = [
        {"step": 1, "mining_pass": 0, "mining_skipped": 0.0, "mining_easy": 0.0},
        {"step": 40, "mining_pass": 1, "mining_skipped": 0.35, "mining_easy": 0.5},
    ]
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n")
    return folder


def test_the_passes_are_shown(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, out = run.parent / "pictures" / "mining.png", run.parent / "mining.json"
    assert main(["mining", str(run), "--plot", str(picture), "--out", str(out)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[-1][-5:] == ["0", "1", "40", "50.0%", "35.0%"]
    assert picture.stat().st_size > 1000
    shown = json.loads(out.read_text())[str(run)]
    assert [(p["step"], p["number"], p["skipped"]) for p in shown] == [(1, 0, 0.0), (40, 1, 0.35)]


def test_a_folder_without_mining_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mining", str(tmp_path)]) == 2
    assert "no run folder" in capsys.readouterr().err
